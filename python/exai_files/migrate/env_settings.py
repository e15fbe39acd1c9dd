"""Keys of the existing tool for which exai-files has settings, and the configuration file that they give."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from exai_files.migrate.env_file import references
from exai_files.migrate.env_secrets import is_secret

__all__ = ["Move", "moves", "toml"]


class _Refused(Exception):
    """The setting cannot have this value; says why."""


@dataclass(frozen=True)
class Move:
    """One key's way into the configuration file.

    Attributes:
        settings: Path and value of each setting; none where exai-files does the same without.
        note: What there is to know about it, or why it is not moved.
        is_off: It is written as a comment: somebody has to decide.
        is_refused: It cannot be a setting.
    """

    key: str
    settings: tuple[tuple[str, Any], ...] = ()
    note: str = ""
    is_off: bool = False
    is_refused: bool = False


Found: TypeAlias = tuple[dict[str, Any], str]
"""Settings, and a note."""

_OWN_URLS: dict[str, dict[str, str | None]] = {
    "moonshot": {"https://api.moonshot.ai/v1": None, "https://api.moonshot.cn/v1": "cn"},
    "zai": {"https://api.z.ai/api/paas/v4": None},
    "zhipu": {"https://open.bigmodel.cn/api/paas/v4": None},
}
"""The platforms' own base URLs, each with the region that means it."""

_PROVIDERS = {"kimi": "moonshot", "moonshot": "moonshot", "glm": "zai", "zai": "zai", "zhipu": "zhipu"}
_QUOTAS = "a comment in the configuration file: where users have quotas, each upload has to say whose it is"


def moves(values: Mapping[str, str], now: datetime) -> dict[str, Move]:
    """What of an environment becomes settings, by key. Of several keys for one setting the first counts."""
    found: dict[str, Move] = {}
    taken: dict[str, str] = {}
    for keys, convert in _TABLE:
        first = None
        for key in (each for each in keys if values.get(each)):
            move = _move(key, values[key], convert, now)
            if first and not move.is_refused:
                move = replace(move, settings=(), note=f"{first} says it already")
            elif not move.is_refused:
                first, own = key, tuple(each for each in move.settings if each[0] not in taken)
                others = sorted({f"{path} is what {taken[path]} says" for path, _ in move.settings if path in taken})
                move = replace(move, settings=own, note="; ".join([move.note, *others] if move.note else others))
            taken.update((path, key) for path, _ in move.settings)
            found[key] = move
    return found


def _move(key: str, value: str, convert: Callable[[str, datetime], Found], now: datetime) -> Move:
    if is_secret(key, value):
        return Move(key, note="a secret does not belong into the configuration file", is_refused=True)
    if any(references(value)):
        return Move(key, note="its value depends on the process", is_refused=True)
    try:
        settings, note = convert(value.strip(), now)
    except _Refused as refused:
        return Move(key, note=f"no setting: {refused}", is_refused=True)
    return Move(key, tuple(settings.items()), note, is_off=note == _QUOTAS)


# ===== values =====


def _base_url(platform: str) -> Callable[[str, datetime], Found]:
    def convert(text: str, _: datetime) -> Found:
        url = text.rstrip("/")
        if url in _OWN_URLS[platform]:
            region = _OWN_URLS[platform][url]
            return (
                ({f"platforms.{platform}.region": region}, "") if region else ({}, f"the base URL of {platform} anyway")
            )
        return {f"platforms.{platform}.base_url": _checked_url(url)}, ""

    return convert


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _Refused("this is no URL") from None
    if re.search(r"[\s\\]", url) or not host or port == 0 or parts.query or parts.fragment or "@" in parts.netloc:
        raise _Refused("this is no URL such as https://api.example.com/v1")
    try:
        address = ip_address(host)
    except ValueError:
        is_here, is_near = host == "localhost", False
    else:
        is_here, is_near = address.is_loopback, not address.is_global
    if is_near and not is_here:
        raise _Refused("it leads into your own network; see allow_private_addresses")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_here):
        raise _Refused("a key would travel in the clear; it has to be https")
    return url


def _database(text: str, _: datetime) -> Found:
    if not re.match(r"postgres(?:ql)?://", text):
        raise _Refused("it does not begin with postgres://")
    return {"registry.url": text}, ""


def _redis(text: str, _: datetime) -> Found:
    if not re.fullmatch(r"rediss?://[^/,\s]+(?:/.*)?", text):
        raise _Refused("it does not begin with redis:// and the name of a host")
    return {"redis.url": text}, ""


