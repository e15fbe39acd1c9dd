"""It cannot be imported in the application: two of its metrics have names that are taken, with other labels."""

from dataclasses import dataclass
from enum import Enum

from prometheus_client import Counter, Gauge

from src.storage.supabase_client import SupabaseStorageManager


class CircuitState(str, Enum):
    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


@dataclass
class CircuitBreakerConfig:
    name: str
    failure_threshold: int = 5
    timeout: int = 60
    half_open_max_calls: int = 3
    success_threshold: int = 2
    max_timeout: int = 300
    backoff_multiplier: float = 2.0


@dataclass
class CircuitBreakerState:
    state: CircuitState
    failures: int
    successes: int
    last_failure_time: float | None
    last_state_change: float
    timeout: int
    half_open_calls: int


class PersistentCircuitBreaker:
    state_changes = Counter(
        "circuit_breaker_state_changes_total", "Changes", ["breaker_name", "from_state", "to_state"]
    )
    failures_total = Counter("circuit_breaker_failures_total", "Failures", ["breaker_name"])
    current_state = Gauge("circuit_breaker_current_state", "0 closed, 1 half-open, 2 open", ["breaker_name"])

    def __init__(self, config: CircuitBreakerConfig, redis_client=None):
        self.config, self.redis, self.supabase = config, redis_client, SupabaseStorageManager()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *failure):
        if failure[0] is not None:
            self.failures_total.labels(self.config.name).inc()
        return False
