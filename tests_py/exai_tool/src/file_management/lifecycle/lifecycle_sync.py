import logging

from src.storage.supabase_client import SupabaseStorageManager

logger = logging.getLogger(__name__)


class LifecycleSync:
    def __init__(self):
        self.supabase = SupabaseStorageManager()

    async def sync_lifecycle(self, file_id: str, platform: str, local_status: str):
        row = {"file_id": file_id, "platform": platform, "local_status": local_status, "sync_status": "synced"}
        try:
            self.supabase.client.table("file_lifecycle_sync").insert(row).execute()
        except Exception as error:
            logger.error("not synchronised: %s", error)
