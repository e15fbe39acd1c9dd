"""Files of the registry that fit, as an iterator or as a table."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from exai_files.arguments import Seconds, as_json, moment, texts
from exai_files.calls import Calls
from exai_files.errors import InvalidRequestError
from exai_files.records import FileRecord, FileStatus

if TYPE_CHECKING:
    from exai_files import _core

__all__ = ["AsyncListing", "Listing"]


class Listing:
    """Files that fit, newest first. Each iteration asks the registry anew, page by page."""

    def __init__(self, calls: Calls, file_filter: str) -> None:
        self._calls, self._filter = calls, file_filter

    def __iter__(self) -> Iterator[FileRecord]:
        after = None
        while page := self._calls.page(self._filter, after).wait():
            yield from page
            after = page[-1].digest

    def to_arrow(self) -> _core.Table:
        """All of them as an Arrow table: one row each, with the copies as a list of structs.

        It speaks the Arrow PyCapsule interface: `pyarrow.table(t)`, `polars.DataFrame(t)`, `duckdb.sql("FROM t")` and
        `pandas.DataFrame.from_arrow(t)` read it without copying. Times are UTC, metadata is JSON text.
        """
        return self._calls.table(self._filter).wait()


class AsyncListing:
    """Files that fit, newest first. Each iteration asks the registry anew, page by page."""

    def __init__(self, calls: Calls, file_filter: str) -> None:
        self._calls, self._filter = calls, file_filter

    async def __aiter__(self) -> AsyncIterator[FileRecord]:
        after = None
        while page := await self._calls.page(self._filter, after).run():
            for record in page:
                yield record
            after = page[-1].digest

    async def to_arrow(self) -> _core.Table:
        """As `Listing.to_arrow`."""
        return await self._calls.table(self._filter).run()


def file_filter(
    *,
    tag: str | Sequence[str] | None,
    newer_than: Seconds | datetime | None,
    older_than: Seconds | datetime | None,
    larger_than: int | None,
    smaller_than: int | None,
    expires_within: Seconds | datetime | None,
    status: FileStatus | None,
    **same: str | None,
) -> str:
    """What to look for, as JSON for the core."""
    wanted: dict[str, Any] = {
        **same,
        "status": status,
        "tags": texts("tags", tag),
        "created_after": moment(newer_than, -1),
        "created_before": moment(older_than, -1),
        "min_size": _bytes(larger_than, +1),
        "max_size": _bytes(smaller_than, -1),
        "expires_before": moment(expires_within, +1),
    }
    for name, value in same.items():
        if value is not None and not isinstance(value, str):
            raise InvalidRequestError(f"{name} cannot be a {type(value).__name__}", hint="pass text")
    return as_json(wanted)


def _bytes(limit: int | None, step: int) -> int | None:
    """Sizes beyond a limit, as an inclusive bound."""
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise InvalidRequestError(f"a size of {limit!r} is not possible", hint="give a number of bytes")
    return max(limit + step, 0)
