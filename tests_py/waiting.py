"""For tests that wait for what another process, thread or task does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


def deadline(seconds: float = 30.0) -> Callable[[], None]:
    """What a loop that waits calls each time round: the test fails when it has taken too long."""
    end = time.monotonic() + seconds

    def check() -> None:
        if time.monotonic() >= end:
            pytest.fail(f"waited for {seconds:.0f} s in vain")

    return check


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """To its end, or to where it must have ended."""
    return asyncio.run(asyncio.wait_for(coroutine, 30))
