"""`utils.file.deduplication`: the deduplication that the tool's users really go through, by what our registry knows.

A duplicate is a copy that the registry knows to be at the provider, and that the provider, asked now, still has.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exai_files.dropin.connection import Connection, connection, failed
from exai_files.dropin.deduplication import HashingService
from exai_files.dropin.rows import PROVIDERS, as_json
from exai_files.dropin.threads import in_thread
from exai_files.errors import NotFoundError

if TYPE_CHECKING:
    from exai_files.records import Replica

__all__ = ["FileDeduplicationManager", "get_dedup_metrics", "reset_dedup_metrics", "sha256_file_async"]

_PLATFORMS = {provider: platform for platform, provider in PROVIDERS.items()}

_counts: dict[str, int] = {}


def reset_dedup_metrics() -> None:
    """All to 0."""
    names = ("cache_hits", "cache_misses", "db_hits", "db_misses", "total_checks", "storage_saved_bytes")
    _counts.update(dict.fromkeys(names, 0))


def get_dedup_metrics() -> dict[str, Any]:
    """What this process has found; `cache_hit_rate` is in percent."""
    total = _counts["total_checks"]
    return {**_counts, "cache_hit_rate": round(_counts["cache_hits"] / total * 100, 2) if total else 0.0}


async def sha256_file_async(file_path: str | Path, chunk_size: int = 8192) -> str:
    """Of a file, beside the event loop. `chunk_size` is without effect."""
    return await in_thread(HashingService.compute_file_hash, file_path)


class FileDeduplicationManager:
    """Finds contents that are at a provider already.

    Args:
        storage_manager: The tool's; without effect.
    """

    def __init__(self, storage_manager: Any = None) -> None:
        self.storage = storage_manager
        self.file_cache: dict[tuple[str, str], str] = {}
        self.large_file_threshold = 100 * 1024 * 1024

    def calculate_sha256(self, file_path: str | Path) -> str:
        """In 64 hexadecimal digits."""
        return HashingService.compute_file_hash(Path(file_path))

    def check_duplicate(self, file_path: str | Path, provider: str) -> dict[str, Any] | None:
        """The copy of a file's bytes at a provider, as a row of `provider_file_uploads`; None where there is none.

        Raises:
            ValueError: There is no such file or provider.
        """
        if not Path(file_path).is_file():
            raise ValueError(f"File not found: {file_path}")
        if provider not in _PLATFORMS:
            raise ValueError(f"Invalid provider: {provider}. Must be 'kimi' or 'glm'")
        _counts["total_checks"] += 1
        try:
            found = _live_copy(connection(), self.calculate_sha256(file_path), provider)
        except Exception as error:
            failed("FileDeduplicationManager.check_duplicate", error)
            found = None
        _counts["db_hits" if found else "db_misses"] += 1
        _counts["storage_saved_bytes"] += found["file_size_bytes"] if found else 0
        return found

    async def check_duplicate_async(self, file_path: str | Path, provider: str) -> dict[str, Any] | None:
        """See `check_duplicate`."""
        return await in_thread(self.check_duplicate, file_path, provider)

    def increment_reference(self, provider_file_id: str, provider: str) -> bool:
        """Whether the registry knows this copy. Who wants a file is in its audit log, and need not be counted."""
        try:
            record = connection().waiting.get(provider_file_id)
        except NotFoundError:
            return False
        except Exception as error:
            failed("FileDeduplicationManager.increment_reference", error)
            return False
        wanted = (_PLATFORMS.get(provider), provider_file_id)
        return any((copy.platform, copy.remote_id) == wanted for copy in record.replicas)

    def register_new_file(
        self,
        provider_file_id: str,
        supabase_file_id: str | None,
        file_path: str | Path,
        provider: str,
        upload_method: str = "direct",
    ) -> bool:
        """Notes a copy that somebody else has made; what went through us is noted already. False when that failed."""
        try:
            if not self.increment_reference(provider_file_id, provider):
                _register(connection(), provider_file_id, supabase_file_id, Path(file_path), provider, upload_method)
        except Exception as error:
            failed("FileDeduplicationManager.register_new_file", error)
            return False
        return True

    def get_deduplication_stats(self, provider: str | None = None) -> dict[str, Any]:
        """Files at a provider, or at all: how many, how often they were handed over, and what was not stored again."""
        there = connection()
        sizes, references = [], []
        for record in there.waiting.list(platform=_PLATFORMS.get(provider or "", provider)):
            digest = record.digest.removeprefix("sha256:")
            known = there.rows.tables.find("file_hashes", "file_hash", digest).wait()
            sizes.append(record.size)
            references.append(1 + (known[0]["duplicate_count"] or 0))
        return {
            "total_files": len(sizes),
            "total_references": sum(references),
            "storage_saved_bytes": sum(size * (count - 1) for size, count in zip(sizes, references, strict=True)),
            "deduplicated_files": sum(count > 1 for count in references),
        }

    def cleanup_unreferenced_files(
        self, provider: str | None = None, grace_period_hours: int = 24, dry_run: bool = True
    ) -> dict[str, Any]:
        """What the configuration's rules would take off a provider, or off all: nothing else is unwanted.

        `watch` and the daemon's lifecycle manager apply them; nothing is deleted here, whatever `dry_run` says.
        """
        platform = _PLATFORMS.get(provider or "", provider)
        steps = [
            step for step in connection().waiting.lifecycle.apply(dry_run=True) if platform in (None, step.platform)
        ]
        found = {"files_found": len(steps), "files_deleted": 0, "storage_freed_bytes": 0, "errors": []}
        return {**found, "dry_run": True} if dry_run else found


def _register(
    there: Connection, remote_id: str, file_id: str | None, path: Path, provider: str, upload_method: str
) -> None:
    file_id = file_id or str(uuid.uuid4())
    hashed = {"file_hash": HashingService.compute_file_hash(path), "file_size": path.stat().st_size}
    there.rows.tables.note_hash(as_json({**hashed, "original_file_id": file_id})).wait()
    row: dict[str, Any] = {"platform": provider, "platform_file_id": remote_id, "file_id": file_id, "status": "active"}
    row |= {"platform_metadata": {"filename": path.name, "upload_method": upload_method}}
    there.rows.tables.add("platform_file_registry", as_json(row)).wait()


def _live_copy(there: Connection, digest: str, provider: str) -> dict[str, Any] | None:
    """As a row of `provider_file_uploads`. What we have uploaded and the provider has lost is made anew, where it can be."""
    platform = _PLATFORMS[provider]
    for record in there.waiting.list(platform=platform, digest=digest):
        for known in record.replicas:
            if known.platform == platform and (copy := _alive(there, known)):
                return {
                    "provider": provider,
                    "provider_file_id": copy.remote_id,
                    "sha256": digest,
                    "filename": record.name,
                    "file_size_bytes": record.size,
                    "upload_status": "completed",
                    "created_at": copy.created_at.isoformat(),
                    "last_used": copy.used_at and copy.used_at.isoformat(),
                }
    return None


def _alive(there: Connection, copy: Replica) -> Replica | None:
    try:
        if copy.purpose:
            return there.waiting.ensure(copy, platform=copy.platform, purpose=copy.purpose, max_age=0)
        there.waiting.get_remote(copy.platform, copy.remote_id)
    except NotFoundError:
        return None
    return copy


reset_dedup_metrics()
