"""Watching: recovery, health, leases and checkpoints, over and over, and what they find."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from exai_files.arguments import Seconds, as_json, span
from exai_files.calls import Call, Calls
from exai_files.errors import InvalidRequestError, RegistryError

if TYPE_CHECKING:
    from exai_files import _core

__all__ = ["AsyncWatch", "Hook", "Notice", "Watch"]

Event = Literal[
    "recovered",
    "lost",
    "healed",
    "damaged",
    "expiring",
    "renewed",
    "lease-failed",
    "gone",
    "not-gone",
    "unreachable",
    "breaker-open",
    "quota",
]

_EVENTS = frozenset(Event.__args__)  # type: ignore[attr-defined]
_LOOK_EVERY = 5.0
"""Seconds between two looks at what is due."""
_PASS = 600.0
_HOOK_PATIENCE = 10.0

_log = logging.getLogger("exai_files.watch")


@dataclass(frozen=True)
class Notice:
    """Something that a watcher found.

    Attributes:
        event: "recovered" (something cut short was tried), "lost" (a platform does not have a file any more), "healed" (it
            was made anew), "damaged" (it differs, or is of no use), "expiring" (its platform drops it within a week),
            "renewed" (it has a new id in place of one that ends), "lease-failed", "gone" and "not-gone" (what rules and time
            limits take away), "unreachable" (a platform could not be asked), "breaker-open", "quota" (90 % are used).
        digest: The file, where it is about one.
        what: In words.
    """

    event: Event
    platform: str | None
    account: str | None
    digest: str | None
    remote_id: str | None
    what: str


Hook = Callable[[Notice], object]
"""Called for a notice; what it returns is awaited, if it can be. What it raises is logged, and waiting may take 10 s."""


class _Watching:
    def __init__(
        self, calls: Calls, every: Seconds, heal: bool, max_lost: int, samples: int, hooks: Mapping[str, Hook] | None
    ) -> None:
        self._calls, self._hooks = calls, _checked(hooks)
        request = {"every": span(every), "heal": heal, "max_lost": max_lost, "samples": samples}
        self._core: _core.Watch = calls.core.watch(as_json(request))

    def _look(self) -> Call[list[Notice]]:
        return Call(self._core.look(_PASS), lambda rows: [Notice(**row) for row in rows])

    def _forgive(self, error: RegistryError) -> None:
        """A registry that is away for a moment ends no watching; that of a closed client does not come back."""
        if self._calls.is_closed:
            raise error
        _log.warning("this round failed, the next one is in %.0f s: %s", _LOOK_EVERY, error)


def _checked(hooks: Mapping[str, Hook] | None) -> Mapping[str, Hook]:
    """By event, what can be called."""
    if hooks is None:
        return {}
    if not isinstance(hooks, Mapping):
        raise InvalidRequestError(f"{hooks!r} are no hooks", hint="pass a dictionary: by event, what to call")
    for event, hook in hooks.items():
        if event not in _EVENTS:
            raise InvalidRequestError(f"nothing is told as {event!r}", hint=f"there are {', '.join(sorted(_EVENTS))}")
        if not callable(hook):
            raise InvalidRequestError(f"{hook!r} cannot be called for {event!r}", hint="pass a function of a Notice")
    return hooks


class Watch(_Watching):
    """What a watcher finds, as it finds it: iterate over it for as long as it shall watch."""

    def look(self) -> list[Notice]:
        """Do what is due now, once, and tell the hooks."""
        notices = self._look().wait()
        for notice in notices:
            self._tell(notice)
        return notices

    def __iter__(self) -> Iterator[Notice]:
        while True:
            try:
                notices = self.look()
            except RegistryError as error:
                self._forgive(error)
            else:
                yield from notices
            time.sleep(_LOOK_EVERY)

    def _tell(self, notice: Notice) -> None:
        hook = self._hooks.get(notice.event)
        if hook is None:
            return
        try:
            told = hook(notice)
            if inspect.isawaitable(told):
                _run(told)
        except Exception:
            _log.exception("a hook for %r failed", notice.event)


class AsyncWatch(_Watching):
    """As `Watch`, for `async for`."""

    async def look(self) -> list[Notice]:
        """As `Watch.look`; hooks that are no coroutine functions are called in a thread."""
        notices = await self._look().run()
        for notice in notices:
            await self._tell(notice)
        return notices

    async def __aiter__(self) -> AsyncIterator[Notice]:
        while True:
            try:
                notices = await self.look()
            except RegistryError as error:
                self._forgive(error)
            else:
                for notice in notices:
                    yield notice
            await asyncio.sleep(_LOOK_EVERY)

    async def _tell(self, notice: Notice) -> None:
        hook = self._hooks.get(notice.event)
        if hook is None:
            return
        try:
            is_async = inspect.iscoroutinefunction(hook)
            told = hook(notice) if is_async else await _in_time(asyncio.to_thread(hook, notice))
            if inspect.isawaitable(told):
                await _in_time(told)
        except Exception:
            _log.exception("a hook for %r failed", notice.event)


async def _in_time(told: Awaitable[object]) -> object:
    return await asyncio.wait_for(told, _HOOK_PATIENCE)


def _run(told: Awaitable[object]) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(_in_time(told))
        return
    # The loop of this thread runs already, as in Jupyter: it waits for us, and cannot do it.
    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(asyncio.run, _in_time(told)).result()
