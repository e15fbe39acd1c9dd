"""What a `create` is called with: every form of file that the SDK takes."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from exai_files.arguments import in_seconds, kept_for
from exai_files.errors import InvalidRequestError
from exai_files.sources import Source

__all__ = ["Creation", "creating", "creation_of"]

_NAMELESS = "upload"
"""What the SDK calls bytes without a name."""


@dataclass(frozen=True)
class Creation:
    """What a `create` was called with.

    Attributes:
        keep_for: How long it is wanted, in seconds.
    """

    source: Source
    name: str | None
    purpose: str
    keep_for: float


creating: ContextVar[Creation | None] = ContextVar("creating", default=None)
"""What the request that is being made creates."""


def creation_of(given: Mapping[str, Any]) -> Creation | None:
    """What the arguments of a `create` say; None where the SDK would refuse the file, and may.

    Raises:
        InvalidRequestError: Something is asked for that nobody would honour.
        OSError: There is no such file.
    """
    unknown = set(given) - {"file", "purpose", "expires_after"}
    if unknown:
        raise InvalidRequestError(f"create cannot honour {', '.join(sorted(unknown))}", hint="leave it out")
    found = _file(given["file"])
    if found is None or "purpose" not in given:
        return None
    purpose = given["purpose"]
    if not isinstance(purpose, str):
        raise InvalidRequestError(f"a purpose cannot be {purpose!r}", hint='pass text, e.g. "file-extract"')
    return Creation(*found, purpose, kept_for(_lifetime(given.get("expires_after"))))


def _file(file: Any) -> tuple[Source, str | None] | None:  # noqa: ANN401  (whatever is passed)
    """A file and its name."""
    if not isinstance(file, tuple):
        return _content(file, None)
    if not 2 <= len(file) <= 4 or not isinstance(file[0], str):
        return None
    if len(file) == 4 and file[3]:
        raise InvalidRequestError(
            f"headers of a file cannot be passed on: {', '.join(map(repr, file[3]))}", hint="leave them out"
        )
    content = file[1].encode() if isinstance(file[1], str) else file[1]
    return _content(content, file[0])


def _content(content: Any, name: str | None) -> tuple[Source, str | None] | None:  # noqa: ANN401
    if isinstance(content, bytes):
        return content, name or _NAMELESS
    if isinstance(content, os.PathLike):
        Path(content).stat()  # raises what Python says of one that is not there, as in the SDK
        return content, name
    if not isinstance(content, io.IOBase) or isinstance(content, io.TextIOBase):
        return None
    if content.seekable():
        content.seek(0)
    own_name = getattr(content, "name", None)
    return cast(Source, content), name or Path(own_name if isinstance(own_name, str) else _NAMELESS).name


def _lifetime(expires_after: Any) -> float | None:  # noqa: ANN401  (whatever is passed)
    if expires_after is None:
        return None
    if not isinstance(expires_after, Mapping) or expires_after.get("anchor") != "created_at":
        raise InvalidRequestError(
            f"expires_after cannot be {expires_after!r}", hint='pass {"anchor": "created_at", "seconds": …}'
        )
    return in_seconds(expires_after.get("seconds", math.nan))
