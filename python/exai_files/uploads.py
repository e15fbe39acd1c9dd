"""Putting files on platforms: the part of both clients that sends."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from exai_files.arguments import FileReference, Seconds, kept_for
from exai_files.calls import Calls, twin_of
from exai_files.errors import NotFoundError
from exai_files.records import FileRecord, Replica, UploadPlan, WhenFull
from exai_files.sources import Source, entered, readable
from exai_files.transfers import Progress

__all__ = ["AsyncUploads", "Uploads"]


class Uploads:
    """What `Client` does to put files on platforms."""

    _calls: Calls

    def upload(
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
        for_: Seconds | None = None,
        when_full: WhenFull | None = None,
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
            account: Which account of each platform. Default: the one that has the file, else the one with most room.
            name: File name the platforms show. Default: the path's last part; needed for bytes.
            purpose: What the platform will do with it, in any accepted spelling. Default: by the file's type.
            owner: Who hands it over; `list(owner=…)` finds it.
            tags: Added to the file's tags.
            metadata: Put over the file's metadata; see `update`.
            for_: How long it is wanted, in seconds or as timedelta; then it is taken off its platforms and put into the
                trash. Default: for ever. What was wanted for longer before stays so.
            when_full: What is done when an account is full: "refuse", or other files make room: those used longest ago
                ("evict-lru") or the smallest ("evict-smallest"), of those that nobody holds and that can be uploaded
                again. Default: the platform's setting, which is "refuse" where nothing is said.
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
            QuotaExceededError: The account is full. Nothing was sent.
            PartialUploadError: Some platforms took it; see `.record` and `.failures`.
            PlatformError: The only platform refused or failed.

        Example:
            >>> files.upload("paper.pdf", to=["moonshot", "zai"]).size
            48213
        """
        with readable(source, name) as given:
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
                keep_for=kept_for(for_),
                when_full=when_full,
                paranoid=paranoid,
                bulk=bulk,
            )
            return call.wait()

    def plan(
        self,
        source: Source,
        *,
        to: str | Sequence[str] | None = None,
        prefer: Sequence[str] | None = None,
        account: str | None = None,
        name: str | None = None,
        purpose: str | None = None,
        when_full: WhenFull | None = None,
    ) -> UploadPlan:
        """What `upload` would do with the same arguments, without doing it.

        Raises:
            InvalidRequestError: As `upload` would, before a byte is sent.
            FileTooLargeError: Likewise.
            QuotaExceededError: Likewise.
        """
        with readable(source, name) as given:
            return self._calls.plan(given, to, prefer, account, purpose, when_full).wait()

    def ensure(
        self,
        file: FileReference | Source,
        *,
        platform: str,
        name: str | None = None,
        purpose: str | None = None,
        max_age: Seconds = 3600.0,
        min_ttl: Seconds = 0.0,
        when_full: WhenFull | None = None,
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
            min_ttl: How long (seconds) the copy must live yet: one that its platform drops before is made anew.
            when_full: As for `upload`.
            timeout: Deadline of the whole call.
            progress: As for `upload`.

        Returns:
            The replica; its `remote_id` can be used now.

        Raises:
            NotFoundError: The platform has lost it, and its bytes are neither given nor where they came from.
            PlatformError: The platform refused or failed.
        """
        if isinstance(file, (str, FileRecord, Replica)):
            return self._calls.ensure(file, platform, purpose, max_age, min_ttl, when_full, timeout, progress).wait()
        wanted: dict[str, Any] = {"min_ttl": min_ttl, "when_full": when_full}
        with readable(file, name) as given:
            record = self._calls.upload(given, platform, purpose, timeout, progress, **wanted).wait()
            try:
                return self._calls.ensure(record, platform, purpose, max_age, min_ttl, when_full, timeout, None).wait()
            except NotFoundError:  # lost there, which is known now
                record = self._calls.upload(given, platform, purpose, timeout, progress, **wanted).wait()
                return self._calls.ensure(record, platform, purpose, max_age, min_ttl, when_full, timeout, None).wait()

    def move(
        self,
        file: FileReference,
        *,
        from_: str,
        to: str,
        purpose: str | None = None,
        when_full: WhenFull | None = None,
        timeout: Seconds | None = None,
        progress: Progress | None = None,
    ) -> FileRecord:
        """Put a file on one platform and then take it off another.

        It is there before it is taken away here. A call that fails or is cancelled leaves it where it was, at least; one
        whose process dies is finished by the next recovery.

        Args:
            file: Which file.
            from_: The platform to take it off.
            to: The platform to put it on; its bytes come from its kept copy or from where it was uploaded.
            purpose: As for `upload`, on `to`.
            when_full: As for `upload`, on `to`.
            timeout: Deadline of the whole call.
            progress: As for `upload`.

        Returns:
            The record as it is afterwards.

        Raises:
            InvalidRequestError: Both are the same.
            NotFoundError: It is not on `from_`, or its bytes are not to be had.
            ConflictError: Somebody has leased it there, or it is under legal hold.
            PlatformError: A platform refused or failed.
        """
        return self._calls.move(file, from_, to, purpose, when_full, timeout, progress).wait()

    def wait_ready(
        self, file: FileReference, *, platform: str | None = None, timeout: Seconds | None = None
    ) -> Replica:
        """Wait until a platform has processed a file, where it is not at once.

        `upload` and `ensure` wait for that, too, but give the copy when their time runs out.

        Args:
            file: Which file.
            platform: Which platform. Default: the one that gives most.
            timeout: How long to wait, in seconds or as timedelta.

        Raises:
            NotFoundError: It is not there.
            ContentRejectedError: The platform could make nothing of it.
            PlatformTimeoutError: It is not ready yet.
        """
        return self._calls.wait_ready(file, platform, timeout).wait()


class AsyncUploads:
    """As `Uploads`, awaited."""

    _calls: Calls

    @twin_of(Uploads.upload)
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
        for_: Seconds | None = None,
        when_full: WhenFull | None = None,
        paranoid: bool = False,
        bulk: bool = False,
        timeout: Seconds | None = None,
        progress: Progress | None = None,
    ) -> FileRecord:
        with contextlib.ExitStack() as spools:
            given = await entered(spools, source, name)
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
                keep_for=kept_for(for_),
                when_full=when_full,
                paranoid=paranoid,
                bulk=bulk,
            )
            return await call.run()

    @twin_of(Uploads.plan)
    async def plan(
        self,
        source: Source,
        *,
        to: str | Sequence[str] | None = None,
        prefer: Sequence[str] | None = None,
        account: str | None = None,
        name: str | None = None,
        purpose: str | None = None,
        when_full: WhenFull | None = None,
    ) -> UploadPlan:
        with contextlib.ExitStack() as spools:
            given = await entered(spools, source, name)
            return await self._calls.plan(given, to, prefer, account, purpose, when_full).run()

    @twin_of(Uploads.ensure)
    async def ensure(
        self,
        file: FileReference | Source,
        *,
        platform: str,
        name: str | None = None,
        purpose: str | None = None,
        max_age: Seconds = 3600.0,
        min_ttl: Seconds = 0.0,
        when_full: WhenFull | None = None,
        timeout: Seconds | None = None,
        progress: Progress | None = None,
    ) -> Replica:
        if isinstance(file, (str, FileRecord, Replica)):
            call = self._calls.ensure(file, platform, purpose, max_age, min_ttl, when_full, timeout, progress)
            return await call.run()
        wanted: dict[str, Any] = {"min_ttl": min_ttl, "when_full": when_full}
        with contextlib.ExitStack() as spools:
            given = await entered(spools, file, name)
            record = await self._calls.upload(given, platform, purpose, timeout, progress, **wanted).run()
            try:
                call = self._calls.ensure(record, platform, purpose, max_age, min_ttl, when_full, timeout, None)
                return await call.run()
            except NotFoundError:  # lost there, which is known now
                record = await self._calls.upload(given, platform, purpose, timeout, progress, **wanted).run()
                call = self._calls.ensure(record, platform, purpose, max_age, min_ttl, when_full, timeout, None)
                return await call.run()

    @twin_of(Uploads.move)
    async def move(
        self,
        file: FileReference,
        *,
        from_: str,
        to: str,
        purpose: str | None = None,
        when_full: WhenFull | None = None,
        timeout: Seconds | None = None,
        progress: Progress | None = None,
    ) -> FileRecord:
        return await self._calls.move(file, from_, to, purpose, when_full, timeout, progress).run()

    @twin_of(Uploads.wait_ready)
    async def wait_ready(
        self, file: FileReference, *, platform: str | None = None, timeout: Seconds | None = None
    ) -> Replica:
        return await self._calls.wait_ready(file, platform, timeout).run()
