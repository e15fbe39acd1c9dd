"""Stands in for `src.file_management.provider_isolation`: Kimi and GLM fail each for itself.

Each has a breaker, and which one to use is chosen by what both say. The tool sent large files to GLM, which takes less
than Kimi; its own documents said the opposite, and they are followed. A provider that is open is chosen again once its
wait is over: left out until it is closed, it could never be, as only a call closes it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from exai_files.dropin import metrics
from exai_files.dropin.environment import whole_number
from exai_files.dropin.persistent_circuit_breaker import (
    CircuitBreakerConfig,
    CircuitState,
    PersistentCircuitBreaker,
)

if TYPE_CHECKING:
    import redis

__all__ = [
    "ProviderHealth",
    "ProviderIsolationManager",
    "ProviderType",
    "get_provider_isolation_manager",
]

P = ParamSpec("P")
R = TypeVar("R")

MIB = 1 << 20

THRESHOLD = 20 * MIB
"""Bytes from which a file goes to Kimi."""

logger = logging.getLogger(__name__)


class ProviderType(str, Enum):
    """The tool's names of platforms."""

    KIMI = "kimi"
    GLM = "glm"

    @property
    def other(self) -> ProviderType:
        """The one to fall back to."""
        return ProviderType.GLM if self is ProviderType.KIMI else ProviderType.KIMI


@dataclass
class ProviderHealth:
    """How a provider is.

    Attributes:
        is_healthy: Whether its breaker is closed.
        last_check: When this was asked, in seconds since 1970.
    """

    provider: ProviderType
    is_healthy: bool
    circuit_state: CircuitState
    failures: int
    last_check: float