def _number(text: str, least: float, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        raise _Refused("this is no number") from None
    if not least <= number <= most:
        raise _Refused(f"it has to be from {least:g} to {most:g}")
    return int(number) if number.is_integer() else number


def _seconds(path: str) -> Callable[[str, datetime], Found]:
    return lambda text, _: ({path: _number(text, 0.001, 1e9)}, "")


def _whole(text: str, most: int) -> int:
    number = _number(text, 1, most)
    if not isinstance(number, int):
        raise _Refused("it has to be a whole number")
    return number


def _concurrency(*platforms: str) -> Callable[[str, datetime], Found]:
    return lambda text, _: ({f"platforms.{name}.concurrency": _whole(text, 10_000) for name in platforms}, "")


def _quota(path: str, unit: int = 1) -> Callable[[str, datetime], Found]:
    return lambda text, _: ({path: int(_number(text, 1 / unit, 2**62 / unit) * unit)}, _QUOTAS)


def _retention(text: str, _: datetime) -> Found:
    days = _whole(text, 36_500)
    note = "applied by `exai-files lifecycle apply` and `exai-files watch`"
    return {"lifecycle.rules.retention.keep_within": f"{days}d", "lifecycle.rules.retention.then": "delete"}, note


def _grace(text: str, now: datetime) -> Found:
    until = (now + timedelta(days=_number(text, 0, 36_500))).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"access.grace_until": until}, "counted from now, and not from each start of a process"


def _provider(text: str, _: datetime) -> Found:
    if text.lower() not in _PROVIDERS:
        raise _Refused("there is no such platform")
    return {"default_platforms": [_PROVIDERS[text.lower()]]}, ""


def _text(path: str) -> Callable[[str, datetime], Found]:
    def convert(text: str, _: datetime) -> Found:
        if not text.isprintable():
            raise _Refused("there are control characters in it")
        return {path: text}, ""

    return convert


_TABLE: tuple[tuple[tuple[str, ...], Callable[[str, datetime], Found]], ...] = (
    (("PREFERRED_PROVIDER",), _provider),
    (("SUPABASE_DB_URL", "EXAI_DATABASE_URL"), _database),
    (("REDIS_URL",), _redis),
    (
        (
            "FILE_UPLOAD_TIMEOUT_SECS",
            "KIMI_FILES_UPLOAD_TIMEOUT_SECS",
            "GLM_FILE_UPLOAD_TIMEOUT_SECS",
            "UPLOAD_TIMEOUT",
        ),
        _seconds("http.total_timeout"),
    ),
    (("KIMI_BASE_URL", "KIMI_API_URL", "MOONSHOT_BASE_URL"), _base_url("moonshot")),
    (("GLM_API_URL", "GLM_BASE_URL", "ZAI_BASE_URL"), _base_url("zai")),
    (("ZHIPUAI_BASE_URL", "ZHIPUAI_API_URL"), _base_url("zhipu")),
    (("KIMI_FILES_MAX_PARALLEL",), _concurrency("moonshot")),
    (("MAX_CONCURRENT_UPLOADS",), _concurrency("moonshot", "zai")),
    (("FILE_RETENTION_DAYS",), _retention),
    (("DEFAULT_USER_QUOTA_BYTES",), _quota("quotas.max_bytes")),
    (("DEFAULT_USER_QUOTA_GB",), _quota("quotas.max_bytes", 1 << 30)),
    (("DEFAULT_MAX_FILE_SIZE_BYTES", "MAX_FILE_SIZE_PER_USER"), _quota("quotas.max_file_bytes")),
    (("JWT_ISSUER",), _text("access.jwt_issuer")),
    (("JWT_AUDIENCE",), _text("access.jwt_audience")),
    (("JWT_GRACE_PERIOD_DAYS",), _grace),
)

# ===== the file =====

_HEAD = """\
# Settings of exai-files, made by `exai-files migrate env`; `exai-files config example` prints all there are.
# Keys and passwords do not stand here: they are in the environment file.
"""


def toml(moved: Mapping[str, Move]) -> str:
    """The configuration file."""
    tables: dict[str, list[str]] = {}
    for move in moved.values():
        for path, value in move.settings:
            table, _, name = path.rpartition(".")
            line = f"{name} = {json.dumps(value, ensure_ascii=False)}  # {move.key}"
            tables.setdefault(table, []).append(f"# {line}" if move.is_off else line)
    text = _HEAD
    for table in sorted(tables):
        lines = "".join(f"{line}\n" for line in tables[table])
        text += f"\n[{table}]\n{lines}" if table else f"\n{lines}"
    return text
