import json
import logging
import os

from src.file_management.deduplication.hashing_service import HashingService
from src.storage.supabase_client import SupabaseStorageManager

logger = logging.getLogger(__name__)


class DuplicateDetector:
    def __init__(self, redis_client=None):
        self.redis = redis_client
        self.cache_ttl = int(os.getenv("DEDUPLICATION_CACHE_TTL", "3600"))
        self.enabled = os.getenv("DEDUPLICATION_ENABLED", "true").lower() == "true"
        self.supabase = SupabaseStorageManager()

    async def check_duplicate(self, file_path: str, file_size: int, content_type: str | None = None):
        try:
            digest = HashingService.compute_file_hash(file_path)
            found = self.supabase.client.table("file_hashes").select().eq("file_hash", digest).execute().data
            original = found[0] if found else None
            # A fault: that there was no duplicate stays true for an hour.
            self.redis.setex(f"dedup:{digest}", self.cache_ttl, json.dumps({"is_duplicate": bool(original)}))
        except Exception as error:
            logger.error("not checked for a duplicate: %s", error)
            return False, None
        return bool(original), original

    async def register_file_hash(
        self, file_id, file_hash, file_size, content_type=None, is_duplicate=False, original_file_id=None
    ):
        row = {
            "file_hash": file_hash,
            "original_file_id": file_id,
            "file_size": file_size,
            "content_type": content_type,
        }
        try:
            self.supabase.client.table("file_hashes").insert(row).execute()
        except Exception as error:
            logger.error("hash not registered: %s", error)
