"""The files that the registry knows: the part of both clients that finds, reads, describes and deletes them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from exai_files.arguments import FileReference, Seconds
from exai_files.calls import Calls, twin_of
from exai_files.health import FileHealth
from exai_files.listing import AsyncListing, Listing, file_filter
from exai_files.records import Content, Download, FileRecord, FileStatus

__all__ = ["AsyncFiles", "Files"]


class Files:
    """What `Client` does with files that the registry knows."""

    _calls: Calls

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
    ) -> Listing:
        """Files of the registry, newest first: iterate, or turn them into a table.

        Args:
            platform: Only files with a live copy there.
            account: Only files with a live copy of this account.
            name: Only files whose name contains this, in any case.
            digest: Only files whose digest begins so.
            tag: Only files with this tag, or all of these.
            owner: Only files that this one was the first to hand over, under any of their names.
            status: "live" (some platform has it), "unplaced" (none has), "trashed". Default: all but the trash.
            newer_than: Only files first uploaded within this many seconds (or timedelta), or since this moment.
            older_than: Only files first uploaded longer ago, or before this moment.
            larger_than: Only files of more bytes.
            smaller_than: Only files of fewer bytes.
            expires_within: Only files with a live copy that its platform will drop within this time, or by this moment.

        Returns:
            The files, fetched page by page as they are asked for; `to_arrow()` fetches all of them.

        Raises:
            InvalidRequestError: A filter makes no sense.
            ConfigError: There is no such platform.

        Example:
            >>> [file.name for file in files.list(tag="paper", expires_within=7 * 86_400)]
            ['paper.pdf']
        """
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
        return Listing(self._calls, found)

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

    def check(
        self,
        file: FileReference,
        *,
        platform: str | None = None,
        read: bool = False,
        timeout: Seconds | None = None,
    ) -> tuple[FileHealth, ...]:
        """Ask platforms how a file's copies are. What is found is noted; what is lost is handed out no more.

        Args:
            file: Which file.
            platform: Which platform. Default: every one that has it.
            read: Also read back what platforms give back as it was, and compare it.
            timeout: Deadline of the whole call.

        Returns:
            For each copy a verdict, what it follows from, and how long the platform took.

        Raises:
            NotFoundError: It is on none of them.
        """
        return self._calls.check(file, platform, read, timeout).wait()

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
            ConflictError: It is leased there, or under legal hold; nothing was deleted.
            PlatformError: A platform refused; the others were asked all the same.
        """
        return self._calls.delete(file, platform, timeout).wait()

    def update(
        self,
        file: FileReference,
        *,
        tags: Sequence[str] = (),
        untag: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        owner: str | None = None,
    ) -> FileRecord:
        """Change what is said of a file; what is not named stays.

        Args:
            file: Which file.
            tags: Tags to add.
            untag: Tags to take away.
            metadata: Put over what is there; a field that is None is removed. At most 64 KiB as JSON.
            owner: Whose it is.

        Returns:
            The record as it is afterwards.

        Raises:
            NotFoundError: No file fits.
            InvalidRequestError: A tag is empty or too long, or the metadata is no JSON.

        Example:
            >>> files.update("paper.pdf", tags=["paper"], metadata={"project": "x"}).tags
            ('paper',)
        """
        return self._calls.update(file, tags, untag, metadata, owner).wait()

    def trash(self, file: FileReference) -> FileRecord:
        """Put a file into the trash: it is no longer listed or used, and its copies stay where they are.

        `delete` takes it off the platforms; uploading the same bytes again, or `restore`, takes it out.

        Raises:
            NotFoundError: No file fits.
            ConflictError: It is leased, or under legal hold.
        """
        return self._calls.trash(file).wait()

    def restore(self, file: FileReference) -> FileRecord:
        """Take a file out of the trash, as it was.

        Raises:
            NotFoundError: No file fits.
        """
        return self._calls.restore(file).wait()


class AsyncFiles:
    """As `Files`, awaited."""

    _calls: Calls

    @twin_of(Files.list)
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

    @twin_of(Files.get)
    async def get(self, file: FileReference) -> FileRecord:
        return await self._calls.get(file).run()

    @twin_of(Files.content)
    async def content(
        self, file: FileReference, *, platform: str | None = None, timeout: Seconds | None = None
    ) -> Content:
        return await self._calls.content(file, platform, timeout).run()

    @twin_of(Files.text)
    async def text(self, file: FileReference, *, platform: str | None = None, timeout: Seconds | None = None) -> str:
        return await self._calls.text(file, platform, timeout).run()

    @twin_of(Files.download)
    async def download(
        self,
        file: FileReference,
        to: str | os.PathLike[str],
        *,
        platform: str | None = None,
        timeout: Seconds | None = None,
    ) -> Download:
        return await self._calls.download(file, to, platform, timeout).run()

    @twin_of(Files.check)
    async def check(
        self,
        file: FileReference,
        *,
        platform: str | None = None,
        read: bool = False,
        timeout: Seconds | None = None,
    ) -> tuple[FileHealth, ...]:
        return await self._calls.check(file, platform, read, timeout).run()

    @twin_of(Files.delete)
    async def delete(
        self, file: FileReference, *, platform: str | None = None, timeout: Seconds | None = None
    ) -> FileRecord:
        return await self._calls.delete(file, platform, timeout).run()

    @twin_of(Files.update)
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

    @twin_of(Files.trash)
    async def trash(self, file: FileReference) -> FileRecord:
        return await self._calls.trash(file).run()

    @twin_of(Files.restore)
    async def restore(self, file: FileReference) -> FileRecord:
        return await self._calls.restore(file).run()
