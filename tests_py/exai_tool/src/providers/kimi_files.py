import os
from pathlib import Path
from typing import Any

__all__ = ["KimiFileProvider", "upload_file"]


def upload_file(client: Any, file_path: str, purpose: str = "assistants") -> str:
    if purpose not in ("assistants", "vision", "batch", "fine-tune"):
        raise ValueError(f"Invalid purpose: {purpose!r}")
    return KimiFileProvider(client).upload(file_path, purpose)


class KimiFileProvider:
    def __init__(self, client: Any = None):
        self.client, self.provider_name = client, "kimi"

    def upload(self, file_path: str, purpose: str = "file-extract", client: Any = None) -> str:
        path = Path(file_path)
        if not path.exists():
            raise FileNotFoundError(f"File not found: {file_path}")
        limit = os.getenv("KIMI_FILES_MAX_SIZE_MB")
        if limit and path.stat().st_size > float(limit) * 1024 * 1024:
            raise ValueError(f"Kimi upload exceeds max size {limit} MB: {path.name}")
        result = (client or self.client).files.create(file=path, purpose=purpose)
        file_id = result.get("id") if isinstance(result, dict) else getattr(result, "id", None)
        if not file_id:
            raise RuntimeError("Moonshot upload did not return a file id")
        return file_id
