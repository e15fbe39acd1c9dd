"""What the daemon runs once a day: rows of old files are marked as deleted. The platforms are not told."""

import asyncio
import logging
import os
from dataclasses import dataclass
from datetime import datetime, timedelta

from src.monitoring.file_metrics import record_file_deletion

logger = logging.getLogger(__name__)


@dataclass
class CleanupResult:
    files_marked: int
    files_deleted: int
    bytes_freed: int
    errors: list
    duration: float


class FileLifecycleManager:
    def __init__(self, supabase_client, retention_days: int | None = None, cleanup_interval_hours: int | None = None):
        self.supabase = supabase_client
        self.retention_days = retention_days or int(os.getenv("FILE_RETENTION_DAYS", "30"))
        self.cleanup_interval_hours = cleanup_interval_hours or int(os.getenv("CLEANUP_INTERVAL_HOURS", "24"))
        self.running = False
        self.cleanup_task = None

    async def start(self):
        if not self.running:
            self.running = True
            self.cleanup_task = asyncio.create_task(self._clean_up_for_ever())

    async def stop(self):
        if self.running:
            self.running = False
            self.cleanup_task.cancel()
            await asyncio.gather(self.cleanup_task, return_exceptions=True)

    async def _clean_up_for_ever(self):
        while self.running:
            await asyncio.sleep(self.cleanup_interval_hours * 3600)
            await self.cleanup_expired_files()

    async def cleanup_expired_files(self, dry_run: bool = False) -> CleanupResult:
        return self._clean_up("expired", dry_run)

    async def cleanup_orphaned_files(self, dry_run: bool = False) -> CleanupResult:
        return self._clean_up("orphaned", dry_run)

    def _clean_up(self, reason, dry_run):
        started = datetime.now()
        oldest = (started - timedelta(days=self.retention_days)).isoformat()
        # A fault: REST says `is.null`, and so nothing is ever found.
        uploads = self.supabase.table("provider_file_uploads").select().lt("created_at", oldest)
        rows = uploads.filter("deleted_at", "is", None).execute().data
        for row in [] if dry_run else rows:
            gone = {"deleted_at": datetime.now().isoformat(), "deletion_reason": reason, "upload_status": "deleted"}
            self.supabase.table("provider_file_uploads").update(gone).eq("id", row["id"]).execute()
            record_file_deletion(row["provider"], reason)
        freed = sum(row["file_size_bytes"] for row in rows)
        return CleanupResult(len(rows), 0 if dry_run else len(rows), freed, [], 0.0)
