"""Finishing what was cut short."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from exai_files.arguments import Seconds, span
from exai_files.calls import Call
from exai_files.records import instant, perhaps

if TYPE_CHECKING:
    from exai_files import _core

__all__ = ["AsyncRecovery", "PastAttempt", "Recovery", "RecoveryStep", "Unfinished"]

_PATIENCE = 300.0


@dataclass(frozen=True)
class RecoveryStep:
    """One upload, delete or move that had been cut short, and what became of it.

    Attributes:
        kind: What it was.
        id: Names it to `explain`, `retry` and `abandon`.
        attempt: Of how many attempts so far this is the last.
        result: "finished"; "undone" (it counts as never begun); "gone" (somebody else ended it); "failed" (to be tried
            again); "waiting" (its platform is left in peace); "dead" (given up until you say otherwise).
        strategy: How, such as "adopt", "reupload-from-path" or "back-off".
        error: What went wrong.
    """

    kind: Literal["upload", "delete", "move"]
    id: str
    digest: str | None
    platform: str
    account: str
    attempt: int
    result: Literal["finished", "undone", "gone", "failed", "waiting", "dead"]
    strategy: str
    error: str | None


@dataclass(frozen=True)
class PastAttempt:
    """One attempt to finish something."""

    number: int
    strategy: str | None
    status: str
    error: str | None
    error_code: str | None
    next_retry_at: datetime | None
    at: datetime


@dataclass(frozen=True)
class Unfinished:
    """Something that was cut short.

    Attributes:
        name: The file's name.
        attempts: How often it was tried to finish it.
        next_try_at: When it is tried again (UTC).
        is_dead: Given up: nobody tries again until you say so.
        since: Since when (UTC).
        history: All attempts, of one that was explained.
    """

    kind: Literal["upload", "delete", "move"]
    id: str
    digest: str | None
    platform: str
    account: str
    name: str | None
    attempts: int
    next_try_at: datetime | None
    error: str | None
    is_dead: bool
    since: datetime
    history: tuple[PastAttempt, ...] = ()

    @classmethod
    def _from_core(cls, data: Mapping[str, Any]) -> Unfinished:
        history = tuple(_past(attempt) for attempt in data.get("history", ()))
        times = {"next_try_at": perhaps(data["next_try_at"]), "since": instant(data["since"])}
        return cls(**{**data, **times, "history": history})


def _past(data: Mapping[str, Any]) -> PastAttempt:
    return PastAttempt(**{**data, "next_retry_at": perhaps(data["next_retry_at"]), "at": instant(data["at"])})


class _RecoveryCalls:
    def __init__(self, core: _core.Recovery) -> None:
        self._core = core

    def _run(self, timeout: Seconds) -> Call[list[RecoveryStep]]:
        return Call(self._core.run(span(timeout)), lambda steps: [RecoveryStep(**step) for step in steps])

    def _list(self) -> Call[list[Unfinished]]:
        return Call(self._core.list(), lambda rows: list(map(Unfinished._from_core, rows)))

    def _explain(self, id: str) -> Call[Unfinished]:
        return Call(self._core.explain(id), Unfinished._from_core)

    def _retry(self, id: str) -> Call[None]:
        return Call(self._core.retry(id), lambda _: None)

    def _abandon(self, id: str) -> Call[None]:
        return Call(self._core.abandon(id), lambda _: None)


class Recovery(_RecoveryCalls):
    """Uploads and deletes whose process died, lost its connection or was cancelled.

    Every client looks for them when it opens and every 30 seconds (`recovery.every`), whoever began them.
    """

    def run(self, *, timeout: Seconds = _PATIENCE) -> list[RecoveryStep]:
        """Try everything that is due, now.

        An upload is finished where the platform has it or its bytes are to be had (a kept copy, the path it came from),
        else undone; a delete is done again. Nothing is sent that may be there already.
        """
        return self._run(timeout).wait()

    def list(self) -> builtins.list[Unfinished]:
        """All that is unfinished, the oldest first; what was given up is among it (`is_dead`).

        What was killed a moment ago is not among it yet: for up to 30 s nobody can tell it from what is under way.
        """
        return self._list().wait()

    def explain(self, id: str) -> Unfinished:
        """One of them (by its id, the start of it, or the file's digest), with every attempt.

        Raises:
            NotFoundError: There is no such.
            ConflictError: Several fit.
        """
        return self._explain(id).wait()

    def retry(self, id: str) -> None:
        """Let one be tried again at once, also one that was given up. Raises as `explain`."""
        self._retry(id).wait()

    def abandon(self, id: str) -> None:
        """Give one up for good: an upload counts as never made, a copy to be deleted is no longer handed out.

        Raises as `explain`, and `ConflictError` when it is under way again.
        """
        self._abandon(id).wait()


class AsyncRecovery(_RecoveryCalls):
    """As `Recovery`, awaited."""

    async def run(self, *, timeout: Seconds = _PATIENCE) -> list[RecoveryStep]:
        """As `Recovery.run`."""
        return await self._run(timeout).run()

    async def list(self) -> builtins.list[Unfinished]:
        """As `Recovery.list`."""
        return await self._list().run()

    async def explain(self, id: str) -> Unfinished:
        """As `Recovery.explain`."""
        return await self._explain(id).run()

    async def retry(self, id: str) -> None:
        """As `Recovery.retry`."""
        await self._retry(id).run()

    async def abandon(self, id: str) -> None:
        """As `Recovery.abandon`."""
        await self._abandon(id).run()
