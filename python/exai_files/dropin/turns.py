"""Whose turn it is, within this process: first come, first served, in whatever thread and event loop.

An `asyncio.Lock` belongs to one loop, and the existing tool has several: its synchronous calls each run one of their own.
A turn ends only by being left; what nobody holds or waits for is forgotten.
"""

from __future__ import annotations

import threading
from collections import deque

__all__ = ["Turn", "Turns"]


class Turn:
    """A place in the queue for a key."""

    def __init__(self, key: str) -> None:
        import asyncio

        self.key = key
        self._loop = asyncio.get_running_loop()
        self.has_come = self._loop.create_future()

    def call(self) -> bool:
        """Says that it has come; false where nobody can hear it any more."""
        try:
            self._loop.call_soon_threadsafe(self._hear)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _hear(self) -> None:
        if not self.has_come.done():
            self.has_come.set_result(None)


class Turns:
    """A queue for each key. Who is first has the turn."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._queues: dict[str, deque[Turn]] = {}

    def __len__(self) -> int:
        return len(self._queues)

    async def take(self, key: str, patience: float) -> Turn | None:
        """Waits for a turn, for so many seconds; None if it does not come. It must be left."""
        import asyncio

        turn = Turn(key)
        with self._mutex:
            queue = self._queues.setdefault(key, deque())
            queue.append(turn)
            is_first = queue[0] is turn
        if is_first:
            return turn
        try:
            await asyncio.wait({turn.has_come}, timeout=patience)
        except BaseException:
            self.leave(turn)
            raise
        with self._mutex:
            is_first = queue[0] is turn
        if is_first:
            return turn
        self.leave(turn)
        return None

    def leave(self, turn: Turn) -> None:
        """Gives the turn, or the place, up; what is left already stays so."""
        with self._mutex:
            queue = self._queues.get(turn.key)
            if queue is None or turn not in queue:
                return
            was_first = queue[0] is turn
            queue.remove(turn)
            while was_first and queue and not queue[0].call():
                queue.popleft()
            if not queue:
                del self._queues[turn.key]
