"""Breakers of the tool's own services; their metrics' names are those that the persistent breaker wants too."""

from prometheus_client import Counter, Gauge

circuit_breaker_state = Gauge("circuit_breaker_state", "0 closed, 1 open, 2 half-open", ["service"])
circuit_breaker_failures = Counter("circuit_breaker_failures_total", "Failures seen by a breaker", ["service"])
circuit_breaker_state_changes = Counter(
    "circuit_breaker_state_changes_total", "Changes of state", ["service", "from_state", "to_state"]
)


class CircuitBreakerManager:
    def __init__(self):
        self._failures = dict.fromkeys(("redis", "supabase", "kimi", "glm"), 0)

    def get_state(self, name):
        return "closed" if self._failures.get(name, 0) < 4 else "open"

    def record_failure(self, name):
        self._failures[name] = self._failures.get(name, 0) + 1
        circuit_breaker_failures.labels(service=name).inc()


circuit_breaker_manager = CircuitBreakerManager()
