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
from exai_files.calls import overrides_of

__all__ = ["Database", "DatabaseStatus", "SchemaPlan", "SchemaStep"]


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
