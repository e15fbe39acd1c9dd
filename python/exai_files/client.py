"""`Client`: every verb, waited for.

The waiting happens in Rust, so it works inside a running event loop (Jupyter) too.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from exai_files.audit import Audit
from exai_files.calls import Calls, FileReference, Progress, Seconds, Source, readable
from exai_files.copies import Copies
from exai_files.errors import NotFoundError
from exai_files.holds import Hold, Lease, held, holding, leasing, released
from exai_files.listing import Listing, file_filter
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
from exai_files.recovery import Recovery
from exai_files.status import Status, asked
from exai_files.watching import Hook, Watch

__all__ = ["Client"]


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
    ) -> UploadPlan:
        """What `upload` would do with the same arguments, without doing it.

        Raises:
            InvalidRequestError: As `upload` would, before a byte is sent.
            FileTooLargeError: Likewise.
        """
        with readable(source, name) as given:
            return self._calls.plan(given, to, prefer, account, purpose).wait()

    def ensure(
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
        """A live copy of a file on one platform: the known one, or a new one.

        Args:
            file: A record, replica or digest; or a path (`pathlib.Path`), bytes or file object as for `upload`.
            platform: The platform.
            name: As for `upload`; only for bytes and file objects.
            purpose: As for `upload`.
            max_age: A copy the platform confirmed longer ago than this (seconds) is asked for again.
            min_ttl: How long (seconds) the copy must live yet: one that its platform drops before is made anew.
            timeout: Deadline of the whole call.
            progress: As for `upload`.

        Returns:
            The replica; its `remote_id` can be used now.

        Raises:
            NotFoundError: The platform has lost it, and its bytes are neither given nor where they came from.
            PlatformError: The platform refused or failed.
        """
        if isinstance(file, (str, FileRecord, Replica)):
            return self._calls.ensure(file, platform, purpose, max_age, min_ttl, timeout, progress).wait()
        with readable(file, name) as given:
            record = self._calls.upload(given, platform, purpose, timeout, progress, min_ttl=min_ttl).wait()
            try:
                return self._calls.ensure(record, platform, purpose, max_age, min_ttl, timeout, None).wait()
            except NotFoundError:  # lost there, which is known now
                record = self._calls.upload(given, platform, purpose, timeout, progress, min_ttl=min_ttl).wait()
                return self._calls.ensure(record, platform, purpose, max_age, min_ttl, timeout, None).wait()

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

    def list_remote(
        self, platform: str, *, account: str | None = None, timeout: Seconds | None = None
    ) -> builtins.list[RemoteFile]:
        """Everything a platform lists for our accounts, or one of them, whether the registry knows it or not.

        Raises:
            PlatformError: The platform refused or failed.
        """
        return self._calls.list_remote(platform, account, timeout).wait()

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
        """
        return self._calls.trash(file).wait()

    def restore(self, file: FileReference) -> FileRecord:
        """Take a file out of the trash, as it was.

        Raises:
            NotFoundError: No file fits.
        """
        return self._calls.restore(file).wait()

    def reconcile(
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
        """Compare what platforms list with what the registry says, and make them agree as far as you allow.

        Without policies nothing is changed, but that files found as they should be count as confirmed now. A file is
        given up only when its platform, asked for it once more, does not have it.

        Args:
            platform: Which platforms. Default: all that are connected.
            account: Only this account of each.
            only_remote: Files that no row explains: "adopt" binds those whose content can be told (by the tag in their
                name, or from their bytes); "delete" deletes them there.
            only_local: Copies that the platform does not have: "forget" notes that they are gone, "reupload" also makes
                them anew, from where the file came from.
            winner: Where both have a file and differ: "platform" takes over its description (never another content),
                "local" replaces another content by ours, "newest" whichever was created later.
            max_delete: How many files of an account may be deleted or given up: a number, or "10%".
            min_age: Younger remote files (seconds) are not deleted: another process may be about to bind them.
            dry_run: Say what would be done, and change nothing.
            with_equal: Also list what agrees.
            timeout: Deadline of the whole call.

        Returns:
            Every difference, with what was (or would be) done about it. Doing it again finds nothing new.

        Raises:
            ConfigError: The platform or account is not connected.
            SafetyLimitError: More than `max_delete`; nothing was changed.

        Example:
            >>> files.reconcile(platform="moonshot", dry_run=True).orphans
            ()
        """
        return self._calls.reconcile(
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
        ).wait()

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
            The lease, to be used in a `with` block, or released.

        Raises:
            As `ensure`.
        """
        return Lease(self._calls, leasing(self._calls, file, platform, purpose, for_, timeout).wait())

    def hold(self, file: FileReference, kind: Literal["pin", "legal"] = "pin", *, reason: str | None = None) -> Hold:
        """Keep a file until that is released.

        Args:
            file: A record, replica, digest, remote id or name.
            kind: "pin": it is not to make room for others. "legal": nobody may delete it.
            reason: Why, for those who ask.

        Raises:
            NotFoundError: The file is not known.
        """
        return holding(self._calls, file, kind, reason).wait()

    def holds(self, file: FileReference) -> builtins.list[Hold]:
        """What holds a file now: leases, pins, legal holds.

        Raises:
            NotFoundError: The file is not known.
        """
        return held(self._calls, file).wait()

    def release(self, hold: Hold | str) -> None:
        """End a hold, by its id.

        Raises:
            NotFoundError: It was released already.
        """
        released(self._calls, hold if isinstance(hold, str) else hold.id).wait()

    def watch(
        self,
        *,
        every: Seconds = 300.0,
        heal: bool = False,
        max_lost: int = 100,
        hooks: Mapping[str, Hook] | None = None,
    ) -> Watch:
        """Recover, look after every account's files, keep leases and sign the audit log, over and over.

        Several that watch share the work. An account is looked at by a listing, so that a thousand files cost a request
        or two; what is missing from it is asked for once more before it is given up.

        Args:
            every: Seconds between two looks at an account, a tenth more or less.
            heal: Make lost files anew where their bytes are to be had, in place of only noting that they are gone.
            max_lost: Files of an account that may be given up at one look; more is rather the platform's mistake.
            hooks: By event, what to call for a notice.

        Returns:
            What to iterate over, for as long as it shall watch; `look()` is one round.
        """
        return Watch(self._calls, every, heal, max_lost, hooks or {})

    def status(self) -> Status:
        """How everything is: accounts and their room, what expires, what is unfinished, the audit log.

        The registry is asked, and no platform. In Jupyter it shows itself as a table.
        """
        return asked(self._calls).wait()

    @property
    def recovery(self) -> Recovery:
        """What was cut short: finish it, see it, give it up."""
        return Recovery(self._calls.core.recovery())

    @property
    def copies(self) -> Copies:
        """The kept copies that lost files are made anew from."""
        return Copies(self._calls.core.copies())

    @property
    def audit(self) -> Audit:
        """What happened to files, in a log that nobody can alter quietly."""
        return Audit(self._calls.core.audit())

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
