import asyncio
import logging
from collections.abc import Callable
from typing import Any

from src.storage.supabase_client import SupabaseStorageManager

logger = logging.getLogger(__name__)


class RecoveryManager:
    def __init__(self):
        self.supabase = SupabaseStorageManager()
        self.max_attempts = 5
        self.base_delay_ms = 1000

    async def execute_with_retry(
        self, operation: Callable, file_id: str, operation_name: str, platform: str | None = None
    ) -> Any:
        row = {"file_id": file_id, "operation": operation_name, "platform": platform}
        for attempt in range(1, self.max_attempts + 1):
            try:
                result = await operation()
                # A fault: when the row is refused, what succeeded is done again.
                self._record({**row, "attempt_number": attempt, "status": "success"})
                return result
            except Exception as error:
                if attempt == self.max_attempts:
                    self._record({**row, "attempt_number": attempt, "status": "failed", "error_message": str(error)})
                    raise
                await asyncio.sleep(self.base_delay_ms * 2 ** (attempt - 1) / 1000)

    def _record(self, row):
        self.supabase.client.table("file_recovery_attempts").insert(row).execute()
