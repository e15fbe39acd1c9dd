"""Stands in for `src.file_management.file_lock_manager`: one at a time has a file.

Those who want a file queue up for it within the process. Whose turn it is takes the lock in Redis too, if a client is
given or `REDIS_URL` is set: for `LEASE` seconds, and again for as long as it holds the file. A thread renews it, since
the tool's blocking uploads hold up the event loop. In memory a lock ends with its block, however long that takes.

A lock can be lost nevertheless: it is forced open, or its process slept through the lease. Its holder is cancelled then
and gets a `FileLockLostError`. What it has under way elsewhere is told by `HeldLock.fence`: a store that remembers the
highest it has seen can refuse the one who lost it. While Redis is away, locks are this process's own.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import re
import secrets
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from exai_files.dropin.environment import whole_number
from exai_files.dropin.errors import FileLockError, FileUploadErrorCode, StandardizedFileUploadError
from exai_files.dropin.redis_client import RedisAwayError, SharedRedis, in_thread, shared_redis
from exai_files.dropin.turns import Turn, Turns

if TYPE_CHECKING:
    import asyncio

    import redis

__all__ = ["FileLockLostError", "FileLockManager", "FileLockTimeoutError", "HeldLock", "get_lock_manager"]

LEASE = 60.0
"""Seconds for which Redis keeps a lock that is not renewed; it is, three times as often."""

POLL = (0.05, 0.15)
"""Seconds between two looks at a lock that another process has, at random within."""

FENCE_KEY = "file_lock:fence"

TAKE = """
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return false end
local time = redis.call('TIME')
local fence = math.max(time[1] * 1000000 + time[2], tonumber(redis.call('GET', KEYS[2]) or '0') + 1)
fence = string.format('%.0f', fence)
redis.call('SET', KEYS[2], fence)
return fence
"""
"""Takes the lock if it is free, and gives its fence: the time in microseconds, or one more than the last."""

RENEW = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2])"

RELEASE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1])"

logger = logging.getLogger(__name__)


class FileLockTimeoutError(FileLockError, TimeoutError):
    """Others had the file for all the time that one was ready to wait."""

    def __init__(self, message: str, file_path: str | None = None) -> None:
        StandardizedFileUploadError.__init__(self, FileUploadErrorCode.LOCK_TIMEOUT, message, file_path=file_path)


class FileLockLostError(FileLockError):
    """The lock was lost before its block ended: what the block did, another may have done beside it."""


class HeldLock:
    """A lock, for its holder.

    Attributes:
        path: The file, as it was named.
        fence: A number that is higher for each holder.
        is_lost: Whether another may hold it now.
    """

    def __init__(self, path: str, turn: Turn) -> None:
        import asyncio

        self.path = path
        self.fence = 0
        self.is_lost = False
        self._turn = turn
        self._token = secrets.token_hex(16)
        self._asking = threading.Lock()
        self._is_in_redis = False
        self._is_over = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._cancels_before = _cancels(self._task)
        self._has_interrupted = False

    def _lose(self) -> None:
        """From any thread."""
        self.is_lost = True
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._interrupt)

    def _interrupt(self) -> None:
        if self._task is not None and not self._is_over.is_set():
            self._has_interrupted = True
            self._task.cancel()

    def _end(self) -> bool:
        """Its block has ended. Whether our cancellation ended it, and nobody else's as well."""
        if not self._is_over.is_set():
            self._is_over.set()
            if self._has_interrupted and self._task is not None and sys.version_info >= (3, 11):
                self._task.uncancel()
        return self._has_interrupted and _cancels(self._task) <= self._cancels_before


def _cancels(task: asyncio.Task[Any] | None) -> int:
    if sys.version_info >= (3, 11):
        return task.cancelling() if task else 0
    return 0


# A file has one holder in this process, whichever manager was asked.
_turns = Turns()
_held: dict[str, HeldLock] = {}


