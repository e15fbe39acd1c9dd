"""Every verb, once: a call of the Rust core and what to make of its answer.

`client.py` has the two clients over it, which only differ in how they come by that answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import math
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import IO, Any, Generic, TypeVar, Union

from exai_files import _core
from exai_files.errors import ConfigError, InvalidRequestError
from exai_files.records import (
    Content,
    Download,
    FileRecord,
    PlatformHealth,
    PlatformInfo,
    Reconciliation,
    RemoteFile,
    Replica,
    Setting,
    Transfer,
    UploadPlan,
)

__all__ = ["Call", "Calls", "FileReference", "Progress", "Seconds", "Source", "readable"]

T = TypeVar("T")

Source = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, IO[bytes]]
"""What can be uploaded: a path, the bytes themselves, or an open binary file."""

FileReference = Union[str, FileRecord, Replica]
"""Which file: a record or replica, a digest or at least six characters of one, a remote id, or an exact name."""

Seconds = Union[float, timedelta]
"""A duration."""

Progress = Callable[[Transfer], object]
"""Called in the caller's own thread (or task) about twenty times a second, for each transfer that moved."""

_PAGE = 200
_LONGEST = 1e11
"""Seconds: 3,000 years, beyond which nothing happens."""
_SPOOL_BYTES = 4 << 20
_TICK = 0.05
_numbers = itertools.count(1)


def _seconds(duration: Seconds | None) -> float | None:
    if duration is None or isinstance(duration, timedelta):
        return None if duration is None else duration.total_seconds()
    if isinstance(duration, bool) or not isinstance(duration, (int, float)) or math.isnan(duration):
        raise InvalidRequestError(
            f"a duration of {duration!r} is not possible", hint="give seconds as a number, or a timedelta"
        )
    return float(duration)


def reference(file: FileReference) -> str:
    """What the core knows a file by."""
    if isinstance(file, FileRecord):
        return file.digest
    if isinstance(file, Replica):
        return file.remote_id
    if isinstance(file, str):
        return file
    raise InvalidRequestError(
        f"{type(file).__name__} does not name a file",
        hint="pass a FileRecord, a Replica, a digest, a remote id or a name",
    )


def _names(platforms: str | Sequence[str] | None) -> list[str]:
    return texts("platforms", platforms)


def _destination(to: str | Sequence[str] | None, prefer: Sequence[str] | None) -> dict[str, Any]:
    if to == "any":
        return {"to": [], "prefer": _names(prefer)}
    if prefer is not None:
        raise InvalidRequestError('`prefer` was given without to="any"', hint='pass to="any", or leave it out')
    return {"to": _names(to), "prefer": None}


@contextlib.contextmanager
def readable(source: Source, name: str | None) -> Iterator[dict[str, Any]]:
    """The source as the core takes it: a path, or bytes with a name."""
    if name is not None and not isinstance(name, str):
        raise InvalidRequestError(f"a name cannot be a {type(name).__name__}", hint="pass text")
    given = {"path": None, "data": None, "is_spool": False, "name": name}
    if isinstance(source, (bytes, bytearray, memoryview)):
        yield {**given, "data": bytes(source)}
    elif isinstance(source, (str, os.PathLike)):
        yield {**given, "path": Path(os.fsdecode(source))}
    elif hasattr(source, "read"):
        with _spooled(source) as kept:
            yield {**given, **kept, "name": name or _name_of(source)}
    else:
        raise InvalidRequestError(
            f"{type(source).__name__} cannot be uploaded", hint="pass a path, bytes or a file opened in binary mode"
        )


@contextlib.contextmanager
def _spooled(file: IO[bytes]) -> Iterator[dict[str, Any]]:
    """A stream can be read once, but sending may take two attempts: keep it, on disk when it is large."""
    head = io.BytesIO()
    while head.tell() <= _SPOOL_BYTES and (piece := _read(file)):
        head.write(piece)
    if head.tell() <= _SPOOL_BYTES:
        yield {"data": head.getvalue()}
        return
    with tempfile.NamedTemporaryFile(prefix="exai-files-") as spool:
        spool.write(head.getbuffer())
        while piece := _read(file):
            spool.write(piece)
        spool.flush()
        yield {"path": Path(spool.name), "is_spool": True}


