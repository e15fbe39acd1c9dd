"""The tool's tables, row by row: JSON to the core and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exai_files._core import ToolTables

__all__ = ["PROVIDERS", "Row", "Rows", "as_json", "provider_of", "timestamp"]

Row = dict[str, Any]
"""By the table's columns; times as RFC 3339."""

PROVIDERS = {"moonshot": "kimi", "zai": "glm"}
"""Platforms as the tool's tables call them."""


def provider_of(platform: str) -> str:
    """A platform in the tool's words, whichever word it is given in."""
    return PROVIDERS.get(platform.lower(), platform.lower())


def timestamp(moment: datetime | None = None) -> str:
    """A moment (default: now) as the tables have it."""
    return (moment or datetime.now(timezone.utc)).isoformat()


LONGEST = {"operation": 100, "recovery_strategy": 100, "platform_file_id": 255, "content_type": 255, "file_hash": 64}
"""Characters that columns of the tool's hold; others for a word hold 50."""

_WORDS = ("status", "error_code", "platform", "local_status", "platform_status", "sync_status")


def as_json(row: Mapping[str, Any]) -> str:
    """A row for the core: words cut to their columns, and no text or number that a database would refuse."""
    longest = {**LONGEST, **dict.fromkeys(_WORDS, 50)}
    cut = {name: value[: longest.get(name)] if isinstance(value, str) else value for name, value in row.items()}
    try:
        text = json.dumps(cut, default=str, allow_nan=False, ensure_ascii=False)
    except ValueError:  # not a number, or in itself
        text = json.dumps({**cut, "operation_details": {"repr": repr(row.get("operation_details"))}}, default=str)
    return text.encode("utf-8", "replace").decode()


class Rows:
    """What the classes write and read.

    Raises:
        InvalidRequestError: A file's id is no UUID, or a value is not its column's.
        RegistryError: The database failed.
    """

    def __init__(self, tables: ToolTables) -> None:
        self.tables = tables

    async def add(self, table: str, row: Mapping[str, Any]) -> str:
        """Adds a row; gives its id."""
        added: str = await self.tables.add(table, as_json(row))
        return added

    async def find(self, table: str, column: str, value: str) -> list[Row]:
        """Rows where a column has this value, the oldest first."""
        found: list[Row] = await self.tables.find(table, column, value)
        return found

    async def platforms(self, file_id: str) -> list[Row]:
        """Rows of `platform_file_registry` that name a file, and of its content."""
        found: list[Row] = await self.tables.platforms(file_id)
        return found

    async def note_health(self, row: Mapping[str, Any]) -> str:
        """Adds a row to `file_health_checks`, and notes it with the copy and its file."""
        added: str = await self.tables.note_health(as_json(row))
        return added

    async def note_hash(self, row: Mapping[str, Any]) -> str | None:
        """Notes a digest with a file; gives the file that had it first, if another one did."""
        original: str | None = await self.tables.note_hash(as_json(row))
        return original