class FileLockManager:
    """Gives locks of files.

    Attributes:
        redis: The client that was given.
        use_redis: Whether locks are shared with other processes.
        lock_timeout: Seconds that `acquire` waits by default, `FILE_LOCK_TIMEOUT_SECONDS`.
        lease: Seconds for which Redis keeps a lock that is not renewed.
    """

    def __init__(self, redis_client: redis.Redis | None = None) -> None:
        self.redis = redis_client
        self.use_redis = redis_client is not None or bool(os.environ.get("REDIS_URL"))
        self.lock_timeout = whole_number("FILE_LOCK_TIMEOUT_SECONDS", 300)
        self.lease = LEASE
        self._shared = shared_redis(redis_client) if self.use_redis else None

    @asynccontextmanager
    async def acquire(self, file_path: str, timeout: int | None = None) -> AsyncIterator[HeldLock]:
        """Hold a file, for an `async with`.

        Args:
            file_path: The file. Its other names, through links or of a mapped Windows drive, are the same.
            timeout: Seconds to wait for others. Default: `lock_timeout`.

        Raises:
            FileLockTimeoutError: Others had it for so long; also a TimeoutError.
            FileLockLostError: It was lost before the block ended.
        """
        import asyncio

        held = await self._take(file_path, self.lock_timeout if timeout is None else timeout)
        try:
            yield held
        except asyncio.CancelledError:
            if not held._end():
                raise
        finally:
            await self._let_go(held)
        if held.is_lost:
            raise FileLockLostError(f"the lock of {file_path!r} was lost while it was held", file_path)

    async def is_locked(self, file_path: str) -> bool:
        """Whether anybody holds a file."""
        key = _key(file_path)
        return key in _held or bool(await self._asked(lambda client: client.exists(_name(key))))

    async def force_unlock(self, file_path: str) -> bool:
        """Take a file from whoever holds it, and say whether anybody did."""
        key = _key(file_path)
        deleted = await self._asked(lambda client: client.delete(_name(key)))
        held = _held.pop(key, None)
        if held:
            held._lose()
            _turns.leave(held._turn)
        if held or deleted:
            logger.warning("the lock of %r was forced open", file_path)
        return bool(held or deleted)

    def get_lock_stats(self) -> dict[str, Any]:
        """Files that are held or waited for in this process, those that are held, and how."""
        is_shared = self._shared is not None and not self._shared.is_left_alone
        return {
            "total_locks": len(_turns),
            "active_locks": len(_held),
            "mode": "redis" if is_shared else "in-memory",
            "timeout": self.lock_timeout,
        }

    async def _take(self, path: str, patience: float) -> HeldLock:
        import asyncio

        deadline = time.monotonic() + patience
        turn = await _turns.take(_key(path), patience)
        if turn is None:
            raise _too_late(path, patience)
        try:
            held = HeldLock(path, turn)
            while not await self._is_taken(held):
                if time.monotonic() >= deadline:
                    raise _too_late(path, patience)
                await asyncio.sleep(min(random.uniform(*POLL), max(0.0, deadline - time.monotonic())))
        except BaseException:
            _turns.leave(turn)
            raise
        _held[turn.key] = held
        return held

    async def _is_taken(self, held: HeldLock) -> bool:
        """Whether it is ours; in memory, and while Redis is away, our turn is all there is to it."""
        if self._shared is None:
            held.fence = _next_fence()
            return True
        shared = self._shared
        try:
            if shared.is_left_alone:
                raise RedisAwayError
            if not await in_thread(lambda: self._ask_for(shared, held), lambda _: self._release(shared, held)):
                return False
        except RedisAwayError:
            held.fence = _next_fence()
        threading.Thread(target=self._keep, args=(shared, held), name="file lock", daemon=True).start()
        return True

    async def _let_go(self, held: HeldLock) -> None:
        held._end()
        shared = self._shared
        try:
            if shared is not None and not shared.is_left_alone:
                await in_thread(lambda: self._release(shared, held), lambda _: None)
        finally:
            if _held.get(held._turn.key) is held:
                del _held[held._turn.key]
            _turns.leave(held._turn)

    async def _asked(self, question: Callable[[redis.Redis], Any]) -> Any:
        shared = self._shared
        if shared is None or shared.is_left_alone:
            return None
        with suppress(RedisAwayError):
            return await in_thread(lambda: shared.ask(question), lambda _: None)
        return None

    # ===== in other threads =====

    def _ask_for(self, shared: SharedRedis, held: HeldLock) -> bool:
        fence = _run(shared, TAKE, held, [FENCE_KEY], [int(self.lease * 1000)])
        if fence is not None:
            held.fence, held._is_in_redis = int(fence), True
        return held._is_in_redis

    def _keep(self, shared: SharedRedis, held: HeldLock) -> None:
        """Renews it while it is held; what Redis has forgotten while it was away is taken anew."""
        while not held._is_over.wait(self.lease / 3):
            with held._asking, suppress(RedisAwayError):
                if held._is_over.is_set():
                    return
                if not self._is_still_ours(shared, held):
                    held._lose()
                    return

    def _is_still_ours(self, shared: SharedRedis, held: HeldLock) -> bool:
        was_in_redis, held._is_in_redis = held._is_in_redis, False
        held._is_in_redis = bool(_run(shared, RENEW, held, [], [int(self.lease * 1000)]))
        return held._is_in_redis or (not was_in_redis and self._ask_for(shared, held))

    def _release(self, shared: SharedRedis, held: HeldLock) -> None:
        with held._asking, suppress(RedisAwayError):
            if not _run(shared, RELEASE, held, [], []) and held._is_in_redis:
                held.is_lost = True


