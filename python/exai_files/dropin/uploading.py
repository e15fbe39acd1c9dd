"""What the tool's upload functions have in common: one upload, by the account whose key the caller has.

An id is good for the account that uploaded the file, so a caller with a key of its own is served by that account: where it
is not the environment's, under a name made of the key's fingerprint.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from exai_files.dropin.connection import OWN_HOSTS, connection, first_set, in_our_words
from exai_files.dropin.environment import whole_number
from exai_files.dropin.file_metrics import UploadOutcome, record_deduplication_hit, recorded_upload
from exai_files.dropin.purposes import purpose_on
from exai_files.dropin.rows import PROVIDERS
from exai_files.errors import FileTooLargeError

if TYPE_CHECKING:
    from exai_files.client import Client
    from exai_files.records import FileRecord, Replica

__all__ = ["KEYS", "OverLimitError", "account_of", "close", "copy_of", "counted", "note_origin", "upload"]

KEYS = {
    "moonshot": ("MOONSHOT_API_KEY", "KIMI_API_KEY"),
    "zai": ("ZAI_API_KEY", "GLM_API_KEY", "ZHIPUAI_API_KEY"),
}
"""Variables that hold the environment's own key."""

_LIMITS = {"moonshot": "KIMI_FILES_MAX_SIZE_MB", "zai": "GLM_FILES_MAX_SIZE_MB"}

MOST = 16
"""Accounts of callers' own that are open at a time."""

_OF_A_KEY = "key-"

_clients: dict[tuple[str, str, str], Client] = {}
_lock = threading.Lock()


class OverLimitError(FileTooLargeError, ValueError):
    """The file is larger than KIMI_FILES_MAX_SIZE_MB or GLM_FILES_MAX_SIZE_MB says."""


def upload(
    platform: str,
    file_path: str | os.PathLike[str],
    purpose: str | None,
    caller: Any = None,
    timeout: float | None = None,
) -> str:
    """Puts a file on a platform, where it is not there already; gives its id there.

    Args:
        platform: "moonshot" or "zai".
        purpose: In any spelling of the tool's.
        caller: Something with an `api_key`, and perhaps a `base_url`, such as an OpenAI client: whose account it is.
        timeout: Seconds.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It has no such purpose, or the file is too large.
        exai_files.Error: The platform or the registry failed.
    """
    meant = purpose_on(platform, purpose)
    _check_size(platform, file_path)
    client, account = account_of(platform, caller)
    with counted(PROVIDERS[platform], "system", file_path) as outcome:
        record = client.upload(file_path, to=platform, purpose=meant, account=account, timeout=timeout)
        copy = copy_of(record, platform, meant, account)
        note_origin(outcome, copy)
    return copy.remote_id


@contextmanager
def counted(provider: str, user_id: str, path: str | os.PathLike[str]) -> Iterator[UploadOutcome]:
    """An upload, in the tool's metrics."""
    size = os.stat(path).st_size if os.path.isfile(path) else 0  # noqa: PTH113, PTH116
    with recorded_upload(provider, user_id, size) as outcome:
        yield outcome


def note_origin(outcome: UploadOutcome, copy: Replica) -> None:
    """That it was there already, if it was."""
    if copy.origin == "already-there":
        outcome.status = "deduplicated"
        record_deduplication_hit()


def copy_of(record: FileRecord, platform: str, purpose: str | None = None, account: str | None = None) -> Replica:
    """The copy of a file that is for this purpose, and of this account; for none, the first of ours.

    What others have registered has no purpose, and callers' own accounts are named for their keys.
    """
    return next(
        copy
        for copy in record.replicas
        if copy.platform == platform
        and (copy.purpose == purpose if purpose else copy.purpose)
        and (copy.account == account if account else not copy.account.startswith(_OF_A_KEY))
    )


def _check_size(platform: str, path: str | os.PathLike[str]) -> None:
    variable = _LIMITS[platform]
    limit = whole_number(variable, 0) << 20
    # What is no file is the upload's to say.
    size = os.stat(path).st_size if limit and os.path.isfile(path) else 0  # noqa: PTH113, PTH116
    if size > limit > 0:
        raise OverLimitError(
            f"{os.path.basename(path)} has {size} bytes, and {variable} allows {limit}",  # noqa: PTH119
            hint=f"raise {variable}, or leave it out for the platform's own limit",
            size=size,
            limit=limit,
        )


def account_of(platform: str, caller: Any) -> tuple[Client, str | None]:
    """The client that has the caller's account, and what it is called there."""
    key = getattr(caller, "api_key", None)
    if not isinstance(key, str) or not key or key == first_set(os.environ, *KEYS[platform]):
        return connection().waiting, None
    url = str(getattr(caller, "base_url", "") or "").rstrip("/")
    account = _OF_A_KEY + hashlib.sha256(key.encode()).hexdigest()[:12]
    with _lock:
        client = _clients.get((platform, url, account))
        if client is None:
            if len(_clients) >= MOST:
                _clients.pop(next(iter(_clients))).close()
            client = _clients[platform, url, account] = _opened(platform, key, url, account)
        return client, account


def close() -> None:
    """Closes the clients of callers' own accounts."""
    with _lock:
        while _clients:
            _clients.popitem()[1].close()


def _opened(platform: str, key: str, url: str, account: str) -> Client:
    from exai_files.client import Client

    settings: dict[str, Any] = {"api_key": key, "account": account}
    if url and urlsplit(url).hostname not in OWN_HOSTS[platform]:
        settings["base_url"] = url
    return Client(environment=in_our_words(os.environ), platforms={platform: settings})
