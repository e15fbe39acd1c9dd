"""Telling a progress callback what moved, while the call it was given to is waited for or awaited."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from exai_files import _core
from exai_files.records import Transfer

__all__ = ["Progress", "Reporter", "tick_forever", "with_ticks"]

T = TypeVar("T")

Progress = Callable[[Transfer], object]
"""Called in the caller's own thread (or task) about twenty times a second, for each transfer that moved."""

_TICK = 0.05
_numbers = itertools.count(1)


class Reporter:
    """Tells a progress callback what has moved since it was last told."""

    def __init__(self, progress: Progress | None) -> None:
        self.transfers = _core.Transfers()
        self._number = next(_numbers)
        self._progress = progress
        self._told: list[Transfer] = []

    def tick(self) -> None:
        if self._progress is None:
            return
        now = [Transfer(**transfer, upload=self._number) for transfer in self.transfers.snapshot()]
        before, self._told = self._told, now
        for number, transfer in enumerate(now):
            if number >= len(before) or transfer != before[number]:
                self._progress(transfer)

    @property
    def wanted(self) -> bool:
        return self._progress is not None


async def tick_forever(reporter: Reporter) -> None:
    while True:
        await asyncio.sleep(_TICK)
        reporter.tick()


async def with_ticks(pending: Awaitable[T], ticking: asyncio.Future[None]) -> T:
    """The call's answer; a progress callback that raises cancels the call."""
    working = asyncio.ensure_future(_await(pending))
    try:
        first: set[asyncio.Future[Any]] = {working, ticking}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            ticking.result()
        return await working
    finally:
        working.cancel()


async def _await(pending: Awaitable[T]) -> T:
    return await pending
