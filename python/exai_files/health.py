"""How copies and platforms are: what a look at a file finds, circuit breakers, limits and retry budgets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from exai_files.records import perhaps

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BreakerHealth", "BreakerMode", "BudgetHealth", "FileHealth", "PaceHealth", "PlatformHealth"]


@dataclass(frozen=True)
class FileHealth:
    """How one copy was found to be.

    Attributes:
        verdict: "healthy", "lost" (it is handed out no more), "differs" (another size, or other bytes), "unusable" (the
            platform could not make anything of it) or "unknown" (it could not be asked).
        evidence: What that follows from.
        status: The platform's own word for its state, where it has one.
        size: Bytes, as the platform says.
        http_status: Of the answer, where it was a refusal.
        response_time: Seconds.
        bytes_read: Bytes that were read back and compared; None where nothing was read.
    """

    platform: str
    account: str
    remote_id: str
    verdict: Literal["healthy", "lost", "differs", "unusable", "unknown"]
    evidence: str
    status: str | None
    size: int | None
    expires_at: datetime | None
    http_status: int | None
    response_time: float
    bytes_read: int | None

    @classmethod
    def _from_core(cls, data: Mapping[str, Any]) -> FileHealth:
        return cls(**{**data, "expires_at": perhaps(data["expires_at"])})


BreakerMode = Literal["automatic", "forced-open", "disabled", "metrics-only"]
"""What an operator wants of a circuit breaker."""


@dataclass(frozen=True)
class BreakerHealth:
    """The circuit breaker of one operation.

    Attributes:
        operation: "upload", "list", "get", "content" or "delete".
        state: "closed", "half-open" (trying out), "open", or what an operator set.
        calls: Results in the window while it is closed; `failures` of them failed, `slow` were slow.
        open_until: When an open one lets calls through again.
        last_error: The latest failure that counted, as this process saw it.
    """

    operation: str
    state: Literal["closed", "half-open", "open", "forced-open", "disabled", "metrics-only"]
    calls: int
    failures: int
    slow: int
    open_until: datetime | None
    last_error: str | None


@dataclass(frozen=True)
class PaceHealth:
    """How an account's rate limits are used, by all processes together.

    Attributes:
        used: Turns given out in the latest window, and ahead; 0 where no limit is set.
        share: What is used of the limits: 1.0, or less since the platform said that it is too much.
        paused_for: Seconds for which everyone is held up, as the platform asked.
    """

    used: int
    share: float
    paused_for: float


def breaker_health(data: Mapping[str, Any]) -> BreakerHealth:
    """From the core's dictionary."""
    return BreakerHealth(**{**data, "open_until": perhaps(data["open_until"])})


def pace_health(data: Mapping[str, Any]) -> PaceHealth:
    """From the core's dictionary."""
    return PaceHealth(**{**data, "share": data["share"] / 1000})


@dataclass(frozen=True)
class BudgetHealth:
    """What is left for repeating failed requests.

    Attributes:
        tokens: Of this process; 500 is full, and a retry takes 14 (5 of a throttled request).
        requests: Of all processes within two minutes; `retries` of them were repeated ones.
    """

    tokens: int
    requests: int
    retries: int


@dataclass(frozen=True)
class PlatformHealth:
    """How one platform has been lately.

    Attributes:
        in_flight: Requests of this process that are under way.
    """

    platform: str
    account: str
    breakers: tuple[BreakerHealth, ...]
    pace: PaceHealth
    budget: BudgetHealth
    in_flight: int

    @property
    def is_healthy(self) -> bool:
        """Whether no circuit breaker keeps calls from it."""
        return all(breaker.state in ("closed", "disabled", "metrics-only") for breaker in self.breakers)

    @classmethod
    def _from_core(cls, data: Mapping[str, Any]) -> PlatformHealth:
        breakers, budget = tuple(map(breaker_health, data["breakers"])), BudgetHealth(**data["budget"])
        return cls(**{**data, "breakers": breakers, "pace": pace_health(data["pace"]), "budget": budget})
