"""Stands in for `src.file_management.persistent_circuit_breaker`: a breaker that processes share through Redis.

It lives in the tool's own key and JSON, `circuit_breaker:{name}`, so that old and new processes know of each other's.
That JSON is why it is not `exai_files.CircuitBreaker`: the core keeps a state of its own and tells this key of its
transitions; here the counts in it are the state, which old processes add to and `get_metrics` gives.

Each step computes a new state from the one seen last and swaps it in if nobody was faster: one round trip, and another
for each time that somebody was. In memory the same steps do without the trip. The JSON has no room for generations, but
the time of the last transition is as good as one: who was admitted before it says nothing of what came after.
"""

from __future__ import annotations

import copy
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from exai_files.dropin import metrics
from exai_files.dropin.provider_faults import is_provider_fault
from exai_files.dropin.redis_client import RedisAwayError, in_thread, shared_redis
from exai_files.errors import CircuitOpenError

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType

    import redis

__all__ = [
    "CircuitBreakerConfig",
    "CircuitBreakerOpenError",
    "CircuitBreakerState",
    "CircuitState",
    "PersistentCircuitBreaker",
]

T = TypeVar("T")

LIFE = 86_400
"""How long Redis keeps a state that nothing happens to, in seconds."""

SWAP = """
local there = redis.call('GET', KEYS[1]) or ''
if there ~= ARGV[1] then return there end
if ARGV[2] ~= ARGV[1] then redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) end
return false
"""
"""Replaces the state if it is still as it was seen, and gives what is there if not."""

logger = logging.getLogger(__name__)


