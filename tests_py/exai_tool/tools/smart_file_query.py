"""The tool that users ask: a question about a file, uploaded only when it has not been."""

import asyncio
from pathlib import Path

from src.storage.supabase_client import get_storage_manager
from utils.file.deduplication import FileDeduplicationManager

from tools.supabase_upload import upload_file_with_provider


class SmartFileQueryTool:
    def __init__(self, storage=None):
        self.storage = storage or get_storage_manager()
        self.dedup_manager = FileDeduplicationManager(self.storage)

    async def file_id_of(self, file_path):
        provider = self._select_provider(Path(file_path).stat().st_size / 1024 / 1024)
        known = await asyncio.to_thread(self.dedup_manager.check_duplicate, file_path, provider)
        if known:
            await asyncio.to_thread(self.dedup_manager.increment_reference, known["provider_file_id"], provider)
            return known["provider_file_id"]
        client = self.storage.get_client()
        result = await asyncio.to_thread(upload_file_with_provider, client, file_path, provider, user_id="system")
        file_id = result.get("provider_file_id")
        if not file_id:
            raise ValueError(f"{provider} upload returned no file ID")
        await asyncio.to_thread(self.dedup_manager.register_new_file, file_id, None, file_path, provider)
        return file_id

    def _select_provider(self, file_size_mb):
        if file_size_mb > 100:
            raise ValueError(f"File size {file_size_mb:.2f}MB exceeds maximum limit of 100MB")
        return "kimi"
