"""A circuit breaker and a rate limiter for calls of your own, sharing what they know as the platforms' do.

    search = exai_files.CircuitBreaker("search", state="redis://localhost")
    pace = exai_files.RateLimiter("search", requests=100, per=60, state="redis://localhost")

    @search
    async def find(words): ...

    async with pace, search:
        ...

Those with the same name and state are one, in whatever process. State that is out of reach fails no call and delays
none. What need not wait takes no trip through the event loop.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, Union, cast
from weakref import WeakValueDictionary

from exai_files import _core
from exai_files.errors import InvalidRequestError
from exai_files.health import BreakerHealth, BreakerMode, PaceHealth, breaker_health, pace_health

__all__ = ["CircuitBreaker", "RateLimiter", "StatePlace"]

P = ParamSpec("P")
R = TypeVar("R")

StatePlace = Union[str, "os.PathLike[str]", None]
"""Where state is shared: a Redis URL, a path of an SQLite file (a registry's will do), or None for this object alone."""

_states: WeakValueDictionary[tuple[str, str, bool], _core.State] = WeakValueDictionary()


def _state(place: StatePlace, namespace: str, existing_tool_keys: bool = False) -> _core.State:
    if place is None:
        return _core.State(url=None, path=None, namespace=namespace, existing_tool_keys=False)
    key = os.fspath(place), namespace, existing_tool_keys
    known = _states.get(key)
    if known is None:
        is_url = isinstance(place, str) and "://" in place
        url, path = (key[0], None) if is_url else (None, key[0])
        known = _core.State(url=url, path=path, namespace=namespace, existing_tool_keys=existing_tool_keys)
        _states[key] = known
    return known


def _seconds(name: str, value: float | timedelta) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or math.isnan(seconds):
        raise InvalidRequestError(f"{name} cannot be {value!r}", hint="give seconds as a number, or a timedelta")
    return float(seconds)


def _count(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        raise InvalidRequestError(f"{name} cannot be {value!r}", hint="give a whole number from 1")
    return value


class _Guard:
    """What both have: entered by `with` and `async with`, and put around functions."""

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Guard every call of a function, or of a coroutine function.

        Raises:
            TypeError: It is a generator: its work is done later than its call.
        """
        guard: Any = self
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise TypeError(f"{self!r} cannot guard the generator {function!r}; enter it around each step instead")
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):

            @functools.wraps(function)
            async def guarded_coroutine(*args: P.args, **kwargs: P.kwargs) -> object:
                async with guard:
                    return await cast("Callable[P, Awaitable[object]]", function)(*args, **kwargs)

            return cast("Callable[P, R]", guarded_coroutine)

        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            with guard:
                return function(*args, **kwargs)

        return guarded


class CircuitBreaker(_core.CircuitBreaker, _Guard):
    """Refuses calls while what they go to keeps failing, and finds out carefully when it is well again.

    Use it as `with breaker:`, `async with breaker:` or `@breaker`. A call that raises one of `counts` has failed; what
    raises another exception, or is cancelled, says nothing. A result that comes after the breaker has changed its
    state changes nothing.

    Args:
        name: Breakers of the same name and state are one.
        state: Where they meet: "redis://…" (also rediss, redis+sentinel, redis+cluster), a path, or None for this
            object alone.
        counts: Exceptions that are failures.
        ignores: Of these, the ones that are not.
        calls: Judge the latest so many calls; None for those of the latest `seconds`.
        seconds: The span of time that is judged, with `calls=None`.
        minimum_calls: Fewer results never open it.
        failure_rate: Percent of failures from which it opens.
        slow_rate: Percent of slow calls from which it opens; 101 for never.
        slow_call: A call that takes longer is slow, in seconds.
        wait: How long it is open, at first; then `wait_factor` times as long each time in a row, up to `wait_cap`.
        probes: Calls that try it out after the wait, at a time.
        successes_to_close: So many of them must do well.
        probe_lease: A trial that is not heard of for so long is given to another caller, in seconds.
        namespace: Beginning of the keys in Redis; "exai_files" is the clients' own.
        existing_tool_keys: Follow, and tell, the breaker that the EXAI tool keeps in Redis as `circuit_breaker:{name}`.

    Raises:
        InvalidRequestError: A setting will not do.

    Example:
        >>> breaker = CircuitBreaker("search", calls=4, minimum_calls=2, wait=60)
        >>> with breaker:
        ...     pass
        >>> breaker.health().state
        'closed'
    """

    name: str

    def __new__(
        cls,
        name: str,
        *,
        state: StatePlace = None,
        counts: type[Exception] | tuple[type[Exception], ...] = Exception,
        ignores: type[Exception] | tuple[type[Exception], ...] = (),
        calls: int | None = 50,
        seconds: float | timedelta = 60.0,
        minimum_calls: int = 20,
        failure_rate: int = 50,
        slow_rate: int = 100,
        slow_call: float | timedelta = 60.0,
        wait: float | timedelta = 1.0,
        wait_factor: float = 2.0,
        wait_cap: float | timedelta = 4.0,
        probes: int = 3,
        successes_to_close: int = 2,
        probe_lease: float | timedelta = 60.0,
        namespace: str = "exai_files",
        existing_tool_keys: bool = False,
    ) -> CircuitBreaker:
        breaker = super().__new__(
            cls,
            name,
            _state(state, namespace, existing_tool_keys),
            counts=counts,
            ignores=ignores,
            calls=None if calls is None else _count("calls", calls),
            seconds=_seconds("seconds", seconds),
            minimum_calls=_count("minimum_calls", minimum_calls),
            failure_rate=_count("failure_rate", failure_rate),
            slow_rate=_count("slow_rate", slow_rate),
            slow_call=_seconds("slow_call", slow_call),
            wait=_seconds("wait", wait),
            wait_factor=_seconds("wait_factor", wait_factor),
            wait_cap=_seconds("wait_cap", wait_cap),
            probes=_count("probes", probes),
            successes_to_close=_count("successes_to_close", successes_to_close),
            probe_lease=_seconds("probe_lease", probe_lease),
        )
        breaker.name = name
        return breaker

    if TYPE_CHECKING:
        # What can be entered at once gives a future that is done; type checkers want coroutines of a context manager.
        async def __aenter__(self) -> CircuitBreaker: ...
        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
        ) -> None: ...

    async def _enter_later(self) -> CircuitBreaker:
        """Enters once others were asked."""
        self.begin_with(await self.permit())
        return self

    def health(self) -> BreakerHealth:
        """What it is doing, and why. For asynchronous code: `await` what `health_async` gives."""
        return breaker_health({**self._health().wait(), "operation": self.name})

    async def health_async(self) -> BreakerHealth:
        """As `health`, awaited."""
        return breaker_health({**await self._health(), "operation": self.name})

    def set_mode(self, mode: BreakerMode) -> None:
        """Set what you want of it, whatever its results say, until it is reset.

        Raises:
            InvalidRequestError: There is no such mode.
        """
        self._set_mode(mode).wait()

    def reset(self) -> None:
        """Close it, and forget what it counted."""
        self._reset().wait()

    def __repr__(self) -> str:
        return f"CircuitBreaker({self.name!r})"


class RateLimiter(_Guard):
    """Lets at most `requests` calls begin in any window of `per` seconds, in the order in which they came.

    Use it as `with limiter:`, `async with limiter:` or `@limiter`; each waits for its turn. A turn that cannot come in
    time is refused at once. (A token bucket of N lets up to 2N - 1 calls into one window; this one does not.)

    Args:
        name: Limiters of the same name and state are one.
        requests: Calls that may begin in any window.
        per: The window, in seconds.
        state: As for `CircuitBreaker`.
        max_wait: Longest wait for a turn, in seconds; None for as long as it takes.
        bulk: These calls may take their time: a fifth of the limit is left for others.
        namespace: As for `CircuitBreaker`.

    Raises:
        InvalidRequestError: A setting will not do.

    Example:
        >>> limiter = RateLimiter("search", requests=2, per=60, max_wait=0.5)
        >>> with limiter:
        ...     pass
        >>> limiter.health().used
        1
    """

    def __init__(
        self,
        name: str,
        *,
        requests: int,
        per: float | timedelta,
        state: StatePlace = None,
        max_wait: float | timedelta | None = None,
        bulk: bool = False,
        namespace: str = "exai_files",
    ) -> None:
        self.name = name
        self._bulk = bulk
        self._patience = math.inf if max_wait is None else _seconds("max_wait", max_wait)
        self._state = _state(state, namespace)
        self._core = _core.Limiter(name, self._state, _count("requests", requests), _seconds("per", per))

    def __enter__(self) -> RateLimiter:
        if not self._core.turn_at_hand(self._bulk):
            self._core.turn(self._bulk, self._patience).wait()
        return self

    async def __aenter__(self) -> RateLimiter:
        if not self._core.turn_at_hand(self._bulk):
            await self._core.turn(self._bulk, self._patience)
        return self

    def __exit__(self, *_: object) -> Literal[False]:
        return False

    async def __aexit__(self, *_: object) -> Literal[False]:
        return False

    def throttled(self, retry_after: float | timedelta | None = None) -> None:
        """Tell it that the service said "too much": everyone waits for `retry_after` seconds, then takes less.

        What is taken falls to 70 %, and grows back by 1 % of the limit every ten seconds.
        """
        self._core.throttled(None if retry_after is None else _seconds("retry_after", retry_after)).wait()

    async def throttled_async(self, retry_after: float | timedelta | None = None) -> None:
        """As `throttled`, awaited."""
        await self._core.throttled(None if retry_after is None else _seconds("retry_after", retry_after))

    def health(self) -> PaceHealth:
        """How the limit is used."""
        return pace_health(self._core.health().wait())

    async def health_async(self) -> PaceHealth:
        """As `health`, awaited."""
        return pace_health(await self._core.health())

    def __repr__(self) -> str:
        return f"RateLimiter({self.name!r})"
