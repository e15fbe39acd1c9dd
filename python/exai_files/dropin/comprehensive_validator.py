"""Stands in for `src.file_management.comprehensive_validator`: is this a file that may be uploaded?

The file is read once, in a thread: its type is told by its bytes, and its SHA-256 is taken on the way.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import math
import os
import stat
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exai_files.dropin.content_types import content_type, executable
from exai_files.dropin.tool_error import ToolError
from exai_files.errors import InvalidRequestError

__all__ = ["ComprehensiveFileValidator", "FileValidationError", "get_file_validator", "validate_file"]

_log = logging.getLogger("exai_files.dropin")

_MIB = 1024 * 1024
_DEFAULT_LIMIT_MB = 512
_OCTETS = "application/octet-stream"
# Opened so, a pipe that has come into the file's place makes nobody wait.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class FileValidationError(ToolError, InvalidRequestError):
    """The file cannot be judged, or may not be uploaded whatever is in it: `.error_code` says why."""

    def __init__(self, message: str, error_code: str = "VALIDATION_ERROR") -> None:
        super().__init__(message)
        self.error_code = error_code


class ComprehensiveFileValidator:
    """Judges files before they are uploaded.

    Args:
        max_file_size: In bytes.
        allowed_mime_types: Types that are taken besides unknown ones; None for `DEFAULT_ALLOWED_MIMES`.
        blocked_extensions: With the dot, in lower case; None for `BLOCKED_EXTENSIONS`.
    """

    BLOCKED_EXTENSIONS: Set[str] = frozenset(
        {
            ".exe",
            ".bat",
            ".cmd",
            ".com",
            ".pif",
            ".sh",
            ".bash",
            ".zsh",
            ".ps1",
            ".psm1",
            ".scr",
            ".vbs",
            ".js",
            ".jar",
            ".app",
            ".deb",
            ".rpm",
            ".msi",
            ".dmg",
            ".pkg",
        }
    )

    # The tool's list, which kept nothing out, and what the platforms are documented to take besides.
    DEFAULT_ALLOWED_MIMES: Set[str] = frozenset(
        {
            "application/epub+zip",
            "application/gzip",
            "application/javascript",
            "application/json",
            "application/msword",
            "application/pdf",
            "application/vnd.ms-excel",
            "application/vnd.ms-powerpoint",
            "application/vnd.openxmlformats-officedocument.presentationml.presentation",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "application/x-mobipocket-ebook",
            "application/x-tar",
            "application/xml",
            "application/yaml",
            "application/zip",
            "audio/mpeg",
            "audio/x-wav",
            "image/bmp",
            "image/gif",
            "image/jpeg",
            "image/png",
            "image/svg+xml",
            "image/webp",
            "text/css",
            "text/csv",
            "text/html",
            "text/javascript",
            "text/markdown",
            "text/plain",
            "text/tab-separated-values",
            "text/x-c",
            "text/x-c++",
            "text/x-java",
            "text/x-python",
            "text/xml",
            "video/mp4",
            "video/quicktime",
            "video/webm",
            "video/x-msvideo",
        }
    )

    def __init__(
        self,
        max_file_size: int = _DEFAULT_LIMIT_MB * _MIB,
        allowed_mime_types: Set[str] | None = None,
        blocked_extensions: Set[str] | None = None,
    ) -> None:
        self.max_file_size = max_file_size
        self.allowed_mime_types = set(self.DEFAULT_ALLOWED_MIMES if allowed_mime_types is None else allowed_mime_types)
        self.blocked_extensions = set(self.BLOCKED_EXTENSIONS if blocked_extensions is None else blocked_extensions)

    async def validate(self, file_path: str) -> dict[str, Any]:
        """Judge one file.

        Returns:
            `path`, `valid`, `errors` (what is wrong with the content, in words; none when it is valid) and `metadata`:
            `size`, `extension`, `mime_type`, `sha256`.

        Raises:
            FileValidationError: With the code FILE_NOT_FOUND; NOT_A_FILE for a directory, pipe or device;
                FILE_TOO_LARGE; BLOCKED_EXTENSION; VALIDATION_ERROR when it cannot be read, is written to meanwhile, or
                its path goes up by "..".
        """
        import asyncio

        return await asyncio.to_thread(self._judge, file_path)

    def _judge(self, file_path: str) -> dict[str, Any]:
        try:
            path = self._admit(file_path)
            content = _Content.read(path, self.max_file_size)
        except FileValidationError:
            raise
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileValidationError(f"File not found: {file_path}", "FILE_NOT_FOUND") from error
        except (OSError, ValueError, TypeError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise FileValidationError(f"{file_path!r} cannot be read: {why}") from error
        mime_type = content_type(content.head, path.name)
        errors = list(self._faults(content, mime_type))
        if errors:
            _log.warning("%s is not to be uploaded: %s", file_path, "; ".join(errors))
        metadata = {
            "size": content.size,
            "extension": path.suffix.lower(),
            "mime_type": mime_type,
            "sha256": content.sha256,
        }
        return {"path": file_path, "valid": not errors, "errors": errors, "metadata": metadata}

    def _admit(self, file_path: str) -> Path:
        """What can be said before it is read."""
        path = Path(file_path)
        if ".." in path.parts:
            raise FileValidationError(f"{file_path!r} goes up by '..'; give the path of the file itself")
        info = path.stat()
        _must_be_a_file(info, path)
        _must_fit(info.st_size, self.max_file_size)
        # Neither a link's own name nor that of what it leads to.
        for name in (path, Path(os.path.realpath(path))):
            if name.suffix.lower() in self.blocked_extensions:
                raise FileValidationError(f"Blocked file type: {name.suffix.lower()}", "BLOCKED_EXTENSION")
        return path

    def _faults(self, content: _Content, mime_type: str) -> Iterator[str]:
        if not content.size:
            yield "File is empty: no platform takes it"
        if mime_type not in self.allowed_mime_types and mime_type != _OCTETS:
            yield f"Unsupported MIME type: {mime_type}"
        program = executable(content.head)
        if program:
            yield f"Suspicious file header detected: {program}"


@dataclass(frozen=True)
class _Content:
    """What reading a file once tells."""

    head: bytes
    size: int
    sha256: str

    @classmethod
    def read(cls, path: Path, limit: int) -> _Content:
        with open(path, "rb", buffering=0, opener=lambda name, _: os.open(name, _READ)) as file:
            before = os.fstat(file.fileno())
            _must_be_a_file(before, path)
            head, size, digest = b"", 0, hashlib.sha256()
            while piece := file.read(_MIB):
                head = head or piece[:8192]
                size += len(piece)
                _must_fit(size, limit)
                digest.update(piece)
            after = os.fstat(file.fileno())
        if (size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise FileValidationError(f"{str(path)!r} is being written to; try again when it is whole")
        return cls(head, size, digest.hexdigest())


def _must_be_a_file(info: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise FileValidationError(f"Path is not a file: {path}", "NOT_A_FILE")


def _must_fit(size: int, limit: int) -> None:
    if size > limit:
        raise FileValidationError(
            f"File too large: {size} bytes (max: {limit} bytes = {limit / _MIB:.1f}MB)", "FILE_TOO_LARGE"
        )


@functools.cache
def get_file_validator() -> ComprehensiveFileValidator:
    """The validator of the process. `MAX_FILE_SIZE_MB` is its limit; 512 where that is no size."""
    return ComprehensiveFileValidator(max_file_size=_limit_from_environment())


async def validate_file(file_path: str) -> dict[str, Any]:
    """As `ComprehensiveFileValidator.validate`, by the validator of the process."""
    return await get_file_validator().validate(file_path)


def _limit_from_environment() -> int:
    value = os.environ.get("MAX_FILE_SIZE_MB", "")
    try:
        megabytes = float(value or _DEFAULT_LIMIT_MB)
    except ValueError:
        megabytes = math.nan
    if not 0 < megabytes < math.inf:
        _log.warning("MAX_FILE_SIZE_MB is %r, which is no size: %d MB is used", value, _DEFAULT_LIMIT_MB)
        megabytes = _DEFAULT_LIMIT_MB
    return int(megabytes * _MIB)
