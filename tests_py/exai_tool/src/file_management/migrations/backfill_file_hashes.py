"""python -m src.file_management.migrations.backfill_file_hashes [--dry-run] [--validate-only]"""

import argparse
import asyncio
import hashlib

from src.storage.supabase_client import SupabaseStorageManager


class FileHashBackfill:
    def __init__(self, storage, dry_run=False):
        self.storage, self.dry_run = storage, dry_run
        self.processed = self.updated = self.errors = self.skipped = 0

    async def backfill_all(self, batch_size=50, rate_limit=1.0):
        # A fault: a storage manager has no `client`.
        files = self.storage.client.table("files")
        for row in files.select("*").filter("sha256", "is", "null").execute().data:
            content = self.storage.download_file(row["id"])
            files.update({"sha256": hashlib.sha256(content).hexdigest()}).eq("id", row["id"]).execute()
            await asyncio.sleep(rate_limit)
        return {"processed": self.processed, "updated": self.updated}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--validate-only", action="store_true")
    given = parser.parse_args()
    asyncio.run(FileHashBackfill(SupabaseStorageManager(), given.dry_run).backfill_all())
