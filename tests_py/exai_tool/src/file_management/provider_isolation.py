"""It cannot be imported either: it imports the breaker, and names a class that does not exist."""

from enum import Enum

from src.file_management.persistent_circuit_breaker import CircuitBreakerConfig, PersistentCircuitBreaker


class ProviderType(str, Enum):
    KIMI = "kimi"
    GLM = "glm"


class ProviderIsolationManager:
    def __init__(self, redis_client=None):
        self._breakers = {
            each: PersistentCircuitBreaker(CircuitBreakerConfig(f"provider_{each.value}"), redis_client)
            for each in ProviderType
        }

    def get_circuit_breaker(self, provider: ProviderType):
        return self._breakers[provider]


def get_provider_isolation_manager(redis_manager: RedisManager = None):  # noqa: F821  (the fault)
    return ProviderIsolationManager(redis_manager)
