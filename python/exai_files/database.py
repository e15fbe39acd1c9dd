"""The registry's database: what its schema lacks, what would be done about it, and how it is.

    with exai_files.Database(registry="postgres://localhost/exai") as database:
        for step in database.plan().steps:
            print(step.sql)
        database.migrate()

A client brings its own registry up to date by itself. Only tables of the existing EXAI tool it leaves alone, until
`migrate` has taken them over.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from exai_files import _core
from exai_files.arguments import Seconds, span
from exai_files.overrides import overrides_of

__all__ = ["Database", "DatabaseStatus", "ImportReport", "MaintenanceReport", "RejectedRow", "SchemaPlan", "SchemaStep"]


@dataclass(frozen=True)
class SchemaStep:
    """One numbered step of the schema, and its DDL."""

    version: int
    name: str
    sql: str


@dataclass(frozen=True)
class SchemaPlan:
    """What `migrate` would do."""

    adopts: tuple[str, ...]
    """Tables of the existing EXAI tool that would be taken over, with every row."""
    steps: tuple[SchemaStep, ...]


@dataclass(frozen=True)
class DatabaseStatus:
    """How a database is."""

    database: str
    version: int
    """Steps taken."""
    latest: int
    """Steps known."""
    size: int
    """Bytes."""
    drift: tuple[str, ...]
    """Tables and columns that should be there and are not."""


@dataclass(frozen=True)
class RejectedRow:
    """A row that was not taken in."""

    table: str
    id: str
    why: str


@dataclass(frozen=True)
class ImportReport:
    """What an import found, and took in."""

    contents: int
    """Contents that were new,"""
    known_contents: int
    """and those that were known."""
    replicas: int
    """Copies on platforms that were new,"""
    known_replicas: int
    """and those that were known."""
    rejects: tuple[RejectedRow, ...]


@dataclass(frozen=True)
class MaintenanceReport:
    """What was done, or would be."""

    removed: Mapping[str, int]
    """Rows, by table."""
    partitions_made: int
    partitions_dropped: int
    size_before: int
    """Bytes."""
    size_after: int


class Database:
    """The database behind a registry. Connects, and changes nothing but by `migrate`.

    Args:
        config_file: As for `Client`.
        registry: A file, or the URL of a PostgreSQL database.
        settings: As for `Client`.
        environment: As for `Client`.

    Raises:
        ConfigError: A setting is wrong.
        RegistryError: The database cannot be reached.
    """

    def __init__(
        self,
        *,
        config_file: str | os.PathLike[str] | None = None,
        registry: str | os.PathLike[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._core = _core.Database(
            None if config_file is None else Path(config_file),
            dict(os.environ if environment is None else environment),
            overrides_of(settings, registry),
        )

    def plan(self) -> SchemaPlan:
        """The steps that the schema has yet to take.

        Raises:
            RegistryError: It was made by a newer version, or holds tables that cannot be adopted.
        """
        told = self._core.plan()
        return SchemaPlan(tuple(told["adopts"]), tuple(SchemaStep(**step) for step in told["steps"]))

    def migrate(self) -> DatabaseStatus:
        """Take them, in one transaction; safe to repeat, and from many processes at once.

        Raises:
            RegistryError: As `plan`; then nothing has changed.
        """
        return _status(self._core.migrate())

    def status(self) -> DatabaseStatus:
        """How the database is."""
        return _status(self._core.status())

    def import_rows(self, source: str | None = None, *, dry_run: bool = False) -> ImportReport:
        """Take in what the existing EXAI tool noted in its other tables; safe to repeat.

        Those are `files`, `file_hashes`, `provider_file_uploads` and `file_id_mappings`. What is known already stays as
        it is. The tool does not note what a file was uploaded for, so these copies stand in for no upload, until
        `Client.reconcile(winner="platform")` has asked the platforms.

        Args:
            source: URL of the PostgreSQL database with those tables. Default: this one.
            dry_run: Say what would be taken in, and change nothing.

        Raises:
            InvalidRequestError: There are no such tables.
            RegistryError: The schema is not up to date, or a database cannot be reached.
        """
        told = self._core.import_rows(source, dry_run).wait()
        return ImportReport(**{**told, "rejects": tuple(RejectedRow(**reject) for reject in told["rejects"])})

    def maintain(self, *, keep: Seconds = 90 * 86_400.0, dry_run: bool = False) -> MaintenanceReport:
        """Remove old history and keep the database small and quick; safe while others work.

        History is what was done and is over: closed intents of uploads, state of breakers and limits that nobody uses,
        and on PostgreSQL health checks, synchronisations and recovery attempts. The audit trail stays. On PostgreSQL
        this also makes the partitions of this month and the next.

        Args:
            keep: What is younger stays: seconds, or timedelta; a day at least.
            dry_run: Say how much would be removed, and change nothing.
        """
        return MaintenanceReport(**self._core.maintain(span(keep), dry_run).wait())

    def close(self) -> None:
        """Close the connection."""
        self._core.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _status(told: Mapping[str, Any]) -> DatabaseStatus:
    return DatabaseStatus(**{**told, "drift": tuple(told["drift"])})
