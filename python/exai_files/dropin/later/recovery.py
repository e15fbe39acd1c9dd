"""`recovery`, later version: kinds of errors, what to do about each, and how long to wait."""

from __future__ import annotations

import functools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from typing import Any, ParamSpec, TypeVar, cast

from exai_files import errors
from exai_files.dropin.later import NotTakenOver

__all__ = [
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "CircuitBreakerState",
    "ErrorContext",
    "ErrorRecoveryManager",
    "ErrorType",
    "FallbackStorageManager",
    "FileOperationRollback",
    "RecoveryStrategy",
    "RecoveryStrategyManager",
    "RetryConfig",
    "SupabaseErrorTracker",
    "recovery_operation",
]

P = ParamSpec("P")
R = TypeVar("R")


class ErrorType(Enum):
    """What kind of error it is."""

    NETWORK_ERROR = "network_error"
    STORAGE_ERROR = "storage_error"
    AUTHENTICATION_ERROR = "authentication_error"
    QUOTA_EXCEEDED = "quota_exceeded"
    FILE_NOT_FOUND = "file_not_found"
    CORRUPTED_DATA = "corrupted_data"
    TIMEOUT_ERROR = "timeout_error"
    RATE_LIMIT_ERROR = "rate_limit_error"
    PERMISSION_ERROR = "permission_error"
    SYSTEM_ERROR = "system_error"
    UNKNOWN_ERROR = "unknown_error"


class CircuitBreakerState(Enum):
    """Whether calls are let through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class RecoveryStrategy(Enum):
    """What to do about an error."""

    RETRY = "retry"
    RETRY_WITH_BACKOFF = "retry_with_backoff"
    FALLBACK_STORAGE = "fallback_storage"
    ROLLBACK = "rollback"
    SKIP_AND_LOG = "skip_and_log"
    ESCALATE = "escalate"
    COMPENSATE = "compensate"


@dataclass
class ErrorContext:
    """An error, and where it happened."""

    error_type: ErrorType
    operation: str
    file_path: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    timestamp: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    retry_count: int = 0
    original_error: Exception | None = None


@dataclass
class CircuitBreakerConfig:
    """When a breaker opens, and for how many seconds."""

    failure_threshold: int = 5
    recovery_timeout: float = 60.0
    expected_exception_types: tuple[type[BaseException], ...] = (Exception,)
    state_change_callback: Callable[[CircuitBreakerState], object] | None = None


class RetryConfig:
    """How often to try, and how many seconds to wait between two attempts."""

    def __init__(
        self,
        max_attempts: int = 3,
        base_delay: float = 1.0,
        max_delay: float = 60.0,
        backoff_factor: float = 2.0,
        jitter: bool = True,
        retryable_exceptions: tuple[type[BaseException], ...] = (Exception,),
    ) -> None:
        self.max_attempts = max_attempts
        self.base_delay = base_delay
        self.max_delay = max_delay
        self.backoff_factor = backoff_factor
        self.jitter = jitter
        self.retryable_exceptions = retryable_exceptions

    def calculate_delay(self, attempt: int) -> float:
        """Seconds after the attempt of this number, from 1; with jitter, half of them to all."""
        delay = min(self.base_delay * self.backoff_factor ** (attempt - 1), self.max_delay)
        return delay * random.uniform(0.5, 1.0) if self.jitter else delay


_STRATEGIES = {
    ErrorType.NETWORK_ERROR: (RecoveryStrategy.RETRY_WITH_BACKOFF, RecoveryStrategy.FALLBACK_STORAGE),
    ErrorType.STORAGE_ERROR: (
        RecoveryStrategy.RETRY_WITH_BACKOFF,
        RecoveryStrategy.FALLBACK_STORAGE,
        RecoveryStrategy.ROLLBACK,
    ),
    ErrorType.AUTHENTICATION_ERROR: (RecoveryStrategy.ESCALATE, RecoveryStrategy.SKIP_AND_LOG),
    ErrorType.QUOTA_EXCEEDED: (RecoveryStrategy.ESCALATE, RecoveryStrategy.SKIP_AND_LOG),
    ErrorType.FILE_NOT_FOUND: (RecoveryStrategy.SKIP_AND_LOG,),
    ErrorType.CORRUPTED_DATA: (RecoveryStrategy.ROLLBACK, RecoveryStrategy.SKIP_AND_LOG),
    ErrorType.TIMEOUT_ERROR: (RecoveryStrategy.RETRY_WITH_BACKOFF,),
    ErrorType.RATE_LIMIT_ERROR: (RecoveryStrategy.RETRY_WITH_BACKOFF,),
    ErrorType.PERMISSION_ERROR: (RecoveryStrategy.ESCALATE, RecoveryStrategy.SKIP_AND_LOG),
    ErrorType.SYSTEM_ERROR: (RecoveryStrategy.RETRY, RecoveryStrategy.ESCALATE),
    ErrorType.UNKNOWN_ERROR: (RecoveryStrategy.RETRY_WITH_BACKOFF, RecoveryStrategy.SKIP_AND_LOG),
}

# The first that fits counts; the later version looked for words in the message.
_TYPES: tuple[tuple[tuple[type[BaseException], ...], ErrorType], ...] = (
    ((errors.QuotaExceededError, errors.BillingError), ErrorType.QUOTA_EXCEEDED),
    ((errors.RateLimitError,), ErrorType.RATE_LIMIT_ERROR),
    ((errors.AuthenticationError, errors.InvalidTokenError), ErrorType.AUTHENTICATION_ERROR),
    ((errors.PermissionDeniedError, PermissionError), ErrorType.PERMISSION_ERROR),
    ((errors.NotFoundError, FileNotFoundError), ErrorType.FILE_NOT_FOUND),
    ((errors.IntegrityError, UnicodeError), ErrorType.CORRUPTED_DATA),
    ((TimeoutError,), ErrorType.TIMEOUT_ERROR),
    ((errors.PlatformError, ConnectionError), ErrorType.NETWORK_ERROR),
    ((errors.RegistryError,), ErrorType.STORAGE_ERROR),
    ((OSError, MemoryError), ErrorType.SYSTEM_ERROR),
)


class RecoveryStrategyManager:
    """What kind an error is, and what to do about it."""

    def get_recovery_strategies(self, error_type: ErrorType) -> list[RecoveryStrategy]:
        """What to do, the best first."""
        return list(_STRATEGIES[error_type])

    def determine_error_type(self, error: BaseException) -> ErrorType:
        """By the exception's class, whatever it says."""
        return next((kind for classes, kind in _TYPES if isinstance(error, classes)), ErrorType.UNKNOWN_ERROR)