def _read(file: IO[bytes]) -> bytes:
    """The next piece; pipes and sockets give less than they are asked for."""
    try:
        piece = file.read(_SPOOL_BYTES)
    except (OSError, ValueError) as error:
        raise InvalidRequestError(
            f"the file cannot be read: {error}", hint="pass one that is open for reading"
        ) from error
    if piece is None:
        raise InvalidRequestError(
            "the file is in non-blocking mode and has nothing yet", hint="read it, and pass bytes"
        )
    if not isinstance(piece, bytes):
        raise InvalidRequestError("the file is opened in text mode", hint='open it in binary mode: open(path, "rb")')
    return piece


def _name_of(file: IO[bytes]) -> str | None:
    name = getattr(file, "name", None)
    # `<stdin>` names no file.
    return Path(name).name if isinstance(name, str) and not name.startswith("<") else None


class _Reporter:
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


@dataclass
class Call(Generic[T]):
    """One operation of the core, and what to make of its answer."""

    pending: _core.Pending
    make: Callable[[Any], T]
    reporter: _Reporter | None = None

    def wait(self) -> T:
        reporter = self.reporter
        if reporter is None or not reporter.wanted:
            return self.make(self.pending.wait())
        try:
            return self.make(self.pending.wait(reporter.tick))
        finally:
            reporter.tick()

    async def run(self) -> T:
        reporter = self.reporter
        if reporter is None or not reporter.wanted:
            return self.make(await self.pending)
        ticking = asyncio.ensure_future(_tick_forever(reporter))
        try:
            answer = await _with_ticks(self.pending, ticking)
        finally:
            ticking.cancel()
            reporter.tick()
        return self.make(answer)


async def _tick_forever(reporter: _Reporter) -> None:
    while True:
        await asyncio.sleep(_TICK)
        reporter.tick()


async def _with_ticks(pending: Awaitable[T], ticking: asyncio.Future[None]) -> T:
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


def overrides_of(settings: Mapping[str, Any] | None, registry: str | os.PathLike[str] | None) -> str:
    """Settings given in a call, as JSON."""
    return json.dumps(_overrides(settings, registry))


def _overrides(settings: Mapping[str, Any] | None, registry: str | os.PathLike[str] | None) -> dict[str, Any]:
    overrides: dict[str, Any] = json.loads(json.dumps(_table("settings", settings), default=str))
    if registry is not None:
        place = os.fspath(registry)
        _inner(overrides, "registry")["url" if "://" in place else "path"] = place
    return overrides


