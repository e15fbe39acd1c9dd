"""Settings given in a call, laid over those of the configuration file and the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from exai_files.arguments import Seconds, in_seconds
from exai_files.errors import ConfigError

__all__ = ["KeyFunction", "key_functions", "overrides_of"]

KeyFunction = Callable[[], "str | Awaitable[str]"]
"""Gives a key when it is asked."""

_GIVEN = "given by a function"
"""In the place of a key that a function gives."""


def overrides_of(
    settings: Mapping[str, Any] | None,
    registry: str | os.PathLike[str] | None,
    platforms: Mapping[str, Mapping[str, Any]] | None = None,
    timeout: Seconds | None = None,
) -> str:
    """Settings given in a call, as JSON."""
    overrides: dict[str, Any] = json.loads(json.dumps(_table("settings", settings), default=str))
    if registry is not None:
        place = os.fspath(registry)
        _inner(overrides, "registry")["url" if "://" in place else "path"] = place
    for name, values in _table("platforms", platforms).items():
        _inner(_inner(overrides, "platforms"), name).update(_without_functions(_table(f"platforms.{name}", values)))
    if timeout is not None:
        overrides["deadline"] = in_seconds(timeout)
    return json.dumps(overrides)


def key_functions(platforms: Mapping[str, Mapping[str, Any]] | None) -> dict[str, KeyFunction]:
    """The functions that give keys, by the path of their platform's or account's table."""
    found: dict[str, KeyFunction] = {}
    for name, values in _table("platforms", platforms).items():
        _gather(f"platforms.{name}", _table(f"platforms.{name}", values), found)
    return found


def _gather(path: str, table: Mapping[str, Any], found: dict[str, KeyFunction]) -> None:
    for name, value in table.items():
        if name == "api_key" and callable(value):
            found[path] = value
        elif isinstance(value, Mapping):
            _gather(f"{path}.{name}", value, found)


def _without_functions(table: Mapping[str, Any]) -> dict[str, Any]:
    def plain(name: str, value: object) -> object:
        if isinstance(value, Mapping):
            return _without_functions(value)
        return _GIVEN if name == "api_key" and callable(value) else value

    return {name: plain(name, value) for name, value in table.items()}


def _table(name: str, given: object) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"{name} is a {type(given).__name__}", hint="give a dictionary, nested as in the file")
    return dict(given)


def _inner(table: dict[str, Any], name: str) -> dict[str, Any]:
    inner: dict[str, Any] = table.setdefault(name, {})
    if not isinstance(inner, dict):
        raise ConfigError(f"{name} is a {type(inner).__name__}", hint="give a dictionary, nested as in the file")
    return inner