class ErrorRecoveryManager(NotTakenOver):
    """Ran operations again, with fallbacks, and undid them."""

    _instead = (
        "RecoveryManager.execute_with_retry retries; uploads and deletes that break off are finished by themselves"
    )


class CircuitBreaker(NotTakenOver):
    """Refused calls to what keeps failing."""

    _instead = "exai_files.CircuitBreaker does, in one process or many"


class FileOperationRollback(NotTakenOver):
    """Kept copies of files beside, to put them back."""

    _instead = "set copies.place, and exai_files makes a lost file anew"


class SupabaseErrorTracker(NotTakenOver):
    """Wrote errors to a table that nothing creates."""

    _instead = "Client.audit has what was done and what failed"


class FallbackStorageManager(NotTakenOver):
    """Kept files elsewhere while a platform was down."""

    _instead = 'exai_files.Client.upload(to="any") goes to a platform that is well'


def recovery_operation(
    manager: Any,
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]:
    """Decorates a coroutine function, so that `manager.execute_with_recovery` runs it.

    What it raises in the end is an `exai_files.Error`, with the last failure's text.
    """

    def decorated(operation: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        name = getattr(operation, "__name__", repr(operation))

        @functools.wraps(operation)
        async def recovered(*args: P.args, **kwargs: P.kwargs) -> R:
            is_done, result, error = await manager.execute_with_recovery(
                functools.partial(operation, *args, **kwargs), name
            )
            if not is_done:
                raise errors.Error(f"{name} failed, recovery attempts included: {error}")
            return cast(R, result)

        return recovered

    return decorated
