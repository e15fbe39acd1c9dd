"""It cannot be imported: there is no such module as the first one it imports."""

import asyncio
import hashlib
from contextlib import asynccontextmanager

from src.utils.config_loader import get_config


class FileLockManager:
    def __init__(self, redis_client=None):
        self.timeout = get_config().get("FILE_LOCK_TIMEOUT_SECONDS", 300)
        self._locks = {}

    @asynccontextmanager
    async def acquire(self, file_path: str, timeout: int | None = None):
        key = hashlib.sha256(file_path.encode()).hexdigest()
        lock = self._locks.setdefault(key, asyncio.Lock())
        await asyncio.wait_for(lock.acquire(), timeout or self.timeout)
        try:
            yield
        finally:
            lock.release()
            del self._locks[key]


def get_lock_manager():
    return FileLockManager()
