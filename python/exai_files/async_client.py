"""`AsyncClient`: every verb of `Client`, awaited."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar

from exai_files.audit import AsyncAudit
from exai_files.calls import Calls, FileReference, Progress, Seconds, Source, readable
from exai_files.client import Client
from exai_files.copies import AsyncCopies
from exai_files.errors import NotFoundError
from exai_files.holds import AsyncLease, Hold, held, holding, leasing, released
from exai_files.listing import AsyncListing, file_filter
from exai_files.records import (
    BreakerMode,
    Content,
    Download,
    FileRecord,
    FileStatus,
    PlatformHealth,
    PlatformInfo,
    Reconciliation,
    RemoteFile,
    Replica,
    Setting,
    UploadPlan,
)
from exai_files.recovery import AsyncRecovery
from exai_files.status import Status, asked
from exai_files.watching import AsyncWatch, Hook

__all__ = ["AsyncClient"]

T = TypeVar("T")


async def _entered(spools: contextlib.ExitStack, source: Source, name: str | None) -> dict[str, Any]:
    """As `readable`; a stream, which may block, is read in a thread that a cancelled task need not wait for."""
    opening = readable(source, name)
    if isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)):
        return spools.enter_context(opening)
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[dict[str, Any]] = loop.create_future()

    def hand_over(given: dict[str, Any] | None, error: BaseException | None) -> None:
        if opened.cancelled():
            if given is not None:
                opening.__exit__(None, None, None)
        elif error is not None:
            opened.set_exception(error)
        elif given is not None:
            spools.push(opening)
            opened.set_result(given)

    def read() -> None:
        given, failure = None, None
        try:
            given = opening.__enter__()
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(hand_over, given, failure)

    threading.Thread(target=read, name="exai-files-reader", daemon=True).start()
    return await opened


def _as(twin: Callable[..., object]) -> Callable[[T], T]:
    """Gives an awaited verb the documentation of its waiting twin."""

    def document(verb: T) -> T:
        verb.__doc__ = twin.__doc__
        return verb

    return document


class AsyncClient:
    """Files on AI platforms, for code that awaits: the verbs of `Client`, as coroutines.

    Cancelling a task stops its transfer.

    Example:
        >>> async with exai_files.AsyncClient() as files:
        ...     record = await files.upload("paper.pdf", to="moonshot")
    """

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
        self._calls = Calls(
            config_file=config_file,
            registry=registry,
            platforms=platforms,
            timeout=timeout,
            settings=settings,
            environment=environment,
        )

    @_as(Client.upload)
    async def upload(
        self,
        source: Source,
        *,
        to: str | Sequence[str] | None = None,
        prefer: Sequence[str] | None = None,
        account: str | None = None,
        name: str | None = None,
        purpose: str | None = None,
        owner: str | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        paranoid: bool = False,
        bulk: bool = False,
        timeout: Seconds | None = None,
        progress: Progress | None = None,
    ) -> FileRecord:
        with contextlib.ExitStack() as spools:
            given = await _entered(spools, source, name)
            call = self._calls.upload(
                given,
                to,
                purpose,
                timeout,
                progress,
                prefer=prefer,
                account=account,
                owner=owner,
                tags=tags,
                metadata=metadata,
                paranoid=paranoid,
                bulk=bulk,
            )
            return await call.run()

    @_as(Client.plan)
    async def plan(
        self,
        source: Source,
        *,
        to: str | Sequence[str] | None = None,
        prefer: Sequence[str] | None = None,
        account: str | None = None,
        name: str | None = None,
        purpose: str | None = None,
    ) -> UploadPlan:
        with contextlib.ExitStack() as spools:
            given = await _entered(spools, source, name)
            return await self._calls.plan(given, to, prefer, account, purpose).run()

    @_as(Client.ensure)
    async def ensure(
        self,
        file: FileReference | Source,
        *,
        platform: str,
        name: str | None = None,
        purpose: str | None = None,
        max_age: Seconds = 3600.0,
        min_ttl: Seconds = 0.0,
        timeout: Seconds | None = None,
        progress: Progress | None = None,
    ) -> Replica:
        if isinstance(file, (str, FileRecord, Replica)):
            return await self._calls.ensure(file, platform, purpose, max_age, min_ttl, timeout, progress).run()
        with contextlib.ExitStack() as spools:
            given = await _entered(spools, file, name)
            record = await self._calls.upload(given, platform, purpose, timeout, progress, min_ttl=min_ttl).run()
            try:
                return await self._calls.ensure(record, platform, purpose, max_age, min_ttl, timeout, None).run()
            except NotFoundError:  # lost there, which is known now
                record = await self._calls.upload(given, platform, purpose, timeout, progress, min_ttl=min_ttl).run()
                return await self._calls.ensure(record, platform, purpose, max_age, min_ttl, timeout, None).run()

    @_as(Client.list)
    def list(
        self,
        *,
        platform: str | None = None,
        account: str | None = None,
        name: str | None = None,
        digest: str | None = None,
        tag: str | Sequence[str] | None = None,
        owner: str | None = None,
        status: FileStatus | None = None,
        newer_than: Seconds | datetime | None = None,
        older_than: Seconds | datetime | None = None,
        larger_than: int | None = None,
        smaller_than: int | None = None,
        expires_within: Seconds | datetime | None = None,
    ) -> AsyncListing:
        found = file_filter(
            platform=platform,
            account=account,
            name=name,
            digest=digest,
            tag=tag,
            owner=owner,
            status=status,
            newer_than=newer_than,
            older_than=older_than,
            larger_than=larger_than,
            smaller_than=smaller_than,
            expires_within=expires_within,
        )
        return AsyncListing(self._calls, found)

    @_as(Client.list_remote)
    async def list_remote(
        self, platform: str, *, account: str | None = None, timeout: Seconds | None = None
    ) -> builtins.list[RemoteFile]:
        return await self._calls.list_remote(platform, account, timeout).run()

    @_as(Client.get)
    async def get(self, file: FileReference) -> FileRecord:
        return await self._calls.get(file).run()

    @_as(Client.content)
    async def content(
        self, file: FileReference, *, platform: str | None = None, timeout: Seconds | None = None
    ) -> Content:
        return await self._calls.content(file, platform, timeout).run()

    @_as(Client.text)
    async def text(self, file: FileReference, *, platform: str | None = None, timeout: Seconds | None = None) -> str:
        return await self._calls.text(file, platform, timeout).run()

    @_as(Client.download)
    async def download(
        self,
        file: FileReference,
        to: str | os.PathLike[str],
        *,
        platform: str | None = None,
        timeout: Seconds | None = None,
    ) -> Download:
        return await self._calls.download(file, to, platform, timeout).run()

    @_as(Client.delete)
    async def delete(
        self, file: FileReference, *, platform: str | None = None, timeout: Seconds | None = None
    ) -> FileRecord:
        return await self._calls.delete(file, platform, timeout).run()

    @_as(Client.update)
    async def update(
        self,
        file: FileReference,
        *,
        tags: Sequence[str] = (),
        untag: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        owner: str | None = None,
    ) -> FileRecord:
        return await self._calls.update(file, tags, untag, metadata, owner).run()

    @_as(Client.trash)
    async def trash(self, file: FileReference) -> FileRecord:
        return await self._calls.trash(file).run()

    @_as(Client.restore)
    async def restore(self, file: FileReference) -> FileRecord:
        return await self._calls.restore(file).run()

    @_as(Client.reconcile)
    async def reconcile(
        self,
        *,
        platform: str | Sequence[str] | None = None,
        account: str | None = None,
        only_remote: Literal["report", "adopt", "delete"] = "report",
        only_local: Literal["report", "forget", "reupload"] = "report",
        winner: Literal["none", "newest", "local", "platform"] = "none",
        max_delete: int | str = 10,
        min_age: Seconds = 3600.0,
        dry_run: bool = False,
        with_equal: bool = False,
        timeout: Seconds | None = None,
    ) -> Reconciliation:
        return await self._calls.reconcile(
            platform=platform,
            account=account,
            only_remote=only_remote,
            only_local=only_local,
            winner=winner,
            max_delete=max_delete,
            min_age=min_age,
            dry_run=dry_run,
            with_equal=with_equal,
            timeout=timeout,
        ).run()

    @_as(Client.lease)
    async def lease(
        self,
        file: FileReference,
        *,
        platform: str,
        for_: Seconds,
        purpose: str | None = None,
        timeout: Seconds | None = None,
    ) -> AsyncLease:
        return AsyncLease(self._calls, await leasing(self._calls, file, platform, purpose, for_, timeout).run())

    @_as(Client.hold)
    async def hold(
        self, file: FileReference, kind: Literal["pin", "legal"] = "pin", *, reason: str | None = None
    ) -> Hold:
        return await holding(self._calls, file, kind, reason).run()

    @_as(Client.holds)
    async def holds(self, file: FileReference) -> builtins.list[Hold]:
        return await held(self._calls, file).run()

    @_as(Client.release)
    async def release(self, hold: Hold | str) -> None:
        await released(self._calls, hold if isinstance(hold, str) else hold.id).run()

    @_as(Client.watch)
    def watch(
        self,
        *,
        every: Seconds = 300.0,
        heal: bool = False,
        max_lost: int = 100,
        hooks: Mapping[str, Hook] | None = None,
    ) -> AsyncWatch:
        return AsyncWatch(self._calls, every, heal, max_lost, hooks or {})

    @_as(Client.status)
    async def status(self) -> Status:
        return await asked(self._calls).run()

    @property
    def recovery(self) -> AsyncRecovery:
        """As `Client.recovery`."""
        return AsyncRecovery(self._calls.core.recovery())

    @property
    def copies(self) -> AsyncCopies:
        """As `Client.copies`."""
        return AsyncCopies(self._calls.core.copies())

    @property
    def audit(self) -> AsyncAudit:
        """As `Client.audit`."""
        return AsyncAudit(self._calls.core.audit())

    @_as(Client.platforms)
    async def platforms(self) -> builtins.list[PlatformInfo]:
        return await self._calls.platforms().run()

    @_as(Client.health)
    async def health(self) -> builtins.list[PlatformHealth]:
        return await self._calls.health().run()

    @_as(Client.set_breaker)
    async def set_breaker(self, platform: str, mode: BreakerMode, *, operation: str | None = None) -> None:
        await self._calls.set_breaker(platform, mode, operation).run()

    @_as(Client.reset_breaker)
    async def reset_breaker(self, platform: str, *, operation: str | None = None) -> None:
        await self._calls.reset_breaker(platform, operation).run()

    @_as(Client.capabilities)
    def capabilities(self, platform: str) -> Mapping[str, Any]:
        return self._calls.capabilities(platform)

    @_as(Client.settings)
    def settings(self) -> builtins.list[Setting]:
        return self._calls.settings()

    @_as(Client.close)
    async def close(self) -> None:
        await asyncio.to_thread(self._calls.core.close)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
