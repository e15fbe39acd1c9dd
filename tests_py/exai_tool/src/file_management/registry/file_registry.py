"""A stub: the storage manager has no `client`, so nothing it writes arrives."""

import logging

from src.storage.supabase_client import SupabaseStorageManager

logger = logging.getLogger(__name__)


class FileRegistry:
    def __init__(self):
        self.supabase = SupabaseStorageManager()

    async def register_file(
        self,
        file_id: str,
        platform: str,
        platform_file_id: str,
        platform_url: str | None = None,
        metadata: dict | None = None,
    ):
        row = {"file_id": file_id, "platform": platform, "platform_file_id": platform_file_id}
        row |= {"platform_url": platform_url, "platform_metadata": metadata or {}, "status": "active"}
        try:
            self.supabase.client.table("platform_file_registry").insert(row).execute()
        except Exception as error:
            logger.error("not registered: %s", error)

    async def get_file_platforms(self, file_id: str) -> list[dict]:
        try:
            return self.supabase.client.table("platform_file_registry").select().eq("file_id", file_id).execute().data
        except Exception as error:
            logger.error("no platforms: %s", error)
            return []