class ProviderIsolationManager:
    """Chooses a provider, and guards calls to it by its breaker.

    Attributes:
        redis: The client that was given.
        file_size_threshold: Bytes from which a file goes to Kimi, `PROVIDER_FILE_SIZE_THRESHOLD`.
    """

    provider_health_status = metrics.gauge(
        "provider_health_status", "Whether providers are healthy (1) or not (0)", ("provider",)
    )
    provider_selection_total = metrics.counter(
        "provider_selection_total", "Choices of a provider, by why", ("provider", "reason")
    )
    cascade_prevention_total = metrics.counter(
        "cascade_prevention_total",
        "Calls that went to the other provider",
        ("failed_provider", "fallback_provider"),
    )

    def __init__(self, redis_client: redis.Redis | None = None) -> None:
        self.redis = redis_client
        self.file_size_threshold = whole_number("PROVIDER_FILE_SIZE_THRESHOLD", THRESHOLD)
        self._breakers = {
            provider: PersistentCircuitBreaker(CircuitBreakerConfig(f"provider_{provider.value}"), redis_client)
            for provider in ProviderType
        }

    def get_circuit_breaker(self, provider: ProviderType) -> PersistentCircuitBreaker:
        """The breaker of a provider."""
        return self._breakers[provider]

    async def get_provider_health(self, provider: ProviderType) -> ProviderHealth:
        """How a provider is. It is not asked."""
        breaker = self._breakers[provider]
        known = await breaker.get_metrics()
        state = CircuitState(known["state"])
        is_healthy = state is CircuitState.CLOSED
        self.provider_health_status.labels(provider=ProviderType(provider).value).set(int(is_healthy))
        return ProviderHealth(ProviderType(provider), is_healthy, state, known["failures"], breaker.clock())

    async def get_all_provider_health(self) -> dict[ProviderType, ProviderHealth]:
        """How both are."""
        return {provider: await self.get_provider_health(provider) for provider in ProviderType}

    async def select_provider(
        self, preferred_provider: ProviderType | None = None, file_size: int | None = None
    ) -> ProviderType:
        """The provider to use: one that takes a file of this size, then one that is let through, then the preferred.

        Args:
            preferred_provider: The one you would rather have.
            file_size: Bytes of the file. Without a preference, small ones go to GLM and large ones to Kimi.
        """
        health = await self.get_all_provider_health()
        order = _order(preferred_provider, file_size, self.file_size_threshold)
        # What is too large for both, the provider itself may say.
        able = [provider for provider in order if _takes(provider, file_size)] or order
        ready = [provider for provider in able if await self._is_ready(health[provider])]
        chosen = (ready or able)[0]
        reason = _reason(preferred_provider, file_size, able, ready, chosen)
        self.provider_selection_total.labels(provider=chosen.value, reason=reason).inc()
        if reason == "cascade_prevention":
            self._tell_of_fallback(health[chosen.other], chosen)
        elif not ready:
            logger.error("no provider is healthy: %s is used", chosen.value)
        return chosen

    async def execute_with_isolation(
        self, provider: ProviderType, operation: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call an operation, once, behind the provider's breaker.

        Raises:
            CircuitBreakerOpenError: It was not called: the provider has failed too often lately.
        """
        async with self._breakers[provider]:
            return await operation(*args, **kwargs)

    async def reset_provider(self, provider: ProviderType) -> None:
        """Close a provider's breaker, and forget what it counted."""
        await self._breakers[provider].reset()
        logger.info("the circuit breaker of %s is reset", ProviderType(provider).value)

    async def reset_all_providers(self) -> None:
        """As `reset_provider`, of both."""
        for provider in ProviderType:
            await self.reset_provider(provider)

    async def get_isolation_metrics(self) -> dict[str, Any]:
        """What each breaker says of itself, by provider."""
        return {provider.value: await breaker.get_metrics() for provider, breaker in self._breakers.items()}

    async def cleanup(self) -> None:
        """Leave behind in Redis what happened while it was away."""
        for breaker in self._breakers.values():
            await breaker.cleanup()

    async def _is_ready(self, health: ProviderHealth) -> bool:
        return health.is_healthy or await self._breakers[health.provider].would_admit()

    def _tell_of_fallback(self, failed: ProviderHealth, chosen: ProviderType) -> None:
        name = failed.provider.value
        logger.warning("%s is %s: %s is used", name, failed.circuit_state.value, chosen.value)
        self.cascade_prevention_total.labels(failed_provider=name, fallback_provider=chosen.value).inc()


def _order(preferred: ProviderType | None, size: int | None, threshold: int) -> list[ProviderType]:
    if preferred is not None:
        first = ProviderType(preferred)
    else:
        first = ProviderType.GLM if size is not None and size < threshold else ProviderType.KIMI
    return [first, first.other]


def _reason(
    preferred: ProviderType | None,
    size: int | None,
    able: list[ProviderType],
    ready: list[ProviderType],
    chosen: ProviderType,
) -> str:
    """Why, in the words of the tool's dashboards."""
    if len(able) == 1 and (preferred is None or chosen != preferred):
        return "file_size_optimization"
    if preferred is not None:
        if not ready:
            return "both_unhealthy"
        return "preferred_healthy" if chosen == preferred else "cascade_prevention"
    if not ready:
        return "both_unhealthy_default"
    if len(ready) == 1:
        return "only_healthy"
    return "default_both_healthy" if size is None else "file_size_optimization"


def _takes(provider: ProviderType, size: int | None) -> bool:
    return size is None or size <= _limit(provider)


def _limit(provider: ProviderType) -> int:
    """Bytes of the largest file: what the platform publishes, or what the tool is told to send at most."""
    published = 20 * MIB if provider is ProviderType.GLM and _is_in_china() else 100 * MIB
    own = whole_number(f"{provider.value.upper()}_FILES_MAX_SIZE_MB", 0) * MIB
    return min(published, own) if own > 0 else published


def _is_in_china() -> bool:
    """Whether GLM is Zhipu, whose purpose `agent` takes less than Z.ai's."""
    names = ("GLM_API_URL", "GLM_BASE_URL", "ZHIPUAI_API_URL")
    url = next((os.environ[name] for name in names if os.environ.get(name)), "")
    return "bigmodel.cn" in url


_manager: ProviderIsolationManager | None = None


def get_provider_isolation_manager(redis_manager: redis.Redis | None = None) -> ProviderIsolationManager:
    """That of this process; a client counts when it is made."""
    global _manager
    if _manager is None:
        _manager = ProviderIsolationManager(redis_manager)
    return _manager
