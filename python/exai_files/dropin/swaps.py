"""Several files are replaced, or none.

All that takes room on the disk is written beside the files first. Then there are renames only, of which each can be
taken back; the file that was there is kept as it is, with its owner and times, under another name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from exai_files.errors import Error

__all__ = ["Swap", "beside", "swap", "write"]


@dataclass(frozen=True)
class Swap:
    """One file: `new` takes the place `path`, and what was there goes to `old`."""

    path: Path
    new: Path
    old: Path


def beside(path: Path, suffix: str) -> Path:
    """The same name with something after it."""
    return path.with_name(path.name + suffix)


def write(path: Path, content: bytes, like: os.stat_result | None = None) -> None:
    """Writes a new file to the disk, with the mode and, where that is allowed, the owner of another one."""
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if like is not None:
        path.chmod(like.st_mode & 0o7777)
        if hasattr(os, "chown") and (like.st_uid, like.st_gid) != (path.stat().st_uid, path.stat().st_gid):
            with contextlib.suppress(PermissionError):
                os.chown(path, like.st_uid, like.st_gid)


def swap(swaps: Sequence[Swap]) -> None:
    """Does all of them, or none.

    Raises:
        Error: One could not be done; the others were taken back.
    """
    moved: list[tuple[Path, Path]] = []
    try:
        for each in swaps:
            if each.path.exists():
                _move(each.path, each.old, moved)
            _move(each.new, each.path, moved)
    except OSError as error:
        _take_back(moved)
        where = error.filename2 or error.filename
        raise Error(f'cannot move a file to "{where}": {error.strerror}; everything is as it was') from error
    except BaseException:
        _take_back(moved)
        raise


def _move(source: Path, target: Path, moved: list[tuple[Path, Path]]) -> None:
    source.replace(target)
    moved.append((source, target))


def _take_back(moved: Iterable[tuple[Path, Path]]) -> None:
    for source, target in reversed(list(moved)):
        target.replace(source)
