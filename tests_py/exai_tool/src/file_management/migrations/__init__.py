from src.file_management.migrations.backfill_file_hashes import FileHashBackfill

__all__ = ["FileHashBackfill"]
