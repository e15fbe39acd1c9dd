"""`src.file_management.migrations.backfill_file_hashes`: SHA-256 of files in the tool's bucket that have none noted.

Of two files with the same bytes the first one keeps the digest: `files.sha256` is unique.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
from collections.abc import Sequence
from typing import Any

from exai_files.dropin.connection import OfTool
from exai_files.dropin.files_table import FilesTable
from exai_files.dropin.rows import Row
from exai_files.dropin.threads import in_thread
from exai_files.errors import UnsupportedError

__all__ = ["FileHashBackfill", "main"]

log = logging.getLogger("exai_files.dropin")

PAGE = 500
"""Rows asked for at a time: PostgREST gives no more than its limit, usually 1,000."""

MIB = 1 << 20

BUCKETS = ("user-files", "generated-files")
"""Of the tool; a path may begin with one, and is in the first where it does not."""


class FileHashBackfill:
    """Reads the files out of the bucket, and notes their digests in the table `files`.

    Args:
        storage: The tool's storage manager.
        dry_run: Read and count, and change nothing.

    Attributes:
        processed, updated, errors, skipped: How many; `skipped` have no path or the bytes of another file.
    """

    def __init__(self, storage: Any, dry_run: bool = False) -> None:
        self.storage = storage
        self.dry_run = dry_run
        self.processed = self.updated = self.errors = self.skipped = 0

    async def validate_backfill_scope(self) -> dict[str, Any]:
        """How much there is to do: `total_files`, `total_size_mb`, and `warnings` for more than one would wait for.

        Raises:
            UnsupportedError: The storage has no client.
            Exception: The client's own.
        """
        rows = await in_thread(self._rows)
        size = sum(row.get("size_bytes") or 0 for row in rows)
        warnings = ["Large dataset detected - consider smaller batches"] if len(rows) > 10_000 else []
        warnings += ["Large total size - consider rate limiting"] if size > 1 << 30 else []
        return {"total_files": len(rows), "total_size_mb": size / MIB, "warnings": warnings}

    async def backfill_all(self, batch_size: int = 50, rate_limit: float = 1.0) -> dict[str, int]:
        """Does all of them. A file that cannot be read is counted, and the others are done.

        Args:
            batch_size: Files between two lines in the log.
            rate_limit: Seconds of rest after each file.

        Raises:
            UnsupportedError: The storage has no client.
            Exception: The client's own, where the rows could not be read.
        """
        import asyncio

        rows = await in_thread(self._rows)
        for number, row in enumerate(rows, 1):
            await in_thread(self._do, row)
            if number % max(batch_size, 1) == 0 or number == len(rows):
                log.info("%d of %d files: %s", number, len(rows), self._counts())
            if rate_limit > 0 and number < len(rows):
                await asyncio.sleep(rate_limit)
        return self._counts()

    def _rows(self) -> list[Row]:
        table = self._table()
        found: list[Row] = []
        while page := table.without_digest(PAGE, found[-1]["id"] if found else None):
            found += page
        return found

    def _table(self) -> FilesTable:
        table = FilesTable.of(self.storage)
        if table is None:
            raise UnsupportedError("there is no Supabase client: set SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY")
        return table

    def _do(self, row: Row) -> None:
        self.processed += 1
        try:
            is_noted = self._note(row)
        except Exception as error:
            self.errors += 1
            log.error("file %s has still no digest: %s", row["id"], error)
        else:
            self.updated += is_noted
            self.skipped += not is_noted

    def _note(self, row: Row) -> bool:
        table, place = self._table(), row.get("storage_path")
        if not place:
            return False
        bucket, _, path = place.partition("/")
        bucket, path = (bucket, path) if bucket in BUCKETS else (BUCKETS[0], place)
        digest = hashlib.sha256(table.client.storage.from_(bucket).download(path)).hexdigest()
        first = table.with_digest(digest)
        if first is not None:
            log.warning("file %s has the bytes of file %s, and gets no digest", row["id"], first["id"])
            return False
        return self.dry_run or table.note_digest(row["id"], digest)

    def _counts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("processed", "updated", "errors", "skipped")}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: `--dry-run`, `--batch-size`, `--rate-limit`, `--validate-only`. It ends with 1 where a file failed."""
    import asyncio

    parser = argparse.ArgumentParser(description="Note the SHA-256 of files in the bucket that have none noted.")
    parser.add_argument("--dry-run", action="store_true", help="read and count, and change nothing")
    parser.add_argument("--batch-size", type=int, default=50, help="files between two lines in the log (50)")
    parser.add_argument("--rate-limit", type=float, default=1.0, help="seconds of rest after each file (1)")
    parser.add_argument("--validate-only", action="store_true", help="only say how much there is to do")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    backfill = FileHashBackfill(OfTool().supabase, dry_run=given.dry_run)
    if given.validate_only:
        print(asyncio.run(backfill.validate_backfill_scope()))
        return
    counts = asyncio.run(backfill.backfill_all(given.batch_size, given.rate_limit))
    print(counts)
    sys.exit(counts["errors"] > 0)


if __name__ == "__main__":
    main()