class CircuitState(str, Enum):
    """What a breaker is doing."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


_LEVELS = {CircuitState.CLOSED: 0, CircuitState.HALF_OPEN: 1, CircuitState.OPEN: 2}


@dataclass
class CircuitBreakerConfig:
    """How a breaker judges.

    Attributes:
        name: Breakers of the same name and Redis are one.
        failure_threshold: So many failures in a row open it.
        timeout: How long it is open at first, in seconds.
        half_open_max_calls: Calls that try the provider out after that.
        success_threshold: So many of them must do well.
        max_timeout: It is open no longer than this.
        backoff_multiplier: How much longer after each trial that failed.
    """

    name: str
    failure_threshold: int = 5
    timeout: int = 60
    half_open_max_calls: int = 3
    success_threshold: int = 2
    max_timeout: int = 300
    backoff_multiplier: float = 2.0


@dataclass
class CircuitBreakerState:
    """What the tool keeps in Redis, as JSON. Times are seconds since 1970."""

    state: CircuitState
    failures: int
    successes: int
    last_failure_time: float | None
    last_state_change: float
    timeout: int
    half_open_calls: int


class CircuitBreakerOpenError(CircuitOpenError):
    """The provider has failed too often lately, and is not asked. Its text is the one that the tool looks for."""


class _Permit(NamedTuple):
    """Leave to call: in which state it was given, and when."""

    state: CircuitState
    given_at: float


class PersistentCircuitBreaker:
    """Refuses calls while a provider keeps failing, and tries carefully whether it is well again.

    Enter it with `async with`, from as many tasks at once as you like. A call has failed if it raises what
    `provider_faults.is_provider_fault` counts; other exceptions and cancellation say nothing. While Redis is away each
    breaker goes by itself. Without a client, that of `REDIS_URL` is used, from the first call on.

    Attributes:
        config: How it judges.
        clock: What tells the time, in seconds since 1970: hosts that share a Redis must agree as NTP makes them.
    """

    # The tool's other breakers have the plain names of these two, with other labels, and may be imported later.
    state_changes = metrics.counter(
        "exai_files_circuit_breaker_state_changes_total",
        "Transitions of circuit breakers",
        ("breaker_name", "from_state", "to_state"),
    )
    failures_total = metrics.counter(
        "exai_files_circuit_breaker_failures_total", "Failures that circuit breakers counted", ("breaker_name",)
    )
    current_state = metrics.gauge(
        "circuit_breaker_current_state",
        "What circuit breakers do (0 closed, 1 half-open, 2 open)",
        ("breaker_name",),
    )
    call_duration = metrics.histogram(
        "circuit_breaker_call_duration_seconds",
        "Calls through circuit breakers",
        ("breaker_name", "state", "result"),
    )

    def __init__(self, config: CircuitBreakerConfig, redis_client: redis.Redis | None = None) -> None:
        self.config = config
        self.clock: Callable[[], float] = time.time
        self._key = f"circuit_breaker:{config.name}"
        self._shared = shared_redis(redis_client)
        self._mutex = threading.Lock()
        self._seen = ""  # what Redis had last
        self._ours = ""  # the same, or what came of it while Redis was away
        self._entered: list[tuple[asyncio.Task[Any] | None, _Permit]] = []

    @property
    def redis(self) -> redis.Redis | None:
        """The client of its Redis, or None where there can be none."""
        try:
            return self._shared.client
        except (ImportError, ValueError):
            return None

    async def __aenter__(self) -> PersistentCircuitBreaker:
        permit = await self._exchange(self._admit, undo=self._give_back)
        if isinstance(permit, CircuitBreakerOpenError):
            raise permit
        with self._mutex:
            self._entered.append((_this_task(), permit))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        permit = self._left()
        result = "success" if error is None else "failure" if is_provider_fault(error) else "neutral"
        labels = {"breaker_name": self.config.name, "state": permit.state.value, "result": result}
        self.call_duration.labels(**labels).observe(max(0.0, self.clock() - permit.given_at))
        if result == "failure":
            self.failures_total.labels(breaker_name=self.config.name).inc()
        await self._exchange(lambda state, now: self._settle(state, now, permit, result))

    async def get_state(self) -> CircuitState:
        """What it is doing."""
        return await self._exchange(lambda state, _: state.state)

    async def reset(self) -> None:
        """Close it, and forget what it counted, also of the calls under way."""
        await self._exchange(lambda state, now: self._close(state, now))

    async def get_metrics(self) -> dict[str, Any]:
        """Its state, with its name and without the time of the last transition."""
        state = await self._exchange(lambda state, _: _as_dict(state))
        del state["last_state_change"]
        return {"name": self.config.name, **state}

    async def cleanup(self) -> None:
        """Leave behind in Redis what happened while it was away. The client may be used by others, and stays."""
        await self._exchange(lambda state, now: None)

    async def would_admit(self) -> bool:
        """Whether a call would be let through now."""
        return await self._exchange(lambda state, now: isinstance(self._admit(copy.copy(state), now), _Permit))

    # ===== the steps: each changes a state, and may be done again on a newer one =====

    def _admit(self, state: CircuitBreakerState, now: float) -> _Permit | CircuitBreakerOpenError:
        if state.state is CircuitState.OPEN:
            wait = state.timeout - (now - state.last_failure_time) if state.last_failure_time is not None else 0.0
            if wait > 0:
                return self._refusal("is OPEN", wait)
            _change(state, CircuitState.HALF_OPEN, now)
        if state.state is CircuitState.HALF_OPEN:
            # The places of trials that decided nothing in a whole wait, such as those of a crash, are given away anew.
            given_away = _round(state, now) * self.config.half_open_max_calls
            state.half_open_calls = max(state.half_open_calls, given_away)
            if state.half_open_calls >= given_away + self.config.half_open_max_calls:
                wait = state.last_state_change + (_round(state, now) + 1) * state.timeout - now
                return self._refusal("HALF_OPEN max calls exceeded", wait)
            state.half_open_calls += 1
        return _Permit(state.state, now)

    def _settle(self, state: CircuitBreakerState, now: float, permit: _Permit, result: str) -> None:
        is_late = state.state is not permit.state or permit.given_at < state.last_state_change
        if state.state is CircuitState.HALF_OPEN:
            if not is_late:
                self._settle_trial(state, now, permit, result)
        elif result == "failure":
            state.failures += 1
            if state.state is CircuitState.CLOSED and not is_late:
                state.last_failure_time = now
                if state.failures >= self.config.failure_threshold:
                    _change(state, CircuitState.OPEN, now)
        elif result == "success" and state.state is CircuitState.CLOSED and not is_late:
            state.failures = 0

    def _settle_trial(self, state: CircuitBreakerState, now: float, permit: _Permit, result: str) -> None:
        if result == "neutral":
            state.half_open_calls -= _round(state, permit.given_at) == _round(state, now)
        elif result == "failure":
            state.failures += 1
            state.last_failure_time = now
            state.timeout = min(int(state.timeout * self.config.backoff_multiplier), self.config.max_timeout)
            _change(state, CircuitState.OPEN, now)
        else:
            state.successes += 1
            if state.successes >= self.config.success_threshold:
                self._close(state, now)

    def _close(self, state: CircuitBreakerState, now: float) -> None:
        _change(state, CircuitState.CLOSED, now)
        state.failures = 0
        state.timeout = self.config.timeout

    def _refusal(self, why: str, wait: float) -> CircuitBreakerOpenError:
        return CircuitBreakerOpenError(f"Circuit breaker {self.config.name} {why}", retry_after=wait)

    def _left(self) -> _Permit:
        """The permit of the task that leaves; or the latest, where another task leaves than entered."""
        task = _this_task()
        with self._mutex:
            if not self._entered:
                raise RuntimeError(f"the circuit breaker {self.config.name!r} is left, and was not entered")
            own = [place for place, (holder, _) in enumerate(self._entered) if holder is task]
            return self._entered.pop(own[-1] if own else -1)[1]

    # ===== where the state is =====

    async def _exchange(
        self, step: Callable[[CircuitBreakerState, float], T], undo: Callable[[T], object] = lambda _: None
    ) -> T:
        if self._shared.is_left_alone:
            return self._in_memory(step)
        return await in_thread(lambda: self._in_redis(step), undo)

    def _give_back(self, permit: _Permit | CircuitBreakerOpenError) -> None:
        if isinstance(permit, _Permit):
            self._in_redis(lambda state, now: self._settle(state, now, permit, "neutral"))

    def _in_redis(self, step: Callable[[CircuitBreakerState, float], T]) -> T:
        with self._mutex:
            seen, ours = self._seen, self._ours
        while True:
            answer, before, after, new = self._stepped(ours, step)
            try:
                there = self._swapped(seen, new)
            except RedisAwayError:
                return self._in_memory(step)
            if there is None:
                break
            seen = ours = there
        with self._mutex:
            self._seen = self._ours = new
        self._tell(before, after)
        return answer

    def _in_memory(self, step: Callable[[CircuitBreakerState, float], T]) -> T:
        with self._mutex:
            answer, before, after, self._ours = self._stepped(self._ours, step)
        self._tell(before, after)
        return answer

    def _stepped(
        self, raw: str, step: Callable[[CircuitBreakerState, float], T]
    ) -> tuple[T, CircuitState, CircuitState, str]:
        now = self.clock()
        known = _parsed(raw)
        state = copy.copy(known or CircuitBreakerState(CircuitState.CLOSED, 0, 0, None, now, self.config.timeout, 0))
        _heal(state, now)
        before = state.state
        answer = step(state, now)
        return answer, before, state.state, raw if state == known else json.dumps(_as_dict(state))

    def _swapped(self, seen: str, new: str) -> str | None:
        there: Any = self._shared.ask(
            lambda client: client.register_script(SWAP)(keys=[self._key], args=[seen, new, LIFE])
        )
        return there.decode() if isinstance(there, bytes) else there

    def _tell(self, before: CircuitState, after: CircuitState) -> None:
        name = self.config.name
        self.current_state.labels(breaker_name=name).set(_LEVELS[after])
        if after is not before:
            self.state_changes.labels(breaker_name=name, from_state=before.value, to_state=after.value).inc()
            logger.info("circuit breaker %s: %s -> %s", name, before.value, after.value)


def _this_task() -> asyncio.Task[Any] | None:
    import asyncio

    return asyncio.current_task()


def _change(state: CircuitBreakerState, to: CircuitState, now: float) -> None:
    state.state, state.last_state_change = to, now
    state.successes = state.half_open_calls = 0


def _round(state: CircuitBreakerState, now: float) -> int:
    """How many waits it has been half-open."""
    return int((now - state.last_state_change) // max(1, state.timeout))


def _heal(state: CircuitBreakerState, now: float) -> None:
    """What is in the future was written before a clock was set back, or by one that is ahead."""
    state.last_state_change = min(state.last_state_change, now)
    if state.last_failure_time is not None:
        state.last_failure_time = min(state.last_failure_time, now)


def _as_dict(state: CircuitBreakerState) -> dict[str, Any]:
    return {**asdict(state), "state": state.state.value}


def _parsed(raw: str) -> CircuitBreakerState | None:
    """What old processes, the core or we have written; None for nothing, and for what nobody of these would write."""
    try:
        data = json.loads(raw)
        last_failure = data.get("last_failure_time")
        return CircuitBreakerState(
            state=CircuitState(data["state"]),
            failures=int(data["failures"]),
            successes=int(data["successes"]),
            last_failure_time=None if last_failure is None else float(last_failure),
            last_state_change=float(data["last_state_change"]),
            timeout=int(data["timeout"]),
            half_open_calls=int(data["half_open_calls"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None
