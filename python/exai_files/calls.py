"""Every verb, once: a call of the Rust core and what to make of its answer.

The two clients over it only differ in how they come by that answer: `Call.wait` or `Call.run`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from exai_files import _core
from exai_files.arguments import (
    FileReference,
    Seconds,
    as_json,
    deletion_cap,
    destination,
    in_seconds,
    labels,
    place,
    reference,
    span,
    texts,
)
from exai_files.errors import InvalidRequestError
from exai_files.health import FileHealth, PlatformHealth
from exai_files.keyring import SystemKeyring
from exai_files.overrides import key_functions, overrides_of
from exai_files.records import (
    Content,
    Download,
    FileRecord,
    PlatformInfo,
    Reconciliation,
    RemoteFile,
    Replica,
    Setting,
    UploadPlan,
    WhenFull,
)
from exai_files.transfers import Progress, Reporter, tick_forever, with_ticks
from exai_files.users import Actor, UserQuota, actor_of, json_of

__all__ = ["Call", "Calls", "twin_of"]

T = TypeVar("T")

_PAGE = 200


@dataclass
class Call(Generic[T]):
    """One operation of the core, and what to make of its answer."""

    pending: _core.Pending
    make: Callable[[Any], T]
    reporter: Reporter | None = None

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
        ticking = asyncio.ensure_future(tick_forever(reporter))
        try:
            answer = await with_ticks(self.pending, ticking)
        finally:
            ticking.cancel()
            reporter.tick()
        return self.make(answer)


def twin_of(twin: Callable[..., object]) -> Callable[[T], T]:
    """Gives an awaited verb the documentation of its waiting twin."""

    def document(verb: T) -> T:
        verb.__doc__ = twin.__doc__
        return verb

    return document


def _content(answer: Any) -> Content:  # noqa: ANN401  (the core's pair)
    return Content(**answer[0], data=answer[1])


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
        overrides = overrides_of(settings, registry, platforms, timeout)
        self.core = _core.Client(
            None if config_file is None else Path(config_file),
            dict(os.environ if environment is None else environment),
            overrides,
            key_functions(platforms),
            SystemKeyring(),
        )
        self.is_closed = False

    def acting_as(self, actor: Actor | str) -> Calls:
        calls = object.__new__(Calls)
        calls.core, calls.is_closed = self.core.acting_as(json_of(actor)), self.is_closed
        return calls

    def actor(self, token: str | None) -> Actor:
        return actor_of(self.core.verify(token))

    def quota(self, user: str | None) -> Call[UserQuota]:
        return Call(self.core.quota(user), lambda data: UserQuota(**data))

    def close(self) -> None:
        self.is_closed = True
        self.core.close()

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
        keep_for: float | None = None,
        when_full: WhenFull | None = None,
    ) -> Call[FileRecord]:
        reporter = Reporter(progress)
        pending = self.core.upload(
            **given,
            **destination(to, prefer),
            account=account,
            purpose=purpose,
            owner=owner,
            labels_json=labels(tags=tags, metadata=metadata),
            paranoid=paranoid,
            bulk=bulk,
            min_ttl=span(min_ttl),
            keep_for=keep_for,
            when_full=when_full,
            timeout=in_seconds(timeout),
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
        when_full: WhenFull | None,
    ) -> Call[UploadPlan]:
        pending = self.core.plan(
            **given, **destination(to, prefer), account=account, purpose=purpose, when_full=when_full
        )
        return Call(pending, UploadPlan._from_core)

    def ensure(
        self,
        file: FileReference,
        platform: str,
        purpose: str | None,
        max_age: Seconds,
        min_ttl: Seconds,
        when_full: WhenFull | None,
        timeout: Seconds | None,
        progress: Progress | None,
    ) -> Call[Replica]:
        reporter = Reporter(progress)
        pending = self.core.ensure(
            reference(file),
            platform=platform,
            purpose=purpose,
            max_age=in_seconds(max_age) or 0.0,
            min_ttl=span(min_ttl),
            when_full=when_full,
            timeout=in_seconds(timeout),
            transfers=reporter.transfers,
        )
        return Call(pending, Replica._from_core, reporter)

    def move(
        self,
        file: FileReference,
        from_: str,
        to: str,
        purpose: str | None,
        when_full: WhenFull | None,
        timeout: Seconds | None,
        progress: Progress | None,
    ) -> Call[FileRecord]:
        reporter = Reporter(progress)
        pending = self.core.relocate(
            reference(file),
            from_=from_,
            to=to,
            purpose=purpose,
            when_full=when_full,
            timeout=in_seconds(timeout),
            transfers=reporter.transfers,
        )
        return Call(pending, FileRecord._from_core, reporter)

    def page(self, file_filter: str, after: str | None) -> Call[list[FileRecord]]:
        pending = self.core.list(file_filter, after, _PAGE)
        return Call(pending, lambda rows: list(map(FileRecord._from_core, rows)))

    def table(self, file_filter: str) -> Call[_core.Table]:
        return Call(self.core.table(file_filter), lambda table: table)

    def get(self, file: FileReference) -> Call[FileRecord]:
        return Call(self.core.get(reference(file)), FileRecord._from_core)

    def content(self, file: FileReference, platform: str | None, timeout: Seconds | None) -> Call[Content]:
        pending = self.core.content(reference(file), place(file, platform), in_seconds(timeout))
        return Call(pending, _content)

    def text(self, file: FileReference, platform: str | None, timeout: Seconds | None) -> Call[str]:
        return Call(self.core.text(reference(file), place(file, platform), in_seconds(timeout)), str)

    def download(
        self, file: FileReference, to: str | os.PathLike[str], platform: str | None, timeout: Seconds | None
    ) -> Call[Download]:
        pending = self.core.download(reference(file), Path(to), place(file, platform), in_seconds(timeout))
        return Call(pending, Download._from_core)

    def wait_ready(self, file: FileReference, platform: str | None, timeout: Seconds | None) -> Call[Replica]:
        pending = self.core.wait_ready(reference(file), place(file, platform), in_seconds(timeout))
        return Call(pending, Replica._from_core)

    def check(
        self, file: FileReference, platform: str | None, read: bool, timeout: Seconds | None
    ) -> Call[tuple[FileHealth, ...]]:
        pending = self.core.check(reference(file), place(file, platform), read, in_seconds(timeout))
        return Call(pending, lambda rows: tuple(map(FileHealth._from_core, rows)))

    def delete(self, file: FileReference, platform: str | None, timeout: Seconds | None) -> Call[FileRecord]:
        pending = self.core.delete(reference(file), place(file, platform), in_seconds(timeout))
        return Call(pending, FileRecord._from_core)

    def update(
        self,
        file: FileReference,
        tags: Sequence[str],
        untag: Sequence[str],
        metadata: Mapping[str, Any] | None,
        owner: str | None,
    ) -> Call[FileRecord]:
        said = labels(tags=tags, untag=untag, metadata=metadata, owner=owner)
        return Call(self.core.label(reference(file), said), FileRecord._from_core)

    def trash(self, file: FileReference) -> Call[FileRecord]:
        return Call(self.core.trash(reference(file)), FileRecord._from_core)

    def restore(self, file: FileReference) -> Call[FileRecord]:
        return Call(self.core.restore(reference(file)), FileRecord._from_core)

    def platforms(self) -> Call[list[PlatformInfo]]:
        return Call(self.core.platforms(), lambda rows: [PlatformInfo(**row) for row in rows])

    def capabilities(self, platform: str) -> Mapping[str, Any]:
        known: dict[str, Any] = self.core.capabilities(platform)
        return known

    def health(self) -> Call[list[PlatformHealth]]:
        return Call(self.core.health(), lambda rows: list(map(PlatformHealth._from_core, rows)))

    def set_breaker(self, platform: str, mode: str, operation: str | None) -> Call[None]:
        return Call(self.core.set_breaker(platform, operation, mode), lambda _: None)

    def reset_breaker(self, platform: str, operation: str | None) -> Call[None]:
        return Call(self.core.reset_breaker(platform, operation), lambda _: None)

    def list_remote(self, platform: str, account: str | None, timeout: Seconds | None) -> Call[list[RemoteFile]]:
        pending = self.core.list_remote(platform, account, in_seconds(timeout))
        return Call(pending, lambda rows: list(map(RemoteFile._from_core, rows)))

    def get_remote(
        self, platform: str, remote_id: str, account: str | None, timeout: Seconds | None
    ) -> Call[RemoteFile]:
        pending = self.core.get_remote(platform, remote_id, account, in_seconds(timeout))
        return Call(pending, RemoteFile._from_core)

    def content_remote(
        self, platform: str, remote_id: str, account: str | None, timeout: Seconds | None
    ) -> Call[Content]:
        pending = self.core.content_remote(platform, remote_id, account, in_seconds(timeout))
        return Call(pending, _content)

    def delete_remote(self, platform: str, remote_id: str, account: str | None, timeout: Seconds | None) -> Call[None]:
        return Call(self.core.delete_remote(platform, remote_id, account, in_seconds(timeout)), lambda _: None)

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
            "platforms": texts("platforms", platform),
            "max_delete": deletion_cap(max_delete),
            "min_age": int(span(min_age)),
        }
        return Call(self.core.reconcile(as_json(request), in_seconds(timeout)), Reconciliation._from_core)

    def settings(self) -> list[Setting]:
        return [Setting(**setting) for setting in self.core.settings()]
