"""How long files stay: what is wanted until when, rules, archiving, erasing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from exai_files.arguments import FileReference, Seconds, in_seconds, kept_for, place, reference
from exai_files.calls import Call
from exai_files.records import FileRecord

if TYPE_CHECKING:
    from exai_files import _core

__all__ = ["AsyncLifecycle", "Departure", "ErasedReplica", "Erasure", "Fate", "Lifecycle", "LifecycleStep"]

Step = Literal["delete", "archive", "trash", "expire", "purge"]
"""What is done with a file: taken off its platforms; the same where a copy is kept; put into the trash; both, because it was
wanted until then; or all of it removed, because its time in the trash is over."""


@dataclass(frozen=True)
class Departure:
    """That a file goes.

    Attributes:
        step: What is done with it.
        platform: From where; None for everywhere.
        because: Why.
        obstacle: What keeps it all the same, such as a legal hold.
    """

    step: Step
    platform: str | None
    because: str
    obstacle: str | None


@dataclass(frozen=True)
class Fate:
    """What becomes of a file.

    Attributes:
        departures: How it goes, if it does.
        stays: Why it stays.
    """

    departures: tuple[Departure, ...]
    stays: tuple[str, ...]

    @classmethod
    def _from_core(cls, data: Mapping[str, Any]) -> Fate:
        return cls(tuple(Departure(**departure) for departure in data["departures"]), tuple(data["stays"]))


@dataclass(frozen=True)
class LifecycleStep:
    """A file that goes, or would.

    Attributes:
        is_done: Whether it was done. What has an `obstacle` is not.
        error: Why it could not be done; the next time it is tried again.
    """

    digest: str
    name: str
    step: Step
    platform: str | None
    because: str
    obstacle: str | None
    is_done: bool
    error: str | None


@dataclass(frozen=True)
class ErasedReplica:
    """A copy that was removed.

    Attributes:
        is_confirmed: Its platform, asked for it again, does not have it. Else it took the delete and cannot be asked.
    """

    platform: str
    account: str
    remote_id: str
    is_confirmed: bool


@dataclass(frozen=True)
class Erasure:
    """That nothing is left of a file: the receipt. The audit log has one, too.

    Attributes:
        replicas: The copies that were on platforms until now.
        had_copy: Whether a copy was kept.
        names: Names it was known under.
        texts: Texts that platforms had made of it.
        copies: Copies on platforms, these and earlier ones, that were known of.
    """

    digest: str
    replicas: tuple[ErasedReplica, ...]
    had_copy: bool
    names: int
    texts: int
    copies: int

    @classmethod
    def _from_core(cls, data: Mapping[str, Any]) -> Erasure:
        return cls(**{**data, "replicas": tuple(ErasedReplica(**replica) for replica in data["replicas"])})


class _LifecycleCalls:
    def __init__(self, core: _core.Lifecycle) -> None:
        self._core = core

    def _apply(self, dry_run: bool, timeout: Seconds | None) -> Call[list[LifecycleStep]]:
        pending = self._core.apply(dry_run, in_seconds(timeout))
        return Call(pending, lambda steps: [LifecycleStep(**step) for step in steps])

    def _explain(self, file: FileReference) -> Call[Fate]:
        return Call(self._core.explain(reference(file)), Fate._from_core)

    def _keep(self, file: FileReference, for_: Seconds | None) -> Call[FileRecord]:
        return Call(self._core.keep(reference(file), kept_for(for_)), FileRecord._from_core)

    def _archive(self, file: FileReference, platform: str | None, timeout: Seconds | None) -> Call[FileRecord]:
        pending = self._core.archive(reference(file), place(file, platform), in_seconds(timeout))
        return Call(pending, FileRecord._from_core)

    def _erase(self, file: FileReference, timeout: Seconds | None) -> Call[Erasure]:
        return Call(self._core.erase(reference(file), in_seconds(timeout)), Erasure._from_core)


class Lifecycle(_LifecycleCalls):
    """How long files stay: `lifecycle.rules.*` of the configuration, what was said of each file, and the trash."""

    def apply(self, *, dry_run: bool = False, timeout: Seconds | None = None) -> list[LifecycleStep]:
        """Do what is due: rules, files wanted until now, and the trash. `watch` does it every hour.

        Args:
            dry_run: Only say what that is.
            timeout: What is not done by then is done the next time.
        """
        return self._apply(dry_run, timeout).wait()

    def explain(self, file: FileReference) -> Fate:
        """Why a file stays, or goes. Raises `NotFoundError`."""
        return self._explain(file).wait()

    def keep(self, file: FileReference, *, for_: Seconds | None = None) -> FileRecord:
        """Say how long a file is wanted: so long from now, or (None) for ever.

        Then it is taken off its platforms and put into the trash. Raises `NotFoundError`.
        """
        return self._keep(file, for_).wait()

    def archive(
        self, file: FileReference, *, platform: str | None = None, timeout: Seconds | None = None
    ) -> FileRecord:
        """Take a file off its platforms, or one, and keep our copy of it; `ensure` puts it back.

        Raises:
            ConflictError: No whole copy is kept, or it is leased or under legal hold; nothing was deleted.
            NotFoundError: It is on none of them.
        """
        return self._archive(file, platform, timeout).wait()

    def erase(self, file: FileReference, *, timeout: Seconds | None = None) -> Erasure:
        """Remove everything of a file for good: on every platform, our copy, texts, names, all that is known of it.

        The audit log keeps that it was there, by its digest.

        Raises:
            NotFoundError: No file fits.
            ConflictError: It is held, being uploaded, or on an account that is not connected.
            PlatformError: A platform refused. What was removed stays so, and the file is in the trash; erase it again to go
                on.
        """
        return self._erase(file, timeout).wait()


class AsyncLifecycle(_LifecycleCalls):
    """As `Lifecycle`, awaited."""

    async def apply(self, *, dry_run: bool = False, timeout: Seconds | None = None) -> list[LifecycleStep]:
        """As `Lifecycle.apply`."""
        return await self._apply(dry_run, timeout).run()

    async def explain(self, file: FileReference) -> Fate:
        """As `Lifecycle.explain`."""
        return await self._explain(file).run()

    async def keep(self, file: FileReference, *, for_: Seconds | None = None) -> FileRecord:
        """As `Lifecycle.keep`."""
        return await self._keep(file, for_).run()

    async def archive(
        self, file: FileReference, *, platform: str | None = None, timeout: Seconds | None = None
    ) -> FileRecord:
        """As `Lifecycle.archive`."""
        return await self._archive(file, platform, timeout).run()

    async def erase(self, file: FileReference, *, timeout: Seconds | None = None) -> Erasure:
        """As `Lifecycle.erase`."""
        return await self._erase(file, timeout).run()
