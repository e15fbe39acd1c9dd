"""The hub that all uploads pass through: Supabase's storage first, then the platform."""

import logging
import os
from datetime import datetime
from pathlib import Path

logger = logging.getLogger(__name__)

MODELS = {"kimi": ("KIMI_DEFAULT_MODEL", "kimi-k2", "file-extract"), "glm": ("GLM_DEFAULT_MODEL", "glm-4.6", "agent")}


def upload_file_with_provider(
    supabase_client, file_path, provider="auto", user_id=None, filename=None, bucket="user-files", tags=None
):
    if not user_id:
        raise ValueError("user_id is required")
    path = Path(file_path)
    if not path.exists():
        raise FileNotFoundError(f"File not found: {file_path}")
    filename, size = filename or path.name, path.stat().st_size
    if provider == "auto":
        provider = "glm" if size < 20 * 1024 * 1024 else "kimi"
    stored = supabase_client.table("file_metadata").insert({"filename": filename, "size": size}).execute().data[0]
    result = {"success": True, "supabase_file_id": stored["id"], "provider": provider, "file_size": size}
    result |= {"filename": filename, "upload_time": datetime.now().isoformat(), "deduplicated": False}
    result |= {"metadata_id": stored["id"], "provider_file_id": None}
    try:
        file_id = _to_platform(provider, file_path)
    except Exception as error:
        logger.warning("in Supabase, but not on %s: %s", provider, error)
        return {**result, "provider_upload_failed": True, "error": str(error)}
    row = {"supabase_file_id": stored["id"], "provider_file_id": file_id, "provider": provider, "status": "completed"}
    supabase_client.table("file_id_mappings").insert(row).execute()
    return {**result, "provider_file_id": file_id}


def _to_platform(provider, file_path):
    from src.providers.registry import ModelProviderRegistry

    variable, model, purpose = MODELS[provider]
    platform = ModelProviderRegistry.get_provider_for_model(os.getenv(variable, model))
    return platform.upload_file(file_path, purpose=purpose)
