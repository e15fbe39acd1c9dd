"""For tests that wait for what another process or thread does."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest


def deadline(seconds: float = 30.0) -> Callable[[], None]:
    """What a loop that waits calls each time round: the test fails when it has taken too long."""
    end = time.monotonic() + seconds

    def check() -> None:
        if time.monotonic() >= end:
            pytest.fail(f"waited for {seconds:.0f} s in vain")

    return check
