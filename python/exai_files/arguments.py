"""What callers pass, checked and said as the core takes it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Union

from exai_files.errors import InvalidRequestError
from exai_files.records import FileRecord, Replica

__all__ = [
    "FileReference",
    "Seconds",
    "as_json",
    "deletion_cap",
    "destination",
    "in_seconds",
    "kept_for",
    "labels",
    "moment",
    "place",
    "reference",
    "span",
    "texts",
]

FileReference = Union[str, FileRecord, Replica]
"""Which file: a record or replica, a digest or at least six characters of one, a remote id, or an exact name."""

Seconds = Union[float, timedelta]
"""A duration."""

_LONGEST = 1e11
"""Seconds: 3,000 years, beyond which nothing happens."""


def reference(file: FileReference) -> str:
    """What the core knows a file by."""
    if isinstance(file, FileRecord):
        return file.digest
    if isinstance(file, Replica):
        return file.remote_id
    if isinstance(file, str):
        return file
    raise InvalidRequestError(
        f"{type(file).__name__} does not name a file",
        hint="pass a FileRecord, a Replica, a digest, a remote id or a name",
    )


def place(file: FileReference, platform: str | None) -> str | None:
    """A replica says itself where it is."""
    return file.platform if platform is None and isinstance(file, Replica) else platform


def destination(to: str | Sequence[str] | None, prefer: Sequence[str] | None) -> dict[str, Any]:
    if to == "any":
        return {"to": [], "prefer": texts("platforms", prefer)}
    if prefer is not None:
        raise InvalidRequestError('`prefer` was given without to="any"', hint='pass to="any", or leave it out')
    return {"to": texts("platforms", to), "prefer": None}


def labels(
    *,
    tags: Sequence[str],
    metadata: Mapping[str, Any] | None,
    untag: Sequence[str] = (),
    owner: str | None = None,
) -> str:
    """What is said of a file, as JSON."""
    given = {"tags": texts("tags", tags), "untag": texts("tags", untag)}
    try:
        return json.dumps({**given, "metadata": dict(metadata or {}), "owner": owner}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(
            f"this metadata is no JSON: {error}", hint="use text, numbers, lists and dictionaries with text as keys"
        ) from None


def deletion_cap(most: int | str) -> dict[str, int]:
    """A number of files, or a part of them."""
    if isinstance(most, int) and not isinstance(most, bool) and most >= 0:
        return {"files": most}
    percent = most.removesuffix("%").strip() if isinstance(most, str) and most.endswith("%") else ""
    if percent.isdecimal() and int(percent) <= 100:
        return {"percent": int(percent)}
    raise InvalidRequestError(f"max_delete cannot be {most!r}", hint='give a number of files, or a part such as "10%"')


def texts(what: str, given: str | Sequence[str] | None) -> list[str]:
    """One text, or several."""
    found = [given] if isinstance(given, str) else given or []
    if not isinstance(found, Iterable):
        raise InvalidRequestError(f"{given!r} is no list of {what}", hint="pass a text, or a list of them")
    listed = list(found)
    if not all(isinstance(text, str) for text in listed):
        raise InvalidRequestError(f"{given!r} is no list of {what}", hint="pass a text, or a list of them")
    return listed


def in_seconds(duration: Seconds | None) -> float | None:
    if duration is None or isinstance(duration, timedelta):
        return None if duration is None else duration.total_seconds()
    if isinstance(duration, bool) or not isinstance(duration, (int, float)) or math.isnan(duration):
        raise InvalidRequestError(
            f"a duration of {duration!r} is not possible", hint="give seconds as a number, or a timedelta"
        )
    return float(duration)


def span(duration: Seconds | None) -> float:
    """A duration that has to be given, in seconds."""
    seconds = in_seconds(duration)
    if seconds is None or seconds < 0:
        raise InvalidRequestError(
            f"a duration of {duration!r} is not possible", hint="give seconds as a number, or a timedelta"
        )
    return min(seconds, _LONGEST)


def kept_for(for_: Seconds | None) -> float:
    """How long a file is wanted, in seconds: endless when nothing is said."""
    return math.inf if for_ is None else span(for_)


def moment(given: Seconds | datetime | None, direction: int) -> int | None:
    """Microseconds since 1970 of a moment, or of a time ago (-1) or ahead (+1)."""
    if given is None:
        return None
    if not isinstance(given, datetime):
        away = direction * min(max(in_seconds(given) or 0.0, 0.0), _LONGEST)
        return max(int((datetime.now(timezone.utc).timestamp() + away) * 1_000_000), 0)
    try:
        return int(given.timestamp() * 1_000_000)
    except (OverflowError, ValueError, OSError) as error:
        raise InvalidRequestError(f"{given!r} is no moment: {error}", hint="give one with a time zone") from None


def as_json(request: Mapping[str, Any]) -> str:
    """A request for the core."""
    try:
        return json.dumps(request, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"this cannot be asked: {error}", hint="see the documentation of the call") from None
