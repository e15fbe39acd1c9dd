"""`Client` and `AsyncClient`: the same verbs, waited for or awaited.

The waiting happens in Rust, so `Client` works inside a running event loop (Jupyter) too.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from exai_files.calls import Calls, FileReference, Progress, Seconds, Source, readable
from exai_files.errors import NotFoundError
from exai_files.records import (
    BreakerMode,
    Content,
    Download,
    FileRecord,
    PlatformHealth,
    PlatformInfo,
    RemoteFile,
    Replica,
    Setting,
    UploadPlan,
)

__all__ = ["AsyncClient", "Client"]

T = TypeVar("T")


class Client:
    """Files on AI platforms, for code that waits.

    Keys come from `MOONSHOT_API_KEY` (or `KIMI_API_KEY`), `ZAI_API_KEY` (or `GLM_API_KEY`) and `ZHIPUAI_API_KEY`; the
    registry is a file in the user's data directory. A client is thread-safe; `with` is for prompt closing.

    Args:
        config_file: Configuration file. Default: `EXAI_FILES_CONFIG`, `./exai-files.toml`, then the user's.
        registry: Registry file, ":memory:", or the URL of a PostgreSQL database for several hosts.
        platforms: Settings by platform, e.g. `{"moonshot": {"api_key": key, "tier": 1}}`.
        timeout: Default deadline of each call, in seconds or as timedelta: queues, retries and transfer together.
        settings: Any other settings, nested as in the configuration file.
        environment: Read instead of `os.environ`.

    Raises:
        ConfigError: With every fault of the configuration at once, each with its origin.
        RegistryError: The registry cannot be opened.

    Example:
        >>> with exai_files.Simulator() as simulator, simulator.client() as files:
        ...     record = files.upload(b"hello", name="hello.txt", to="moonshot")
        ...     record.size
        5
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

    def upload(
        self,
        source: Source,
        *,
        to: str | Sequence[str] | None = None,
        prefer: Sequence[str] | None = None,
        name: str | None = None,
        purpose: str | None = None,
        paranoid: bool = False,
        bulk: bool = False,
        timeout: Seconds | None = None,
        progress: Progress | None = None,
    ) -> FileRecord:
        """Put one file on one or more platforms, exactly once each.

        Bytes that a platform already holds for this purpose are not sent again (same SHA-256).

        Args:
            source: A path, the bytes themselves, or an open binary file.
            to: One platform or several, e.g. "moonshot" or ["moonshot", "zai"]; "any" for one platform that is well
                and can take it, which the record's `choice` names. Default: `default_platforms`.
            prefer: With "any": which to try first, best first. Default: `default_platforms`.
            name: File name the platforms show. Default: the path's last part; needed for bytes.
            purpose: What the platform will do with it, in any accepted spelling. Default: by the file's type.
            paranoid: Hash the file even if it has not changed since it was last hashed.
            bulk: It may take its time: a fifth of each rate limit is left for calls that somebody waits for.
            timeout: Deadline of the whole call, in seconds or as timedelta.
            progress: Called with each `Transfer` that moved.

        Returns:
            The record, with one live replica for each platform in `to`; `replica.origin` says whether this call
            sent the bytes.

        Raises:
            InvalidRequestError: The file, its name or the purpose will not do. Nothing was sent.
            FileTooLargeError: The platform's limit (bytes) is `.limit`. Nothing was sent.
            PartialUploadError: Some platforms took it; see `.record` and `.failures`.
            PlatformError: The only platform refused or failed.

        Example:
            >>> files.upload("paper.pdf", to=["moonshot", "zai"]).size
            48213
        """
        with readable(source, name) as given:
            call = self._calls.upload(
                given, to, purpose, timeout, progress, prefer=prefer, paranoid=paranoid, bulk=bulk
            )
            return call.wait()

    def plan(
        self,
        source: Source,
        *,
        to: str | Sequence[str] | None = None,
        prefer: Sequence[str] | None = None,
        name: str | None = None,
        purpose: str | None = None,
    ) -> UploadPlan:
        """What `upload` would do with the same arguments, without doing it.

        Raises:
            InvalidRequestError: As `upload` would, before a byte is sent.
            FileTooLargeError: Likewise.
        """
        with readable(source, name) as given:
            return self._calls.plan(given, to, prefer, purpose).wait()

    def ensure(
        self,
        file: FileReference | Source,
        *,
        platform: str,
        name: str | None = None,
        purpose: str | None = None,
        max_age: Seconds = 3600.0,
        timeout: Seconds | None = None,
        progress: Progress | None = None,
    ) -> Replica:
        """A live copy of a file on one platform: the known one, or a new one.

        Args:
            file: A record, replica or digest; or a path (`pathlib.Path`), bytes or file object as for `upload`.
            platform: The platform.
            name: As for `upload`; only for bytes and file objects.
            purpose: As for `upload`.
            max_age: A copy the platform confirmed longer ago than this (seconds) is asked for again.
            timeout: Deadline of the whole call.
            progress: As for `upload`.

        Returns:
            The replica; its `remote_id` can be used now.

        Raises:
            NotFoundError: The platform has lost it, and its bytes are neither given nor where they came from.
            PlatformError: The platform refused or failed.
        """
        if isinstance(file, (str, FileRecord, Replica)):
            return self._calls.ensure(file, platform, purpose, max_age, timeout, progress).wait()
        with readable(file, name) as given:
            record = self._calls.upload(given, platform, purpose, timeout, progress).wait()
            try:
                return self._calls.ensure(record, platform, purpose, max_age, timeout, None).wait()
            except NotFoundError:  # lost there, which is known now
                record = self._calls.upload(given, platform, purpose, timeout, progress).wait()
                return self._calls.ensure(record, platform, purpose, max_age, timeout, None).wait()

    def list(
        self,
        *,
        platform: str | None = None,
        name: str | None = None,
        newer_than: Seconds | datetime | None = None,
    ) -> Iterator[FileRecord]:
        """Files of the registry, newest first, fetched page by page.

        Args:
            platform: Only files with a live copy there.
            name: Only files whose name contains this, in any case.
            newer_than: Only files first uploaded within this many seconds (or timedelta), or since this moment.

        Yields:
            The records.
        """
        after = None
        while page := self._calls.page(platform, name, newer_than, after).wait():
            yield from page
            after = page[-1].digest

    def list_remote(self, platform: str, *, timeout: Seconds | None = None) -> builtins.list[RemoteFile]:
        """Everything a platform lists for the account, whether the registry knows it or not.

        Raises:
            PlatformError: The platform refused or failed.
        """
        return self._calls.list_remote(platform, timeout).wait()

    def get(self, file: FileReference) -> FileRecord:
        """One file of the registry.

        Raises:
            NotFoundError: No file fits.
            ConflictError: Several do.
        """
        return self._calls.get(file).wait()

    def content(self, file: FileReference, *, platform: str | None = None, timeout: Seconds | None = None) -> Content:
        """What a platform gives back for a file: its bytes, or text it extracted.

        Args:
            file: Which file.
            platform: Which platform. Default: the one that gives most.
            timeout: Deadline of the whole call.

        Returns:
            The content; `.kind` says what it is.

        Raises:
            UnsupportedError: The platform gives nothing back for this purpose.
            IntegrityError: Bytes came back other than they were sent.
        """
        return self._calls.content(file, platform, timeout).wait()

    def text(self, file: FileReference, *, platform: str | None = None, timeout: Seconds | None = None) -> str:
        """The text of a file, as a platform extracted it. Fetched once, then kept in the registry.

        Raises:
            UnsupportedError: There is no text in it, or the platform gives nothing back.
        """
        return self._calls.text(file, platform, timeout).wait()

    def download(
        self,
        file: FileReference,
        to: str | os.PathLike[str],
        *,
        platform: str | None = None,
        timeout: Seconds | None = None,
    ) -> Download:
        """Write what a platform gives back to a file; it appears whole or not at all.

        Args:
            file: Which file.
            to: A file, or a directory to put it in under its own name.
            platform: Which platform. Default: the one that gives most.
            timeout: Deadline of the whole call.

        Returns:
            What was written; `.is_original` says whether these are the uploaded bytes.

        Raises:
            UnsupportedError: The platform gives nothing back for this purpose.
            IntegrityError: Bytes came back other than they were sent. Nothing was written.
        """
        return self._calls.download(file, to, platform, timeout).wait()

    def delete(self, file: FileReference, *, platform: str | None = None, timeout: Seconds | None = None) -> FileRecord:
        """Take a file off one platform, or off all.

        Args:
            file: Which file.
            platform: Which platform. Default: every one that has it.
            timeout: Deadline of the whole call.

        Returns:
            The record as it is afterwards.

        Raises:
            NotFoundError: It is on none of them.
            PlatformError: A platform refused; the others were asked all the same.
        """
        return self._calls.delete(file, platform, timeout).wait()

    def platforms(self) -> builtins.list[PlatformInfo]:
        """The connected platforms: what each can do, and what the registry says the account holds."""
        return self._calls.platforms().wait()

    def health(self) -> builtins.list[PlatformHealth]:
        """How the connected platforms have been lately: circuit breakers, limits and retry budgets.

        All that use the same registry (or Redis) share them. No platform is asked.
        """
        return self._calls.health().wait()

    def set_breaker(self, platform: str, mode: BreakerMode, *, operation: str | None = None) -> None:
        """Set what you want of a platform's circuit breaker, whatever its results say; it lasts until it is reset.

        Args:
            platform: The platform.
            mode: "forced-open" refuses every call, "disabled" and "metrics-only" refuse none (the latter still
                counts), "automatic" is the usual.
            operation: "upload", "list", "get", "content" or "delete". Default: all of them.

        Raises:
            ConfigError: The platform is not connected.
            InvalidRequestError: There is no such mode or operation.
        """
        self._calls.set_breaker(platform, mode, operation).wait()

    def reset_breaker(self, platform: str, *, operation: str | None = None) -> None:
        """Close a platform's circuit breaker and forget what it counted.

        Raises:
            ConfigError: The platform is not connected.
            InvalidRequestError: There is no such operation.
        """
        self._calls.reset_breaker(platform, operation).wait()

    def capabilities(self, platform: str) -> Mapping[str, Any]:
        """What a platform can do, connected or not; each fact with its source and date.

        Raises:
            ConfigError: There is no such platform.
        """
        return self._calls.capabilities(platform)

    def settings(self) -> builtins.list[Setting]:
        """Every setting in force and where it came from; secrets are withheld."""
        return self._calls.settings()

    def close(self) -> None:
        """End running calls with `CancelledError` and close the registry. Later calls raise `RegistryError`."""
        self._calls.core.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
        name: str | None = None,
        purpose: str | None = None,
        paranoid: bool = False,
        bulk: bool = False,
        timeout: Seconds | None = None,
        progress: Progress | None = None,
    ) -> FileRecord:
        with contextlib.ExitStack() as spools:
            given = await _entered(spools, source, name)
            call = self._calls.upload(
                given, to, purpose, timeout, progress, prefer=prefer, paranoid=paranoid, bulk=bulk
            )
            return await call.run()

    @_as(Client.plan)
    async def plan(
        self,
        source: Source,
        *,
        to: str | Sequence[str] | None = None,
        prefer: Sequence[str] | None = None,
        name: str | None = None,
        purpose: str | None = None,
    ) -> UploadPlan:
        with contextlib.ExitStack() as spools:
            given = await _entered(spools, source, name)
            return await self._calls.plan(given, to, prefer, purpose).run()

    @_as(Client.ensure)
    async def ensure(
        self,
        file: FileReference | Source,
        *,
        platform: str,
        name: str | None = None,
        purpose: str | None = None,
        max_age: Seconds = 3600.0,
        timeout: Seconds | None = None,
        progress: Progress | None = None,
    ) -> Replica:
        if isinstance(file, (str, FileRecord, Replica)):
            return await self._calls.ensure(file, platform, purpose, max_age, timeout, progress).run()
        with contextlib.ExitStack() as spools:
            given = await _entered(spools, file, name)
            record = await self._calls.upload(given, platform, purpose, timeout, progress).run()
            try:
                return await self._calls.ensure(record, platform, purpose, max_age, timeout, None).run()
            except NotFoundError:  # lost there, which is known now
                record = await self._calls.upload(given, platform, purpose, timeout, progress).run()
                return await self._calls.ensure(record, platform, purpose, max_age, timeout, None).run()

    @_as(Client.list)
    async def list(
        self,
        *,
        platform: str | None = None,
        name: str | None = None,
        newer_than: Seconds | datetime | None = None,
    ) -> AsyncIterator[FileRecord]:
        after = None
        while page := await self._calls.page(platform, name, newer_than, after).run():
            for record in page:
                yield record
            after = page[-1].digest

    @_as(Client.list_remote)
    async def list_remote(self, platform: str, *, timeout: Seconds | None = None) -> builtins.list[RemoteFile]:
        return await self._calls.list_remote(platform, timeout).run()

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
