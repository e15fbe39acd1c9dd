"""The existing tool's Redis, for modules that must not be failed, delayed or blocked by it.

The tool made a client in each constructor, waited there for a `ping` without a time-out, and called it from coroutines.
Here it is connected to when it is first asked, asked in other threads, and left alone for a while when it fails; what
is asked then is answered from this process. A client that is given to us is used as it is: give it time-outs.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    import redis

__all__ = ["RedisAwayError", "SharedRedis", "in_thread", "shared_redis"]

T = TypeVar("T")

PAUSE = 5.0
"""Seconds for which a Redis that failed is left alone."""

TIMEOUT = 1.0
"""Seconds for a connection, and for an answer."""

logger = logging.getLogger(__name__)


class RedisAwayError(Exception):
    """It did not answer, or cannot be asked."""


class SharedRedis:
    """A Redis that may be away. Says so once, and once that it is back.

    Args:
        connect: Makes the client, when it is first needed.
    """

    def __init__(self, connect: Callable[[], redis.Redis]) -> None:
        self._connect = connect
        self._connecting = threading.Lock()
        self._client: redis.Redis | None = None
        self._is_away = False
        self._ask_again_at = 0.0

    @property
    def client(self) -> redis.Redis:
        """The client. Nothing is sent yet.

        Raises:
            ImportError: The package `redis` is not installed.
            ValueError: REDIS_URL is none.
        """
        with self._connecting:
            if self._client is None:
                self._client = self._connect()
            return self._client

    @property
    def is_left_alone(self) -> bool:
        """Whether it failed so lately that it is not asked."""
        return self._is_away and time.monotonic() < self._ask_again_at

    def ask(self, question: Callable[[redis.Redis], T]) -> T:
        """Asks, and waits for the answer: not in the thread of an event loop.

        Raises:
            RedisAwayError: There is none.
        """
        try:
            answer = question(self.client)
        except Exception as error:
            self._failed(error)
            raise RedisAwayError from error
        if self._is_away:
            self._is_away = False
            logger.info("Redis is back: circuit breakers and file locks are shared again")
        return answer

    def _failed(self, error: Exception) -> None:
        self._ask_again_at = time.monotonic() + PAUSE
        if not self._is_away:
            self._is_away = True
            # What cannot be read in a URL may be its password.
            why = "REDIS_URL cannot be read" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            logger.warning("Redis is out of reach, circuit breakers and file locks are this process's own: %s", why)


_given: WeakValueDictionary[int, SharedRedis] = WeakValueDictionary()


def shared_redis(client: redis.Redis | None = None) -> SharedRedis:
    """One for each client that is given; without, that of REDIS_URL."""
    if client is None:
        return _of_url(os.environ.get("REDIS_URL") or "redis://localhost:6379/0")
    # It keeps its client, so the client's id is no other's for as long as it is known here.
    return _given.setdefault(id(client), SharedRedis(lambda: client))


@lru_cache
def _of_url(url: str) -> SharedRedis:
    return SharedRedis(lambda: _connected(url))


def _connected(url: str) -> redis.Redis:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    once = Retry(NoBackoff(), 0)
    return Redis.from_url(
        url, decode_responses=True, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=once
    )


async def in_thread(work: Callable[[], T], undo: Callable[[T], object]) -> T:
    """Works in another thread. What a caller who is cancelled meanwhile does not get to see is undone there."""
    import asyncio

    results: list[T] = []
    first = threading.Lock()  # taken by the one that ends first: the work, or the wait for it

    def run() -> T:
        result = work()
        results.append(result)
        if not first.acquire(blocking=False):
            undo(result)
        return result

    try:
        return await asyncio.to_thread(run)
    except asyncio.CancelledError:
        if not first.acquire(blocking=False) and results:
            asyncio.get_running_loop().run_in_executor(None, undo, results[0])
        raise