class Calls:
    """Every verb, once."""

    def __init__(
        self,
        *,
        config_file: str | os.PathLike[str] | None = None,
        registry: str | os.PathLike[str] | None = None,
        platforms: Mapping[str, Mapping[str, Any]] | None = None,
        timeout: Seconds | None = None,
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        overrides = _overrides(settings, registry)
        for name, values in _table("platforms", platforms).items():
            _inner(_inner(overrides, "platforms"), name).update(_table(f"platforms.{name}", values))
        if timeout is not None:
            overrides["deadline"] = _seconds(timeout)
        self.core = _core.Client(
            None if config_file is None else Path(config_file),
            dict(os.environ if environment is None else environment),
            json.dumps(overrides),
        )

    def upload(
        self,
        given: Mapping[str, Any],
        to: str | Sequence[str] | None,
        purpose: str | None,
        timeout: Seconds | None,
        progress: Progress | None,
        *,
        prefer: Sequence[str] | None = None,
        account: str | None = None,
        owner: str | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        paranoid: bool = False,
        bulk: bool = False,
        min_ttl: Seconds = 0.0,
    ) -> Call[FileRecord]:
        reporter = _Reporter(progress)
        pending = self.core.upload(
            **given,
            **_destination(to, prefer),
            account=account,
            purpose=purpose,
            owner=owner,
            labels_json=_labels(tags=tags, metadata=metadata),
            paranoid=paranoid,
            bulk=bulk,
            min_ttl=span(min_ttl),
            timeout=_seconds(timeout),
            transfers=reporter.transfers,
        )
        return Call(pending, FileRecord._from_core, reporter)

    def plan(
        self,
        given: Mapping[str, Any],
        to: str | Sequence[str] | None,
        prefer: Sequence[str] | None,
        account: str | None,
        purpose: str | None,
    ) -> Call[UploadPlan]:
        pending = self.core.plan(**given, **_destination(to, prefer), account=account, purpose=purpose)
        return Call(pending, UploadPlan._from_core)

    def ensure(
        self,
        file: FileReference,
        platform: str,
        purpose: str | None,
        max_age: Seconds,
        min_ttl: Seconds,
        timeout: Seconds | None,
        progress: Progress | None,
    ) -> Call[Replica]:
        reporter = _Reporter(progress)
        pending = self.core.ensure(
            reference(file),
            platform=platform,
            purpose=purpose,
            max_age=_seconds(max_age) or 0.0,
            min_ttl=span(min_ttl),
            timeout=_seconds(timeout),
            transfers=reporter.transfers,
        )
        return Call(pending, Replica._from_core, reporter)

    def page(self, file_filter: str, after: str | None) -> Call[list[FileRecord]]:
        pending = self.core.list(file_filter, after, _PAGE)
        return Call(pending, lambda rows: list(map(FileRecord._from_core, rows)))

    def table(self, file_filter: str) -> Call[_core.Table]:
        return Call(self.core.table(file_filter), lambda table: table)

    def update(
        self,
        file: FileReference,
        tags: Sequence[str],
        untag: Sequence[str],
        metadata: Mapping[str, Any] | None,
        owner: str | None,
    ) -> Call[FileRecord]:
        labels = _labels(tags=tags, untag=untag, metadata=metadata, owner=owner)
        return Call(self.core.label(reference(file), labels), FileRecord._from_core)

    def trash(self, file: FileReference) -> Call[FileRecord]:
        return Call(self.core.trash(reference(file)), FileRecord._from_core)

    def restore(self, file: FileReference) -> Call[FileRecord]:
        return Call(self.core.restore(reference(file)), FileRecord._from_core)

    def list_remote(self, platform: str, account: str | None, timeout: Seconds | None) -> Call[list[RemoteFile]]:
        pending = self.core.list_remote(platform, account, _seconds(timeout))
        return Call(pending, lambda rows: list(map(RemoteFile._from_core, rows)))

    def get(self, file: FileReference) -> Call[FileRecord]:
        return Call(self.core.get(reference(file)), FileRecord._from_core)

    def content(self, file: FileReference, platform: str | None, timeout: Seconds | None) -> Call[Content]:
        pending = self.core.content(reference(file), _place(file, platform), _seconds(timeout))
        return Call(pending, lambda answer: Content(**answer[0], data=answer[1]))

    def text(self, file: FileReference, platform: str | None, timeout: Seconds | None) -> Call[str]:
        return Call(self.core.text(reference(file), _place(file, platform), _seconds(timeout)), str)

    def download(
        self, file: FileReference, to: str | os.PathLike[str], platform: str | None, timeout: Seconds | None
    ) -> Call[Download]:
        pending = self.core.download(reference(file), Path(to), _place(file, platform), _seconds(timeout))
        return Call(pending, Download._from_core)

    def delete(self, file: FileReference, platform: str | None, timeout: Seconds | None) -> Call[FileRecord]:
        pending = self.core.delete(reference(file), _place(file, platform), _seconds(timeout))
        return Call(pending, FileRecord._from_core)

    def reconcile(
        self,
        *,
        platform: str | Sequence[str] | None,
        max_delete: int | str,
        min_age: Seconds,
        timeout: Seconds | None,
        **same: str | bool | None,
    ) -> Call[Reconciliation]:
        if platform is not None and not platform:
            raise InvalidRequestError("no platform was named", hint="leave `platform` out for all of them")
        request = {
            **same,
            "platforms": _names(platform),
            "max_delete": _cap(max_delete),
            "min_age": int(span(min_age)),
        }
        return Call(self.core.reconcile(as_json(request), _seconds(timeout)), Reconciliation._from_core)

    def health(self) -> Call[list[PlatformHealth]]:
        return Call(self.core.health(), lambda rows: list(map(PlatformHealth._from_core, rows)))

    def set_breaker(self, platform: str, mode: str, operation: str | None) -> Call[None]:
        return Call(self.core.set_breaker(platform, operation, mode), lambda _: None)

    def reset_breaker(self, platform: str, operation: str | None) -> Call[None]:
        return Call(self.core.reset_breaker(platform, operation), lambda _: None)

    def platforms(self) -> Call[list[PlatformInfo]]:
        return Call(self.core.platforms(), lambda rows: [PlatformInfo(**row) for row in rows])

    def capabilities(self, platform: str) -> Mapping[str, Any]:
        known: dict[str, Any] = self.core.capabilities(platform)
        return known

    def settings(self) -> list[Setting]:
        return [Setting(**setting) for setting in self.core.settings()]


def _table(name: str, given: object) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"{name} is a {type(given).__name__}", hint="give a dictionary, nested as in the file")
    return dict(given)


