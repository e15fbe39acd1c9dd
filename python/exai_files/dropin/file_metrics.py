"""Stands in for `src.monitoring.file_metrics`: the same series, whoever has registered them first.

The metrics are made when one of them is first used or asked for, or by `init_file_metrics`.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec

from exai_files.dropin import metrics

if TYPE_CHECKING:
    FILE_UPLOAD_ATTEMPTS: Any
    FILE_UPLOAD_BYTES: Any
    FILE_UPLOAD_DURATION: Any
    ACTIVE_UPLOADS: Any
    DEDUPLICATION_HITS: Any
    CIRCUIT_BREAKER_TRIPS: Any
    FILE_DELETIONS: Any

__all__ = [
    "ACTIVE_UPLOADS",
    "CIRCUIT_BREAKER_TRIPS",
    "DEDUPLICATION_HITS",
    "FILE_DELETIONS",
    "FILE_UPLOAD_ATTEMPTS",
    "FILE_UPLOAD_BYTES",
    "FILE_UPLOAD_DURATION",
    "UploadOutcome",
    "init_file_metrics",
    "record_circuit_breaker_trip",
    "record_deduplication_hit",
    "record_file_deletion",
    "record_upload_attempt",
    "record_upload_completion",
    "recorded_upload",
]

P = ParamSpec("P")

_log = logging.getLogger("exai_files.dropin")

_BUCKETS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, float("inf"))

_METRICS: dict[str, Callable[[], Any]] = {
    "FILE_UPLOAD_ATTEMPTS": lambda: metrics.counter(
        "mcp_file_upload_attempts_total", "Total file upload attempts", ("provider", "user_id")
    ),
    "FILE_UPLOAD_BYTES": lambda: metrics.counter(
        "mcp_file_upload_bytes_total", "Total bytes uploaded", ("provider", "status")
    ),
    "FILE_UPLOAD_DURATION": lambda: metrics.histogram(
        "mcp_file_upload_duration_seconds", "File upload duration in seconds", ("provider",), _BUCKETS
    ),
    "ACTIVE_UPLOADS": lambda: metrics.gauge("mcp_file_active_uploads", "Number of active file uploads"),
    "DEDUPLICATION_HITS": lambda: metrics.counter(
        "mcp_file_deduplication_hits_total", "Total deduplication hits (files already uploaded)"
    ),
    "CIRCUIT_BREAKER_TRIPS": lambda: metrics.counter(
        "mcp_file_circuit_breaker_trips_total", "Total circuit breaker trips", ("provider",)
    ),
    "FILE_DELETIONS": lambda: metrics.counter(
        "mcp_file_deletions_total", "Total file deletions", ("provider", "reason")
    ),
}


@functools.cache
def _metric(name: str) -> Any:
    return _METRICS[name]().metric


def __getattr__(name: str) -> Any:
    if name not in _METRICS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _metric(name)


def _never_raises(record: Callable[P, None]) -> Callable[P, None]:
    """An upload does not fail because it could not be counted."""

    @functools.wraps(record)
    def recorded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            record(*args, **kwargs)
        except Exception as error:
            _log.error("%s: nothing was counted: %s", record.__name__, error)

    return recorded


class _Active:
    """Uploads under way, as far as attempts and completions tell: a completion too many takes nobody else's away."""

    def __init__(self) -> None:
        self._count, self._lock = 0, threading.Lock()

    def begin(self) -> None:
        with self._lock:
            self._count += 1
            _metric("ACTIVE_UPLOADS").inc()

    def end(self) -> None:
        with self._lock:
            if self._count:
                self._count -= 1
                _metric("ACTIVE_UPLOADS").dec()


_active = _Active()


@_never_raises
def record_upload_attempt(provider: str, user_id: str) -> None:
    """An upload begins. `record_upload_completion` has to follow, whatever becomes of it: see `recorded_upload`."""
    _metric("FILE_UPLOAD_ATTEMPTS").labels(provider=metrics.plain(provider), user_id=metrics.plain(user_id)).inc()
    _active.begin()


@_never_raises
def record_upload_completion(provider: str, status: str, bytes_count: int, duration: float) -> None:
    """An upload has ended.

    Args:
        provider: "kimi" or "glm".
        status: "success", "failed" or "deduplicated".
        bytes_count: Of the file.
        duration: In seconds.
    """
    _active.end()
    _metric("FILE_UPLOAD_BYTES").labels(provider=metrics.plain(provider), status=metrics.plain(status)).inc(bytes_count)
    _metric("FILE_UPLOAD_DURATION").labels(provider=metrics.plain(provider)).observe(duration)


@dataclass
class UploadOutcome:
    """What came of an upload that raised nothing: "success", or as you set it."""

    status: str = "success"


@contextmanager
def recorded_upload(provider: str, user_id: str, bytes_count: int) -> Iterator[UploadOutcome]:
    """One attempt and its one completion: as the outcome says, and "failed" when anything is raised."""
    record_upload_attempt(provider, user_id)
    begun, outcome = time.perf_counter(), UploadOutcome()
    try:
        yield outcome
    except BaseException:
        outcome.status = "failed"
        raise
    finally:
        record_upload_completion(provider, outcome.status, bytes_count, time.perf_counter() - begun)


@_never_raises
def record_deduplication_hit() -> None:
    """A file was there already."""
    _metric("DEDUPLICATION_HITS").inc()


@_never_raises
def record_circuit_breaker_trip(provider: str) -> None:
    """The provider was left in peace."""
    _metric("CIRCUIT_BREAKER_TRIPS").labels(provider=metrics.plain(provider)).inc()


@_never_raises
def record_file_deletion(provider: str, reason: str) -> None:
    """A file was deleted, as "expired", "manual" or "orphaned"."""
    _metric("FILE_DELETIONS").labels(provider=metrics.plain(provider), reason=metrics.plain(reason)).inc()


@_never_raises
def init_file_metrics() -> None:
    """Registers them all, so that those without labels are on the page before anything happens."""
    for name in _METRICS:
        _metric(name)
