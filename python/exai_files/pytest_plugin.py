"""Fixtures for tests of code that uses exai_files; pytest finds them by itself.

`exai_files_sim` is a fresh simulator, `exai_files_client` and `exai_files_async_client` talk to it, `exai_files_clock`
is its calendar. At the end of a test a fault that never fired, or a panic in the simulator, fails it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from exai_files.async_client import AsyncClient
    from exai_files.client import Client
    from exai_files.simulator import SimulatedClock, Simulator


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("exai_files")
    group.addoption("--exai_files-seed", type=int, default=0, help="Seed of the platform simulators.")


@pytest.fixture
def exai_files_sim(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """A fresh platform simulator; its seed is printed when the test fails."""
    from exai_files.simulator import Simulator

    seed: int = request.config.getoption("--exai_files-seed")
    print(f"exai_files simulator: seed {seed} (--exai_files-seed)")  # shown by pytest for failing tests
    with Simulator(seed=seed) as simulator:
        yield simulator
        panics = simulator.admin("GET", "/health")["panics"]
        assert not panics, f"the simulator panicked: {panics}"
        idle = [rule["fault"] for rule in simulator.faults if not rule["fired"] and "rate" not in rule["when"]]
        assert not idle, f"these faults never fired: {idle}"


@pytest.fixture
def exai_files_clock(exai_files_sim: Simulator) -> SimulatedClock:
    """The simulator's calendar."""
    return exai_files_sim.clock


@pytest.fixture
def exai_files_client(exai_files_sim: Simulator) -> Iterator[Client]:
    """A client of the simulator."""
    with exai_files_sim.client() as client:
        yield client


@pytest.fixture
def exai_files_async_client(exai_files_sim: Simulator) -> Iterator[AsyncClient]:
    """An async client of the simulator, closed when the test is over; for any event loop plugin."""
    client = exai_files_sim.async_client()
    yield client
    client._calls.core.close()


__all__ = [
    "exai_files_async_client",
    "exai_files_client",
    "exai_files_clock",
    "exai_files_sim",
    "pytest_addoption",
]
