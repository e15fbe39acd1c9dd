"""The deduplication that is really used: rows of provider_file_uploads by SHA-256, and how often each is wanted."""

import asyncio
import hashlib
import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

TABLE = "provider_file_uploads"
_dedup_metrics: dict[str, int] = {}


def reset_dedup_metrics():
    names = ("cache_hits", "cache_misses", "db_hits", "db_misses", "total_checks", "storage_saved_bytes")
    _dedup_metrics.update(dict.fromkeys(names, 0))


def get_dedup_metrics() -> dict[str, Any]:
    total = _dedup_metrics["total_checks"]
    return {**_dedup_metrics, "cache_hit_rate": round(_dedup_metrics["cache_hits"] / total * 100, 2) if total else 0.0}


async def sha256_file_async(file_path: Path, chunk_size: int = 8192) -> str:
    return await asyncio.to_thread(lambda: hashlib.sha256(Path(file_path).read_bytes()).hexdigest())


class FileDeduplicationManager:
    def __init__(self, storage_manager=None):
        self.storage = storage_manager
        self.file_cache: dict[tuple[str, str], str] = {}
        self.large_file_threshold = 100 * 1024 * 1024

    def calculate_sha256(self, file_path: str | Path) -> str:
        return hashlib.sha256(Path(file_path).read_bytes()).hexdigest()

    def check_duplicate(self, file_path: str | Path, provider: str) -> dict[str, Any] | None:
        if not Path(file_path).is_file():
            raise ValueError(f"File not found: {file_path}")
        if provider not in ("kimi", "glm"):
            raise ValueError(f"Invalid provider: {provider}. Must be 'kimi' or 'glm'")
        _dedup_metrics["total_checks"] += 1
        rows = self._rows("sha256", self.calculate_sha256(file_path), provider)
        _dedup_metrics["db_hits" if rows else "db_misses"] += 1
        return rows[0] if rows else None

    async def check_duplicate_async(self, file_path: str | Path, provider: str) -> dict[str, Any] | None:
        return await asyncio.to_thread(self.check_duplicate, file_path, provider)

    def increment_reference(self, provider_file_id: str, provider: str) -> bool:
        # A fault: SQL made of strings, for a function and a column that no migration makes.
        where = f"provider_file_id = '{provider_file_id}' AND provider = '{provider}'"
        return self._done("exec_sql", f"UPDATE {TABLE} SET reference_count = reference_count + 1 WHERE {where}")

    def register_new_file(
        self,
        provider_file_id: str,
        supabase_file_id: str | None,
        file_path: str | Path,
        provider: str,
        upload_method: str = "direct",
    ) -> bool:
        row = {"provider": provider, "provider_file_id": provider_file_id, "supabase_file_id": supabase_file_id}
        row |= {"sha256": self.calculate_sha256(file_path), "filename": Path(file_path).name, "reference_count": 1}
        row |= {"file_size_bytes": Path(file_path).stat().st_size, "upload_status": "completed"}
        return self._done(None, {**row, "upload_method": upload_method})

    def get_deduplication_stats(self, provider: str | None = None) -> dict[str, Any]:
        rows = self._rows("upload_status", "completed", provider)
        counts = [row["reference_count"] for row in rows]
        saved = sum((row["reference_count"] - 1) * row["file_size_bytes"] for row in rows)
        stats = {"total_files": len(rows), "total_references": sum(counts), "storage_saved_bytes": saved}
        return {**stats, "deduplicated_files": sum(count > 1 for count in counts)}

    def cleanup_unreferenced_files(
        self, provider: str | None = None, grace_period_hours: int = 24, dry_run: bool = True
    ) -> dict[str, Any]:
        before = (datetime.now() - timedelta(hours=grace_period_hours)).isoformat()
        rows = [row for row in self._rows("reference_count", 0, provider) if row["last_used"] < before]
        freed = sum(row["file_size_bytes"] for row in rows)
        found = {"files_found": len(rows), "files_deleted": 0, "storage_freed_bytes": freed, "errors": []}
        return {**found, "dry_run": True} if dry_run else found

    def _rows(self, column, value, provider):
        if not self.storage or not self.storage.enabled:
            return []
        query = self.storage.get_client().table(TABLE).select().eq(column, value)
        return (query.eq("provider", provider) if provider else query).execute().data

    def _done(self, function, what):
        if not self.storage or not self.storage.enabled:
            return False
        client = self.storage.get_client()
        try:
            (client.rpc(function, {"query": what}) if function else client.table(TABLE).insert(what)).execute()
        except Exception as error:
            logger.error("not noted: %s", error)
            return False
        return True


reset_dedup_metrics()
