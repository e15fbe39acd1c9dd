"""Keeping files: leases, pins, legal holds."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Literal

from exai_files.arguments import FileReference, Seconds, reference, span
from exai_files.calls import Call, Calls, twin_of
from exai_files.errors import Error, InvalidRequestError, NotFoundError
from exai_files.records import Replica, instant, perhaps

__all__ = ["AsyncHolding", "AsyncLease", "Hold", "Holding", "Lease", "PendingLease"]

_log = logging.getLogger("exai_files.holds")


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


@contextlib.contextmanager
def _at_the_end(of: BaseException | None) -> Iterator[None]:
    """Releasing what is released already is fine, and never hides the exception that the block ends with."""
    try:
        yield
    except NotFoundError:
        pass
    except Error as error:
        if of is None:
            raise
        _log.warning("a lease could not be released, and ends in its time: %s", error)


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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _at_the_end(of=error):
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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _at_the_end(of=error):
            await self.release()


class PendingLease:
    """A lease to be: await it, or enter it at once with `async with`."""

    def __init__(self, calls: Calls, call: Call[Mapping[str, Any]]) -> None:
        self._calls, self._call = calls, call
        self._lease: AsyncLease | None = None

    def __await__(self) -> Generator[Any, None, AsyncLease]:
        return self._begin().__await__()

    async def _begin(self) -> AsyncLease:
        return AsyncLease(self._calls, await self._call.run())

    async def __aenter__(self) -> AsyncLease:
        self._lease = await self._begin()
        return self._lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lease is not None:
            await self._lease.__aexit__(kind, error, trace)


class Holding:
    """What `Client` does to keep files."""

    _calls: Calls

    def lease(
        self,
        file: FileReference,
        *,
        platform: str,
        for_: Seconds,
        purpose: str | None = None,
        timeout: Seconds | None = None,
    ) -> Lease:
        """Make sure that a platform has a file, and that it stays there for as long as you say.

        Nobody can delete it there meanwhile; `watch` renews it before the platform drops it, and makes it anew when it is
        lost.

        Args:
            file: A record, replica, digest, remote id or name.
            platform: The platform.
            purpose: As for `upload`.
            for_: How long, in seconds or as a timedelta.
            timeout: Deadline of the whole call.

        Returns:
            The lease, to be used in a `with` block, or released. `AsyncClient` gives one to be entered as it is
            (`async with files.lease(…) as lease:`), or awaited. At the end of the block it is released if it is not yet;
            an exception of the block is passed on also when that fails.

        Raises:
            As `ensure`.
        """
        return Lease(self._calls, leasing(self._calls, file, platform, purpose, for_, timeout).wait())

    def hold(self, file: FileReference, kind: Literal["pin", "legal"] = "pin", *, reason: str | None = None) -> Hold:
        """Keep a file until that is released.

        Args:
            file: A record, replica, digest, remote id or name.
            kind: "pin": it does not make room for others, and neither rules nor time limits take it away, nor is it purged
                from the trash; it can be deleted. "legal": nobody may delete it either.
            reason: Why, for those who ask.

        Raises:
            NotFoundError: The file is not known.
        """
        return holding(self._calls, file, kind, reason).wait()

    def holds(self, file: FileReference) -> list[Hold]:
        """What holds a file now: leases, pins, legal holds.

        Raises:
            NotFoundError: The file is not known.
        """
        return held(self._calls, file).wait()

    def release(self, hold: Hold | str) -> None:
        """End a hold, by its id.

        Raises:
            NotFoundError: It was released already.
            InvalidRequestError: It is neither a hold nor an id.
        """
        released(self._calls, _id(hold)).wait()


class AsyncHolding:
    """As `Holding`, awaited."""

    _calls: Calls

    @twin_of(Holding.lease)
    def lease(
        self,
        file: FileReference,
        *,
        platform: str,
        for_: Seconds,
        purpose: str | None = None,
        timeout: Seconds | None = None,
    ) -> PendingLease:
        return PendingLease(self._calls, leasing(self._calls, file, platform, purpose, for_, timeout))

    @twin_of(Holding.hold)
    async def hold(
        self, file: FileReference, kind: Literal["pin", "legal"] = "pin", *, reason: str | None = None
    ) -> Hold:
        return await holding(self._calls, file, kind, reason).run()

    @twin_of(Holding.holds)
    async def holds(self, file: FileReference) -> list[Hold]:
        return await held(self._calls, file).run()

    @twin_of(Holding.release)
    async def release(self, hold: Hold | str) -> None:
        await released(self._calls, _id(hold)).run()


def _id(hold: Hold | str) -> str:
    if isinstance(hold, Hold):
        return hold.id
    if isinstance(hold, str):
        return hold
    raise InvalidRequestError(f"{type(hold).__name__} is no hold", hint="pass a Hold, or its id")


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
    return Call(calls.core.extend_lease(id, span(for_)), lambda _: None)


def released(calls: Calls, id: str) -> Call[None]:
    """Ends a hold."""
    return Call(calls.core.release(id), lambda _: None)
