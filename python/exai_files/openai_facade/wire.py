"""Files, pages and errors as the SDK reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from exai_files import errors
from exai_files.errors import Error, InvalidRequestError, NotFoundError
from exai_files.records import FileRecord, RemoteFile, Replica

__all__ = ["Answer", "answer_of", "described", "foreign", "ordered", "page", "refusal", "state"]


@dataclass(frozen=True)
class Answer:
    """A response, but for the class that the SDK wants it in."""

    body: bytes
    status: int = 200
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def answer_of(body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(json.dumps(body).encode(), status, headers=headers or {})


# ===== the SDK's FileObject =====


def described(
    record: FileRecord, replica: Replica, status: str = "processed", details: str | None = None
) -> dict[str, Any]:
    ends = [moment for moment in (replica.expires_at, record.keep_until) if moment is not None]
    return {
        "id": replica.remote_id,
        "object": "file",
        "bytes": record.size,
        "created_at": _seconds(replica.created_at),
        "filename": record.name,
        "purpose": replica.purpose,
        "status": status,
        "status_details": details,
        "expires_at": _seconds(min(ends, default=None)),
    }


def foreign(remote: RemoteFile) -> dict[str, Any]:
    status, details = state(remote)
    return {
        "id": remote.id,
        "object": "file",
        "bytes": remote.size,
        "created_at": _seconds(remote.created_at),
        "filename": remote.name,
        "purpose": remote.purpose,
        "status": status,
        "status_details": details,
        "expires_at": _seconds(remote.expires_at),
    }


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


_WORDS = {"ready": "processed", "unstated": "processed", "failed": "error", "deleted": "deleted"}
"""The SDK's words for a state; it is "uploaded" as long as the platform works on it."""


def state(remote: RemoteFile) -> tuple[str, str | None]:
    return _WORDS.get(remote.status, "uploaded"), remote.status_details or None


# ===== pages =====


def ordered(files: list[dict[str, Any]], order: str | None) -> list[dict[str, Any]]:
    if order is None:
        return files
    if order not in ("asc", "desc"):
        raise InvalidRequestError(f"order cannot be {order!r}", hint='pass "asc" or "desc"')
    oldest_first = sorted(files, key=lambda file: file["created_at"] or 0)
    return oldest_first if order == "asc" else oldest_first[::-1]


def page(files: list[dict[str, Any]], purpose: str | None, query: Mapping[str, str]) -> dict[str, Any]:
    """What follows the file `after`; from the start where that one is gone."""
    fitting = [file for file in files if purpose in (None, file["purpose"])]
    ids = [file["id"] for file in fitting]
    begin = ids.index(query["after"]) + 1 if query.get("after") in ids else 0
    end = begin + _limit(query.get("limit"))
    return {"object": "list", "data": fitting[begin:end], "has_more": end < len(fitting)}


_LONGEST_PAGE = 10_000


def _limit(text: str | None) -> int:
    if text is None:
        return _LONGEST_PAGE
    if not text.isdecimal() or not 0 < int(text) <= _LONGEST_PAGE:
        raise InvalidRequestError(f"limit cannot be {text}", hint=f"pass a number from 1 to {_LONGEST_PAGE}")
    return int(text)


# ===== errors =====


_STATUS: dict[type[Error], int] = {
    errors.InvalidRequestError: 400,
    errors.ConfigError: 400,
    errors.FileTooLargeError: 400,
    errors.UnsupportedError: 400,
    errors.ContentRejectedError: 400,
    errors.QuotaExceededError: 400,
    errors.AuthenticationError: 401,
    errors.InvalidTokenError: 401,
    errors.BillingError: 402,
    errors.PermissionDeniedError: 403,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.SafetyLimitError: 409,
    errors.RateLimitError: 429,
    errors.CircuitOpenError: 503,
    errors.Error: 500,
}
"""HTTP status of an error that was no platform's answer; the most special class counts."""

_SILENCE = (errors.PlatformUnavailableError, errors.OutcomeUnknownError, errors.CancelledError)


def refusal(error: Error) -> Answer | None:
    """What an error is answered with; None where nobody has answered."""
    if isinstance(error, errors.PlatformTimeoutError):
        return None
    if error.status is None and isinstance(error, _SILENCE) and not isinstance(error, errors.CircuitOpenError):
        return None
    said = {
        "message": str(error),
        "type": error.code or type(error).__name__,
        "param": None,
        **{name: getattr(error, name) for name in ("code", "platform", "account", "operation", "attempts")},
    }
    headers = {"x-request-id": error.request_id, "retry-after": error.retry_after}
    told = {name: str(value) for name, value in headers.items() if value is not None}
    return answer_of({"error": said}, _status_of(error), told)


def _status_of(error: Error) -> int:
    if isinstance(error, NotFoundError) or error.status is None or error.status < 400:
        return next(_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS)
    return error.status
