"""`src.file_management.recovery`: an operation tried again while that can help, each attempt noted.

An operation that has succeeded is never run again, whatever becomes of the note; one that cannot succeed, such as for a
wrong argument, is not tried twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from exai_files.dropin.connection import OfTool, connected, failed
from exai_files.dropin.later.recovery import *  # noqa: F403
from exai_files.dropin.later.recovery import __all__ as _later
from exai_files.dropin.provider_faults import is_provider_fault
from exai_files.dropin.rows import provider_of, timestamp
from exai_files.errors import CircuitOpenError, RegistryError

__all__ = ["RecoveryManager", *_later]

T = TypeVar("T")

PATIENCE = 2.0
"""Seconds that a note may take: an operation that is done does not wait for a database that is away."""


def is_temporary(error: Exception) -> bool:
    """Whether the same again may succeed. Uploads of ours that are tried again find what an earlier attempt left."""
    return isinstance(error, (CircuitOpenError, RegistryError)) or is_provider_fault(error)


class RecoveryManager(OfTool):
    """Tries, waits, and tries again.

    Attributes:
        max_attempts: The first one included.
        base_delay_ms: Before the second attempt; it doubles. A platform's own `retry_after` is kept to where it is longer.
    """

    def __init__(self) -> None:
        self.max_attempts = 5
        self.base_delay_ms = 1000

    async def execute_with_retry(
        self,
        operation: Callable[[], Awaitable[T]],
        file_id: str,
        operation_name: str,
        platform: str | None = None,
    ) -> T:
        """Runs `operation`, and notes each attempt in `file_recovery_attempts`.

        Raises:
            Exception: The last attempt's own.
        """
        import asyncio

        note = _Notes(file_id, operation_name, platform)
        attempt = 0
        while True:
            attempt += 1
            try:
                result = await operation()
            except Exception as error:
                if attempt >= self.max_attempts or not is_temporary(error):
                    await note.attempt(attempt, "failed", error)
                    raise
                delay = self._delay(attempt, error)
                await note.attempt(attempt, "pending", error, delay)
            except asyncio.CancelledError as error:
                await asyncio.shield(note.attempt(attempt, "abandoned", error))
                raise
            else:
                await note.attempt(attempt, "success")
                return result
            await asyncio.sleep(delay)

    def _delay(self, attempt: int, error: Exception) -> float:
        """Seconds before the next attempt."""
        wanted: float = getattr(error, "retry_after", None) or 0.0
        return max(self.base_delay_ms / 1000 * 2.0 ** (attempt - 1), wanted)


class _Notes:
    """The rows of one operation. One that cannot be written is logged and counted, and changes nothing else."""

    def __init__(self, file_id: str, operation: str, platform: str | None) -> None:
        self._row = {
            "file_id": file_id,
            "operation": operation,
            "platform": platform and provider_of(platform),
            "recovery_strategy": "exponential_backoff",
        }

    async def attempt(
        self, number: int, status: str, error: BaseException | None = None, delay: float | None = None
    ) -> None:
        import asyncio

        now = datetime.now(timezone.utc)
        row: dict[str, Any] = {**self._row, "attempt_number": number, "status": status}
        if error is not None:
            row["error_message"] = str(error) or type(error).__name__
            row["error_code"] = str(getattr(error, "code", None) or type(error).__name__)[:50]
        if delay is None:
            row["completed_at"] = timestamp(now)
        else:
            row["retry_delay_ms"] = round(delay * 1000)
            row["next_retry_at"] = timestamp(now + timedelta(seconds=delay))
        # Not even where failures are to be raised: the operation has its own outcome.
        with suppress(Exception):
            try:
                await asyncio.wait_for(self._added(row), PATIENCE)
            except Exception as failure:
                failed("RecoveryManager.execute_with_retry", failure)

    @staticmethod
    async def _added(row: dict[str, Any]) -> None:
        await (await connected()).rows.add("file_recovery_attempts", row)