def _run(shared: SharedRedis, script: str, held: HeldLock, keys: list[str], args: list[int]) -> Any:
    names = [_name(held._turn.key), *keys]
    return shared.ask(lambda client: client.register_script(script)(keys=names, args=[held._token, *args]))


def _too_late(path: str, patience: float) -> FileLockTimeoutError:
    return FileLockTimeoutError(f"Could not acquire file lock within {patience} seconds", path)


# ===== fences without Redis =====

_fencing = threading.Lock()
_last_fence = 0


def _next_fence() -> int:
    global _last_fence
    with _fencing:
        _last_fence = max(time.time_ns() // 1000, _last_fence + 1)
        return _last_fence


# ===== names =====

_DRIVE = re.compile(r"([A-Za-z]:)[\\/]+")

MOUNT = "/mnt/project"
"""Where the tool's container has `C:\\Project`."""


def _name(key: str) -> str:
    return f"file_lock:{key}"


def _key(path: str) -> str:
    """The tool's: SHA-256 of the path, but of the one path that a file has."""
    text = os.fsdecode(path)
    one = _mapped(os.path.realpath(text)) if sys.platform == "win32" else os.path.realpath(_mapped(text))
    return hashlib.sha256(os.fsencode(one)).hexdigest()


def _mapped(path: str) -> str:
    """A path of a Windows drive as the tool's container sees it."""
    drive = _DRIVE.match(path)
    if not drive:
        return path
    mount = _mounts().get(drive[1].upper(), MOUNT)
    rest = path[drive.end() :].replace("\\", "/")
    if mount == MOUNT and rest.lower().startswith("project/"):
        rest = rest[len("project/") :]
    return f"{mount}/{rest}"


def _mounts() -> dict[str, str]:
    """`EX_DRIVE_MAPPINGS`, such as `C:/app,D:/data`."""
    drives = (entry.strip() for entry in os.environ.get("EX_DRIVE_MAPPINGS", "").split(","))
    return {drive[:2].upper(): drive[2:].rstrip("/") for drive in drives if _DRIVE.match(drive)}


_manager: FileLockManager | None = None


def get_lock_manager() -> FileLockManager:
    """That of this process."""
    global _manager
    if _manager is None:
        _manager = FileLockManager()
    return _manager
