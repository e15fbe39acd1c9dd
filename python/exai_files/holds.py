"""Keeping files: leases, pins, legal holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from exai_files.calls import Call, Calls, FileReference, Seconds, reference, span
from exai_files.records import Replica, instant, perhaps

__all__ = ["AsyncLease", "Hold", "Lease"]


@dataclass(frozen=True)
class Hold:
    """One reason that a file is kept for.

    Attributes:
        kind: "lease" (somebody uses it on a platform), "pin" (it is not to make room for others), or "legal" (nobody may
            delete it).
        platform: Of a lease: where the file has to be.
        until: When it ends (UTC); None until it is released.
    """

    id: str
    kind: Literal["lease", "pin", "legal"]
    digest: str
    platform: str | None
    purpose: str | None
    reason: str | None
    until: datetime | None
    created_at: datetime

    @classmethod
    def _from_core(cls, data: Mapping[str, Any]) -> Hold:
        return cls(**{**data, "until": perhaps(data["until"]), "created_at": instant(data["created_at"])})


class _Leased:
    """What both faces have."""

    def __init__(self, calls: Calls, data: Mapping[str, Any]) -> None:
        self._calls = calls
        self.replica = Replica._from_core(data["replica"])
        """The copy, as it was when the lease began; a watcher may have renewed it since: `ensure` tells."""
        self.hold = Hold._from_core(data["hold"])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.replica!r}, until {self.hold.until})"


class Lease(_Leased):
    """A file that a platform keeps for you: released at the end of a `with` block."""

    def renew(self, for_: Seconds) -> None:
        """Keep it until so long from now. Raises `NotFoundError` when it was released, or has run out."""
        extension(self._calls, self.hold.id, for_).wait()

    def release(self) -> None:
        """Keep it no more."""
        released(self._calls, self.hold.id).wait()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class AsyncLease(_Leased):
    """As `Lease`, awaited: released at the end of an `async with` block."""

    async def renew(self, for_: Seconds) -> None:
        """As `Lease.renew`."""
        await extension(self._calls, self.hold.id, for_).run()

    async def release(self) -> None:
        """As `Lease.release`."""
        await released(self._calls, self.hold.id).run()

    async def __aenter__(self) -> AsyncLease:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.release()


def leasing(
    calls: Calls, file: FileReference, platform: str, purpose: str | None, for_: Seconds, timeout: Seconds | None
) -> Call[Mapping[str, Any]]:
    """Leases a file."""
    patience = None if timeout is None else span(timeout)
    return Call(calls.core.lease(reference(file), platform, purpose, span(for_), patience), lambda data: data)


def holding(calls: Calls, file: FileReference, kind: str, reason: str | None) -> Call[Hold]:
    """Pins a file, or puts it under legal hold."""
    return Call(calls.core.hold(reference(file), kind, reason), Hold._from_core)


def held(calls: Calls, file: FileReference) -> Call[list[Hold]]:
    """What holds a file."""
    return Call(calls.core.holds(reference(file)), lambda rows: list(map(Hold._from_core, rows)))


def extension(calls: Calls, id: str, for_: Seconds) -> Call[None]:
    """Lets a hold end later, or sooner."""
    return Call(calls.core.extend_hold(id, span(for_)), lambda _: None)


def released(calls: Calls, id: str) -> Call[None]:
    """Ends a hold."""
    return Call(calls.core.release(id), lambda _: None)
