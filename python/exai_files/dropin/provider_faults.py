"""Which exceptions say that a provider is unwell: what the circuit breaker counts, and what is worth trying again.

The existing tool counted whatever left the block, also the caller's own mistakes and cancelled tasks. Here a mistake, a
missing local file or a provider's refusal (4xx) says nothing; a status from 500, a broken connection, a time-out and
exceptions that nobody has classified do. 429 and 408 count as well: no rate limiter stands before this breaker.
"""

from __future__ import annotations

from exai_files.errors import (
    CircuitOpenError,
    ContractDriftError,
    Error,
    OutcomeUnknownError,
    PlatformTimeoutError,
    PlatformUnavailableError,
    RateLimitError,
)

__all__ = ["is_provider_fault"]

_OURS = (PlatformUnavailableError, PlatformTimeoutError, OutcomeUnknownError, ContractDriftError, RateLimitError)

_CALLERS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    TypeError,
    ValueError,
)

_LOCAL_FILES = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)

_BUSY = (408, 429)


def is_provider_fault(error: BaseException) -> bool:
    """Whether an exception counts as a failure of the provider."""
    if not isinstance(error, Exception):  # cancelled, or interrupted
        return False
    if isinstance(error, Error):
        # Nothing was sent; what the tool's own exceptions say of a second try is the best that they say.
        return not isinstance(error, CircuitOpenError) and (
            isinstance(error, _OURS) or bool(getattr(error, "retryable", False))
        )
    status = _status(error)
    if status is not None:
        return status >= 500 or status in _BUSY
    if isinstance(error, OSError):  # also a wrong certificate, which is a ValueError too
        return not isinstance(error, _LOCAL_FILES)
    return not isinstance(error, _CALLERS)


def _status(error: Exception) -> int | None:
    """That of the answer, as the SDKs (`openai`, `zhipuai`, `zai`) and HTTP libraries name it."""
    for place in (error, getattr(error, "response", None)):
        for name in ("status_code", "status"):
            status = getattr(place, name, None)
            if isinstance(status, int):
                return status
    return None