def _inner(table: dict[str, Any], name: str) -> dict[str, Any]:
    inner: dict[str, Any] = table.setdefault(name, {})
    if not isinstance(inner, dict):
        raise ConfigError(f"{name} is a {type(inner).__name__}", hint="give a dictionary, nested as in the file")
    return inner


def _place(file: FileReference, platform: str | None) -> str | None:
    """A replica says itself where it is."""
    return file.platform if platform is None and isinstance(file, Replica) else platform


def _labels(
    *,
    tags: Sequence[str],
    metadata: Mapping[str, Any] | None,
    untag: Sequence[str] = (),
    owner: str | None = None,
) -> str:
    """What is said of a file, as JSON."""
    given = {"tags": texts("tags", tags), "untag": texts("tags", untag)}
    try:
        return json.dumps({**given, "metadata": dict(metadata or {}), "owner": owner}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(
            f"this metadata is no JSON: {error}", hint="use text, numbers, lists and dictionaries with text as keys"
        ) from None


def _cap(most: int | str) -> dict[str, int]:
    """A number of files, or a part of them."""
    if isinstance(most, int) and not isinstance(most, bool) and most >= 0:
        return {"files": most}
    percent = most.removesuffix("%").strip() if isinstance(most, str) and most.endswith("%") else ""
    if percent.isdecimal() and int(percent) <= 100:
        return {"percent": int(percent)}
    raise InvalidRequestError(f"max_delete cannot be {most!r}", hint='give a number of files, or a part such as "10%"')


def as_json(request: Mapping[str, Any]) -> str:
    """A request for the core."""
    try:
        return json.dumps(request, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"this cannot be asked: {error}", hint="see the documentation of the call") from None


def span(duration: Seconds | None) -> float:
    """A duration that has to be given, in seconds."""
    seconds = _seconds(duration)
    if seconds is None or seconds < 0:
        raise InvalidRequestError(
            f"a duration of {duration!r} is not possible", hint="give seconds as a number, or a timedelta"
        )
    return min(seconds, _LONGEST)


def texts(what: str, given: str | Sequence[str] | None) -> list[str]:
    """One text, or several."""
    found = [given] if isinstance(given, str) else given or []
    if not isinstance(found, Iterable):
        raise InvalidRequestError(f"{given!r} is no list of {what}", hint="pass a text, or a list of them")
    listed = list(found)
    if not all(isinstance(text, str) for text in listed):
        raise InvalidRequestError(f"{given!r} is no list of {what}", hint="pass a text, or a list of them")
    return listed


def moment(given: Seconds | datetime | None, direction: int) -> int | None:
    """Microseconds since 1970 of a moment, or of a time ago (-1) or ahead (+1)."""
    if given is None:
        return None
    if not isinstance(given, datetime):
        away = direction * min(max(_seconds(given) or 0.0, 0.0), _LONGEST)
        return max(int((datetime.now(timezone.utc).timestamp() + away) * 1_000_000), 0)
    try:
        return int(given.timestamp() * 1_000_000)
    except (OverflowError, ValueError, OSError) as error:
        raise InvalidRequestError(f"{given!r} is no moment: {error}", hint="give one with a time zone") from None
