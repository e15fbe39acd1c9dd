"""One call through a breaker or a limiter, ours and others', in one process: prints nanoseconds as JSON."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

import aiolimiter
import purgatory
import pybreaker

import exai_files

CALLS = 20_000
ROUNDS = 5


def best(run: Callable[[], float]) -> float:
    """Of some rounds, in nanoseconds a call."""
    return min(run() for _ in range(ROUNDS)) / CALLS * 1e9


def entered(guard: Callable[[], AbstractContextManager[Any]]) -> float:
    def run() -> float:
        begun = time.perf_counter()
        for _ in range(CALLS):
            with guard():
                pass
        return time.perf_counter() - begun

    return best(run)


def awaited(make: Callable[[], Awaitable[AbstractAsyncContextManager[Any]]]) -> float:
    async def run() -> float:
        guard = await make()
        begun = time.perf_counter()
        for _ in range(CALLS):
            async with guard:
                pass
        return time.perf_counter() - begun

    return best(lambda: asyncio.run(run()))


async def our_breaker() -> AbstractAsyncContextManager[Any]:
    return exai_files.CircuitBreaker("bench")


async def our_limiter() -> AbstractAsyncContextManager[Any]:
    return exai_files.RateLimiter("bench", requests=1_000_000_000, per=1)


async def purgatory_breaker() -> AbstractAsyncContextManager[Any]:
    return await purgatory.AsyncCircuitBreakerFactory().get_breaker("bench")


async def aiolimiter_limiter() -> AbstractAsyncContextManager[Any]:
    return aiolimiter.AsyncLimiter(1_000_000_000, 1)


def main() -> None:
    ours, theirs = exai_files.CircuitBreaker("bench"), pybreaker.CircuitBreaker(fail_max=5)
    third = purgatory.SyncCircuitBreakerFactory().get_breaker("bench")
    figures = {
        "breaker, waiting": {
            "exai_files": entered(lambda: ours),
            "pybreaker": entered(theirs.calling),
            "purgatory": entered(lambda: third),
        },
        "breaker, awaited": {"exai_files": awaited(our_breaker), "purgatory": awaited(purgatory_breaker)},
        "limiter, awaited": {"exai_files": awaited(our_limiter), "aiolimiter": awaited(aiolimiter_limiter)},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
