"""Puts the new files in their places, each whole; the one with secrets for its owner alone."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from exai_files.errors import ConflictError, Error, InvalidRequestError
from exai_files.migrate.env import Migration

__all__ = ["write"]


def write(migration: Migration, output: Path, settings: Path, *, sources: Sequence[Path], force: bool = False) -> None:
    """Writes the environment file and the configuration file.

    Args:
        migration: What to write.
        output: The environment file.
        settings: The configuration file.
        sources: The old environment files, which are not written over.
        force: Whether a file that is there is replaced.

    Raises:
        InvalidRequestError: A place is that of an old file, or both are one.
        ConflictError: A file is there already.
        Error: A file cannot be written.
    """
    for path in (output, settings):
        if any(_is_one(path, other) for other in sources):
            raise InvalidRequestError(f"{path} is one of the old files", hint="they stay: name another --output")
        if not force and os.path.lexists(path):
            raise ConflictError(f"{path} is there already", hint="--force replaces it")
    if _is_one(output, settings):
        raise InvalidRequestError(f"{output} cannot be both files", hint="name another --output or --toml")
    staged: list[tuple[Path, Path]] = []
    try:
        for path, text, mode in ((output, migration.environment, 0o600), (settings, migration.settings, 0o666)):
            staged.append((_staged(path, text, mode), path))
        while staged:
            staged[-1][0].replace(staged[-1][1])
            staged.pop()
    except OSError as error:
        raise Error(f"{error.filename}: {error.strerror}") from None
    finally:
        for temporary, _ in staged:
            with suppress(OSError):
                temporary.unlink()


def _is_one(path: Path, other: Path) -> bool:
    return path.absolute() == other.absolute() or (path.exists() and other.exists() and path.samefile(other))


def _staged(path: Path, text: str, mode: int) -> Path:
    """A new file beside the place, complete and on the disk."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink()
        raise
    return temporary
