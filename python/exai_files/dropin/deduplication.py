"""`src.file_management.deduplication`: whether a content has been handed over before.

The database decides. Redis (`dedup:{sha256}`) is a note for whoever cannot ask it: what it says is there may be relied on for
an hour, as the tool does; that something is new is not noted at all, for it ceases to be true.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, BinaryIO

from exai_files.dropin.connection import OfTool, connected, failed, forgiving
from exai_files.dropin.environment import whole_number
from exai_files.dropin.metrics import counter, gauge, histogram
from exai_files.dropin.redis_client import RedisAwayError, shared_redis
from exai_files.dropin.rows import timestamp
from exai_files.dropin.threads import in_thread

if TYPE_CHECKING:
    import redis

__all__ = ["DuplicateDetector", "HashingService"]

log = logging.getLogger("exai_files.dropin")

checks = counter("deduplication_checks_total", "Checks for duplicates, by result.", ["result"])
hits = counter("deduplication_hits_total", "Duplicates found.")
cache_hits = counter("deduplication_cache_hits_total", "Of these, by a note in Redis.")
cache_size = gauge("deduplication_cache_size", "Notes of contents that this process was the first to leave in Redis.")
duration = histogram("deduplication_check_duration_seconds", "How long checks took, hashing included.")


class HashingService:
    """SHA-256 of files."""

    CHUNK_SIZE = 65536
    HASH_ALGORITHM = "sha256"

    @classmethod
    def compute_file_hash(cls, file_source: str | Path | BinaryIO) -> str:
        """Of a file, or of all that is in an open one, which is left where it was; 64 hexadecimal digits.

        Raises:
            FileNotFoundError: There is no such file.
            OSError: It cannot be read.
        """
        if isinstance(file_source, (str, Path)):
            with Path(file_source).open("rb") as file:
                return cls._of(file)
        position = file_source.tell()
        try:
            file_source.seek(0)
            return cls._of(file_source)
        finally:
            file_source.seek(position)

    @classmethod
    def verify_hash(cls, file_source: str | Path | BinaryIO, expected_hash: str) -> bool:
        """Whether a file has this hash; False also when it cannot be read."""
        with suppress(Exception):
            return cls.compute_file_hash(file_source) == expected_hash
        return False

    @classmethod
    def compute_hash_from_bytes(cls, data: bytes) -> str:
        """Of bytes."""
        return hashlib.new(cls.HASH_ALGORITHM, data).hexdigest()

    @classmethod
    def _of(cls, file: BinaryIO) -> str:
        digest = hashlib.new(cls.HASH_ALGORITHM)
        while piece := file.read(max(cls.CHUNK_SIZE, 1 << 20)):
            digest.update(piece)
        return digest.hexdigest()


class DuplicateDetector(OfTool):
    """Looks contents up, and notes them.

    Args:
        redis_client: Default: that of REDIS_URL, when it is first needed. None is needed.

    Attributes:
        cache_ttl: Seconds that a note lives: DEDUPLICATION_CACHE_TTL, or an hour.
        enabled: DEDUPLICATION_ENABLED, or True.
    """

    def __init__(self, redis_client: redis.Redis | None = None) -> None:
        self._redis = shared_redis(redis_client) if redis_client is not None or os.environ.get("REDIS_URL") else None
        self.cache_ttl = whole_number("DEDUPLICATION_CACHE_TTL", 3600)
        self.enabled = os.environ.get("DEDUPLICATION_ENABLED", "true").strip().lower() == "true"

    @property
    def redis(self) -> redis.Redis | None:
        """The client; None where there is none."""
        with suppress(Exception):
            return self._redis.client if self._redis else None
        return None

    async def check_duplicate(
        self, file_path: str, file_size: int, content_type: str | None = None
    ) -> tuple[bool, dict[str, Any] | None]:
        """Whether a file's bytes are known, and the row of `file_uploads` of the file that had them first.

        What cannot be told counts as new, which is logged.
        """
        if not self.enabled:
            checks.labels(result="disabled").inc()
            return False, None
        begun = perf_counter()
        try:
            known = await self._known(await in_thread(HashingService.compute_file_hash, file_path))
        except Exception as error:
            checks.labels(result="error").inc()
            failed("DuplicateDetector.check_duplicate", error)
            return False, None
        finally:
            duration.observe(perf_counter() - begun)
        checks.labels(result="duplicate" if known else "unique").inc()
        if known:
            hits.inc()
        return known is not None, known

    @forgiving(None)
    async def register_file_hash(
        self,
        file_id: str,
        file_hash: str,
        file_size: int,
        content_type: str | None = None,
        is_duplicate: bool = False,
        original_file_id: str | None = None,
    ) -> None:
        """Notes a file's hash. Of several that come at once one is the original, and the others its duplicates.

        Args:
            is_duplicate, original_file_id: What the caller believes; where nobody is known to have it, it is believed.
        """
        there = await connected()
        if is_duplicate and original_file_id and original_file_id != file_id:
            first = {"file_hash": file_hash, "original_file_id": original_file_id, "file_size": file_size}
            await there.rows.note_hash({**first, "content_type": content_type})
        row = {
            "file_hash": file_hash,
            "original_file_id": file_id,
            "file_size": file_size,
            "content_type": content_type,
        }
        await there.rows.note_hash(row)
        await self._original(file_hash)

    async def _known(self, file_hash: str) -> dict[str, Any] | None:
        noted = await self._ask(lambda client: client.get(f"dedup:{file_hash}"))
        if noted:
            with suppress(ValueError, AttributeError):
                original: dict[str, Any] | None = json.loads(noted).get("original_file")
                if original:
                    cache_hits.inc()
                    return original
        return await self._original(file_hash)

    async def _original(self, file_hash: str) -> dict[str, Any] | None:
        """The file that has had it first, by the database; left as a note."""
        rows = (await connected()).rows
        known = await rows.find("file_hashes", "file_hash", file_hash)
        original = known[0]["original_file_id"] if known else None
        files = await rows.find("file_uploads", "id", original) if original else []
        if not files:
            return None
        note = json.dumps({"is_duplicate": True, "original_file": files[0], "cached_at": timestamp()})
        key = f"dedup:{file_hash}"
        if await self._ask(lambda client: client.set(key, note, ex=self.cache_ttl, nx=True)):
            cache_size.inc()
        else:
            await self._ask(lambda client: client.set(key, note, ex=self.cache_ttl))
        return files[0]

    async def _ask(self, question: Any) -> Any:
        """Of Redis; None where it is away."""
        if self._redis is None or self._redis.is_left_alone:
            return None
        with suppress(RedisAwayError):
            return await in_thread(self._redis.ask, question)
        return None
