"""`src.file_management.lifecycle_manager`: what the daemon runs so that old files go.

Rows of `provider_file_uploads` whose file is older than the retention, and was not used since, are marked as deleted once
the provider has deleted the file. The tool never deleted anything (its query found nothing), so that files of years may
be waiting: unless FILE_RETENTION_DAYS or the caller says how long files stay, the daemon only says what would go. What
`exai_files.Client` has put somewhere goes by its own rules (`lifecycle` in its configuration), which are applied then, too.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from time import monotonic
from typing import TYPE_CHECKING, Any

from exai_files.dropin.connection import connected
from exai_files.dropin.environment import whole_number
from exai_files.dropin.file_metrics import record_file_deletion
from exai_files.dropin.threads import in_thread
from exai_files.errors import NotFoundError

if TYPE_CHECKING:
    import asyncio

__all__ = ["CleanupResult", "FileLifecycleManager"]

log = logging.getLogger("exai_files.dropin")

TABLE = "provider_file_uploads"

PAGE = 500
"""Rows asked for at a time: PostgREST gives no more than its limit, usually 1,000."""


@dataclass
class CleanupResult:
    """What one pass has done.

    Attributes:
        files_marked: Rows that say so now, or would.
        files_deleted: Of these, files that their provider has deleted.
        bytes_freed: Their size.
        errors: What went wrong, one line each; such rows are tried again at the next pass.
        duration: Seconds.
    """

    files_marked: int = 0
    files_deleted: int = 0
    bytes_freed: int = 0
    errors: list[str] = field(default_factory=list)
    duration: float = 0.0


class FileLifecycleManager:
    """Cleans up at once, and then every so often.

    Args:
        supabase_client: The tool's raw client, for the table. With None only our own rules are applied.
        retention_days: Default: FILE_RETENTION_DAYS, or 30. 0 or less: for ever.
        cleanup_interval_hours: Default: CLEANUP_INTERVAL_HOURS, or 24; at least 1.

    Attributes:
        now: What tells the time.
    """

    def __init__(
        self, supabase_client: Any, retention_days: int | None = None, cleanup_interval_hours: int | None = None
    ) -> None:
        self.supabase = supabase_client
        days = whole_number("FILE_RETENTION_DAYS", 30) if retention_days is None else retention_days
        hours = whole_number("CLEANUP_INTERVAL_HOURS", 24) if cleanup_interval_hours is None else cleanup_interval_hours
        self.retention_days, self.cleanup_interval_hours = days, max(1, hours)
        self._only_says = retention_days is None and not os.environ.get("FILE_RETENTION_DAYS", "").strip()
        self.running = False
        self.cleanup_task: asyncio.Task[None] | None = None
        self.now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)

    async def start(self) -> None:
        """Begins, in a task of its own."""
        import asyncio

        if not self.running:
            self.running = True
            self.cleanup_task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends it, and waits for that."""
        import asyncio

        self.running = False
        if self.cleanup_task is not None:
            self.cleanup_task.cancel()
            await asyncio.gather(self.cleanup_task, return_exceptions=True)
            self.cleanup_task = None

    async def cleanup_expired_files(self, dry_run: bool = False) -> CleanupResult:
        """Deletes files that are older than the retention, and were not used since."""
        return await self._clean_up("expired", lambda rows: rows, dry_run)

    async def cleanup_orphaned_files(self, dry_run: bool = False) -> CleanupResult:
        """Deletes those of them that no file of the tool's has. Files that never had one are such, too: only on demand."""
        return await self._clean_up("orphaned", lambda rows: rows.is_("supabase_file_id", "null"), dry_run)

    async def _run(self) -> None:
        import asyncio

        while self.running:
            for work in (self._expire, self._apply_rules):
                try:
                    await work()
                except Exception as error:
                    log.error("FileLifecycleManager: a pass failed, and comes again later: %s", error)
            await asyncio.sleep(self.cleanup_interval_hours * 3600)

    async def _expire(self) -> None:
        result = await self.cleanup_expired_files(dry_run=self._only_says)
        if self._only_says and result.files_marked:
            said = "%d files are older than %d days; set FILE_RETENTION_DAYS for them to be deleted at their providers"
            log.warning(said, result.files_marked, self.retention_days)
        else:
            log.info("FileLifecycleManager: %s", result)

    async def _apply_rules(self) -> None:
        steps = await (await connected()).client.lifecycle.apply()
        log.info("FileLifecycleManager: the configuration's rules were applied to %d files", len(steps))

    async def _clean_up(self, reason: str, wanted: Callable[[Any], Any], dry_run: bool) -> CleanupResult:
        begun, result = monotonic(), CleanupResult()
        if self.supabase is not None and self.retention_days > 0:
            oldest = (self.now() - timedelta(days=self.retention_days)).isoformat()
            for row in await self._rows(lambda rows: wanted(rows).lt("created_at", oldest)):
                if not _is_later(row.get("last_used"), oldest):
                    await self._remove(row, reason, result, dry_run)
        result.duration = monotonic() - begun
        return result

    async def _rows(self, wanted: Callable[[Any], Any]) -> list[dict[str, Any]]:
        """All of them, before the first is marked: marked ones leave the pages."""
        found: list[dict[str, Any]] = []
        while True:
            first = len(found)
            query = self.supabase.table(TABLE).select("id,provider,provider_file_id,file_size_bytes,last_used")
            query = wanted(query.is_("deleted_at", "null")).order("id").range(first, first + PAGE - 1)
            page = (await in_thread(query.execute)).data
            found += page
            if not page:
                return found

    async def _remove(self, row: dict[str, Any], reason: str, result: CleanupResult, dry_run: bool) -> None:
        size = row.get("file_size_bytes") or 0
        if dry_run:
            result.files_marked += 1
            result.bytes_freed += size
            return
        try:
            is_deleted = await self._delete_there(row)
            await in_thread(self._mark(row, reason).execute)
        except Exception as error:
            result.errors.append(f"{row['provider']} {row['provider_file_id']}: {error}")
            log.warning("%s %s was not cleaned up: %s", row["provider"], row["provider_file_id"], error)
            return
        result.files_marked += 1
        result.files_deleted += is_deleted
        result.bytes_freed += size if is_deleted else 0
        record_file_deletion(row["provider"], reason)

    async def _delete_there(self, row: dict[str, Any]) -> bool:
        """Whether its provider had it still."""
        client = (await connected()).client
        try:
            await client.delete_remote(row["provider"], row["provider_file_id"])
        except NotFoundError:
            return False
        return True

    def _mark(self, row: dict[str, Any], reason: str) -> Any:
        now = self.now().isoformat()
        marks = {"deleted_at": now, "deletion_reason": reason, "upload_status": "deleted", "updated_at": now}
        return self.supabase.table(TABLE).update(marks).eq("id", row["id"])


def _is_later(moment: str | None, than: str) -> bool:
    if not moment:
        return False
    first, second = (datetime.fromisoformat(each.replace("Z", "+00:00")) for each in (moment, than))
    return (first if first.tzinfo else first.replace(tzinfo=timezone.utc)) >= second
