"""The platforms themselves, what they can do and how they are: that part of both clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from exai_files.arguments import Seconds
from exai_files.calls import Calls, twin_of
from exai_files.health import BreakerMode, PlatformHealth
from exai_files.records import Content, PlatformInfo, Reconciliation, RemoteFile

__all__ = ["AsyncPlatforms", "Platforms"]


class Platforms:
    """What `Client` asks of platforms as such, whatever the file."""

    _calls: Calls

    def platforms(self) -> list[PlatformInfo]:
        """The connected platforms: what each can do, and what the registry says the account holds."""
        return self._calls.platforms().wait()

    def capabilities(self, platform: str) -> Mapping[str, Any]:
        """What a platform can do, connected or not; each fact with its source and date.

        Raises:
            ConfigError: There is no such platform.
        """
        return self._calls.capabilities(platform)

    def health(self) -> list[PlatformHealth]:
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

    def list_remote(
        self, platform: str, *, account: str | None = None, timeout: Seconds | None = None
    ) -> list[RemoteFile]:
        """Everything a platform lists for our accounts, or one of them, whether the registry knows it or not.

        Raises:
            PlatformError: The platform refused or failed.
        """
        return self._calls.list_remote(platform, account, timeout).wait()

    def get_remote(
        self, platform: str, remote_id: str, *, account: str | None = None, timeout: Seconds | None = None
    ) -> RemoteFile:
        """What a platform says of one file of our accounts, or of one of them, whether the registry knows it or not.

        Raises:
            NotFoundError: It has none of this id.
            PlatformError: The platform refused or failed.
        """
        return self._calls.get_remote(platform, remote_id, account, timeout).wait()

    def content_remote(
        self, platform: str, remote_id: str, *, account: str | None = None, timeout: Seconds | None = None
    ) -> Content:
        """What a platform gives back for a file, such as the results of a batch, whether the registry knows it or not.

        Raises:
            NotFoundError: The platform has none of this id.
            UnsupportedError: It gives nothing back for the file's purpose.
            PlatformError: The platform refused or failed.
        """
        return self._calls.content_remote(platform, remote_id, account, timeout).wait()

    def delete_remote(
        self, platform: str, remote_id: str, *, account: str | None = None, timeout: Seconds | None = None
    ) -> None:
        """Delete one file by its id on a platform. Of one that the registry knows, other copies stay.

        Raises:
            ConflictError: The registry knows it, and somebody has a lease or a legal hold on it.
            NotFoundError: The platform has none of this id.
            PlatformError: The platform refused or failed.
        """
        self._calls.delete_remote(platform, remote_id, account, timeout).wait()

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


class AsyncPlatforms:
    """As `Platforms`, awaited."""

    _calls: Calls

    @twin_of(Platforms.platforms)
    async def platforms(self) -> list[PlatformInfo]:
        return await self._calls.platforms().run()

    @twin_of(Platforms.capabilities)
    def capabilities(self, platform: str) -> Mapping[str, Any]:
        return self._calls.capabilities(platform)

    @twin_of(Platforms.health)
    async def health(self) -> list[PlatformHealth]:
        return await self._calls.health().run()

    @twin_of(Platforms.set_breaker)
    async def set_breaker(self, platform: str, mode: BreakerMode, *, operation: str | None = None) -> None:
        await self._calls.set_breaker(platform, mode, operation).run()

    @twin_of(Platforms.reset_breaker)
    async def reset_breaker(self, platform: str, *, operation: str | None = None) -> None:
        await self._calls.reset_breaker(platform, operation).run()

    @twin_of(Platforms.list_remote)
    async def list_remote(
        self, platform: str, *, account: str | None = None, timeout: Seconds | None = None
    ) -> list[RemoteFile]:
        return await self._calls.list_remote(platform, account, timeout).run()

    @twin_of(Platforms.get_remote)
    async def get_remote(
        self, platform: str, remote_id: str, *, account: str | None = None, timeout: Seconds | None = None
    ) -> RemoteFile:
        return await self._calls.get_remote(platform, remote_id, account, timeout).run()

    @twin_of(Platforms.content_remote)
    async def content_remote(
        self, platform: str, remote_id: str, *, account: str | None = None, timeout: Seconds | None = None
    ) -> Content:
        return await self._calls.content_remote(platform, remote_id, account, timeout).run()

    @twin_of(Platforms.delete_remote)
    async def delete_remote(
        self, platform: str, remote_id: str, *, account: str | None = None, timeout: Seconds | None = None
    ) -> None:
        await self._calls.delete_remote(platform, remote_id, account, timeout).run()

    @twin_of(Platforms.reconcile)
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
