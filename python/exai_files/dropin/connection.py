"""The one client that the drop-in's classes share in a process: opened when it is first used, never by a constructor.

It is set up by the tool's own variables: SUPABASE_DB_URL (or EXAI_DATABASE_URL) says where rows go, REDIS_URL where limits
and breakers are shared, KIMI_BASE_URL and GLM_BASE_URL where the platforms are. What is said in our words, in
`exai-files.toml` or EXAI_FILES_…, wins.

The tool's classes log a failure and go on. So do ours, but each failure is counted, and raised where
EXAI_FILES_DROPIN_STRICT is set.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from exai_files.dropin.metrics import counter
from exai_files.dropin.threads import in_thread
from exai_files.errors import Error

if TYPE_CHECKING:
    from exai_files.async_client import AsyncClient
    from exai_files.client import Client
    from exai_files.dropin.mirror import Mirror
    from exai_files.dropin.rows import Rows

__all__ = [
    "OWN_HOSTS",
    "Connection",
    "OfTool",
    "close",
    "connected",
    "connection",
    "first_set",
    "forgiving",
    "in_our_words",
    "use",
]

P = ParamSpec("P")
T = TypeVar("T")
Verb = Callable[P, Coroutine[Any, Any, T]]

log = logging.getLogger("exai_files.dropin")

failures = counter(
    "exai_files_dropin_failures_total", "Calls of the existing tool's classes that failed and were logged.", ["call"]
)

OWN_HOSTS = {"moonshot": ("api.moonshot.ai",), "zai": ("api.z.ai",)}
"""Hosts that need not be set."""

PAUSE = 5.0
"""Seconds for which a registry that could not be opened is not tried again: whoever asks meanwhile hears why at once."""

_lock = threading.Lock()
_connection: Connection | None = None
_failure: tuple[float, Error] | None = None


@dataclass
class Connection:
    """What the classes work with.

    Attributes:
        client: For coroutines.
        waiting: The same, for code that waits.
        rows: The tool's tables.
        mirror: Where they are mirrored to, if they are.
        is_own: Whether it was opened here.
    """

    client: AsyncClient
    waiting: Client
    rows: Rows
    mirror: Mirror | None = None
    is_own: bool = False

    def close(self) -> None:
        if self.mirror is not None:
            self.mirror.stop()
        self.waiting.close()


def in_our_words(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment with what the tool's variables say in ours, where these say nothing themselves."""

    def first(*names: str) -> str:
        return first_set(environment, *names)

    said: dict[str, str] = {}
    if database := first("EXAI_DATABASE_URL", "SUPABASE_DB_URL"):
        said["EXAI_FILES_REGISTRY__URL"] = database
    if redis := first("REDIS_URL"):
        said |= {"EXAI_FILES_REDIS__URL": redis, "EXAI_FILES_REDIS__EXISTING_TOOL_KEYS": "true"}
    for platform, names in {
        "moonshot": ("KIMI_BASE_URL", "KIMI_API_URL", "MOONSHOT_BASE_URL"),
        "zai": ("GLM_BASE_URL", "GLM_API_URL", "ZAI_BASE_URL"),
    }.items():
        url = first(*names)
        if not url or urlsplit(url).hostname in OWN_HOSTS[platform]:
            continue
        if urlsplit(url).hostname == "api.moonshot.cn":
            said["EXAI_FILES_PLATFORMS__MOONSHOT__REGION"] = "cn"
        else:
            said[f"EXAI_FILES_PLATFORMS__{platform.upper()}__BASE_URL"] = url.rstrip("/")
    return {**said, **environment}


def first_set(environment: Mapping[str, str], *names: str) -> str:
    """The first of these variables that says something, without a comment that its file has left behind it; else ""."""
    values = (environment.get(name, "").partition(" #")[0].strip() for name in names)
    return next(filter(None, values), "")


def connection() -> Connection:
    """Opens it if nobody has. Blocking: not in an event loop.

    Raises:
        ConfigError: Something is wrong with the configuration.
        RegistryError: The registry cannot be opened.
    """
    global _connection, _failure
    with _lock:
        if _connection is None:
            if _failure is not None and monotonic() - _failure[0] < PAUSE:
                raise _failure[1]
            try:
                _connection = _opened(in_our_words(os.environ))
            except Error as error:
                _failure = monotonic(), error
                raise
        return _connection


async def connected() -> Connection:
    """The same, beside the event loop."""
    there = _connection
    return there if there is not None else await in_thread(connection)


def use(client: Client | AsyncClient) -> None:
    """Lets the drop-in work through this client, in place of one that it opens itself. It stays yours to close."""
    global _connection
    close()
    with _lock:
        _connection = _around(client)


def close() -> None:
    """Closes the client, if it was opened here; what is used next opens another one."""
    global _connection, _failure
    with _lock:
        there, _connection, _failure = _connection, None, None
    if there is not None and there.is_own:
        there.close()


def _opened(environment: Mapping[str, str]) -> Connection:
    from exai_files.client import Client
    from exai_files.dropin.mirror import mirror_of

    client = Client(environment=environment)
    there = _around(client)
    there.is_own = True
    if any(setting.path == "registry.url" for setting in client.settings()):
        log.info("rows of the tool's tables go to the PostgreSQL database that is configured")
    else:
        log.info("rows of the tool's tables go to the embedded registry; set SUPABASE_DB_URL for a shared database")
        there.mirror = mirror_of(environment, there.rows)
    return there


def _around(client: Client | AsyncClient) -> Connection:
    from exai_files.async_client import AsyncClient
    from exai_files.client import Client
    from exai_files.dropin.rows import Rows

    # Both faces of one client.
    awaited, waiting = object.__new__(AsyncClient), object.__new__(Client)
    awaited._calls = waiting._calls = client._calls
    return Connection(awaited, waiting, Rows(client._calls.core.tool_tables()))


def is_strict() -> bool:
    return os.environ.get("EXAI_FILES_DROPIN_STRICT", "").lower() in ("1", "true", "yes", "on")


def failed(call: str, error: Exception) -> None:
    """Logs and counts it.

    Raises:
        Exception: The same, where that is wanted.
    """
    failures.labels(call).inc()
    log.error("%s failed: %s", call, error)
    if is_strict():
        raise error


def forgiving(instead: object) -> Callable[[Verb[P, T]], Verb[P, T]]:
    """Makes a coroutine log what goes wrong, and give `instead`, as the tool's do. A list is given anew each time."""

    def decorate(verb: Verb[P, T]) -> Verb[P, T]:
        @functools.wraps(verb)
        async def run(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return await verb(*args, **kwargs)
            except Exception as error:
                failed(verb.__qualname__, error)
            return list(instead) if isinstance(instead, list) else instead  # type: ignore[return-value]

        return run

    return decorate


class OfTool:
    """What each of the tool's classes has."""

    @property
    def supabase(self) -> Any:
        """The tool's own storage manager, for code that reaches for it; None where there is none."""
        try:
            from src.storage.supabase_client import get_storage_manager  # type: ignore[import-not-found]
        except ImportError:
            return None
        return get_storage_manager()
