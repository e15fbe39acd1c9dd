"""Kept copies, from which lost files are made anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exai_files.arguments import Seconds, span
from exai_files.calls import Call
from exai_files.errors import InvalidRequestError

if TYPE_CHECKING:
    from exai_files import _core

__all__ = ["AsyncCopies", "Copies", "CopyCheck", "CopyCollection"]

_PATIENCE = 300.0


@dataclass(frozen=True)
class CopyCheck:
    """What a look at the kept copies found.

    Attributes:
        checked: Copies that were looked for; `read` of them were read.
        missing: Digests of those that are not there.
        damaged: Digests of those that hold other bytes.
    """

    checked: int
    read: int
    bytes_read: int
    missing: tuple[str, ...]
    damaged: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every copy is as it should be, as far as was looked."""
        return not self.missing and not self.damaged


@dataclass(frozen=True)
class CopyCollection:
    """Copies that were removed, or would be, and their size together in bytes."""

    removed: tuple[str, ...]
    bytes: int


def _check(data: Mapping[str, Any]) -> CopyCheck:
    return CopyCheck(**{**data, "missing": tuple(data["missing"]), "damaged": tuple(data["damaged"])})


def _part(read: float) -> float:
    is_number = isinstance(read, (int, float)) and not isinstance(read, bool)
    if not is_number or not 0 <= read <= 1:  # no comparison with "not a number" holds
        raise InvalidRequestError(f"a part of {read!r} cannot be read", hint="give a number from 0 to 1")
    return float(read)


class _CopiesCalls:
    def __init__(self, core: _core.Copies) -> None:
        self._core = core

    def _check(self, read: float, timeout: Seconds) -> Call[CopyCheck]:
        return Call(self._core.check(_part(read), span(timeout)), _check)

    def _collect(self, dry_run: bool) -> Call[CopyCollection]:
        make: Callable[[Any], CopyCollection] = lambda data: CopyCollection(tuple(data["removed"]), data["bytes"])  # noqa: E731
        return Call(self._core.collect(dry_run), make)


class Copies(_CopiesCalls):
    """The copies kept of what is uploaded (`copies.place`), from which lost files are made anew."""

    def check(self, *, read: float = 0.0, timeout: Seconds = _PATIENCE) -> CopyCheck:
        """Look whether every copy is there, and read this part of them (0 to 1), those read longest ago first.

        What is missing or damaged is noted as gone, and no file is made anew from it while it is.

        Raises:
            ConfigError: No copies are kept.
            InvalidRequestError: `read` is no such part.
        """
        return self._check(read, timeout).wait()

    def collect(self, *, dry_run: bool = False) -> CopyCollection:
        """Remove copies that no file needs any more. Raises as `check`."""
        return self._collect(dry_run).wait()


class AsyncCopies(_CopiesCalls):
    """As `Copies`, awaited."""

    async def check(self, *, read: float = 0.0, timeout: Seconds = _PATIENCE) -> CopyCheck:
        """As `Copies.check`."""
        return await self._check(read, timeout).run()

    async def collect(self, *, dry_run: bool = False) -> CopyCollection:
        """As `Copies.collect`."""
        return await self._collect(dry_run).run()
