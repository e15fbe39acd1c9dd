"""One test body, both faces: `files` is a client that waits, or one that is awaited."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from typing import Any

import databases
import pytest

import exai_files

# A shell starts background jobs with Ctrl-C ignored, and so would be the programs that are tested.
signal.signal(signal.SIGINT, signal.default_int_handler)


class Awaited:
    """An AsyncClient driven from plain tests: every call is awaited to its end."""

    def __init__(self, client: exai_files.AsyncClient) -> None:
        self._client, self._loop = client, asyncio.new_event_loop()

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        call = getattr(self._client, verb)

        def run(*args: Any, **kwargs: Any) -> Any:
            pending = call(*args, **kwargs)
            if hasattr(pending, "__aiter__"):
                return self._loop.run_until_complete(_collected(pending))
            return self._loop.run_until_complete(pending) if hasattr(pending, "__await__") else pending

        return run

    def end(self) -> None:
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


async def _collected(records: Any) -> list[Any]:
    return [record async for record in records]


@pytest.fixture(autouse=True, scope="session")
def data_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Not the user's: what a client keeps where it is told no place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(autouse=databases.IS_POSTGRES)
def store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registries that a test does not name, or names by a path, are databases."""
    options_of = exai_files.Simulator._client_options

    def options(self: exai_files.Simulator, given: dict[str, Any]) -> dict[str, Any]:
        options = options_of(self, given)
        return {**options, "registry": databases.place(options["registry"])}

    monkeypatch.setattr(exai_files.Simulator, "_client_options", options)


@pytest.fixture
def sim(exai_files_sim: exai_files.Simulator) -> exai_files.Simulator:
    return exai_files_sim


@pytest.fixture(params=["sync", "async"])
def files(request: pytest.FixtureRequest, sim: exai_files.Simulator) -> Iterator[Any]:
    if request.param == "sync":
        with sim.client() as client:
            yield client
    else:
        awaited = Awaited(sim.async_client())
        yield awaited
        awaited.end()
