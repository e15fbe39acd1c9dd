"""One test body, both faces: `files` is a client that waits, or one that is awaited."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from typing import Any

import canaries
import databases
import pytest
from redis_server import RedisServer

import exai_files
import exai_files.errors
import exai_files.simulator

# A shell starts background jobs with Ctrl-C ignored, and so would be the programs that are tested.
signal.signal(signal.SIGINT, signal.default_int_handler)


canaries.make()
watch = canaries.Watch()

exai_files.simulator._DEFAULT_KEYS.update(
    moonshot=canaries.CANARIES["the key of moonshot"],
    zai=f"canary.{canaries.CANARIES['the secret of zai']}",
    zhipu_cn=f"canary.{canaries.CANARIES['the secret of zhipu_cn']}",
)


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


@pytest.fixture(autouse=True, scope="session")
def no_canary_sings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """While all tests run, and over all that they leave."""
    root = logging.getLogger()
    root.addHandler(watch)
    root.setLevel(1)
    exai_files._core.reset_logging()
    watch.look_at_errors(exai_files.Error)
    watch.start()
    yield
    root.removeHandler(watch)
    watch.look("metrics", "metrics_text", exai_files._core.metrics_text())
    watch.finish([tmp_path_factory.getbasetemp()], databases.made)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    for name, text in report.sections:
        watch.look("output", f"{report.nodeid} ({name})", text)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if watch.found and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    seen = ", ".join(f"{count} {kind}" for kind, count in sorted(watch.seen.items()))
    terminalreporter.write_line(f"canaries: {len(canaries.CANARIES)} looked for in {seen}")
    for found in sorted(watch.found):
        terminalreporter.write_line(f"canaries: FOUND in {found}", red=True)


@pytest.fixture(autouse=databases.IS_POSTGRES)
def store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registries that a test does not name, or names by a path, are databases."""
    options_of = exai_files.Simulator._client_options

    def options(self: exai_files.Simulator, given: dict[str, Any]) -> dict[str, Any]:
        options = options_of(self, given)
        return {**options, "registry": databases.place(options["registry"])}

    monkeypatch.setattr(exai_files.Simulator, "_client_options", options)


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.end()


@pytest.fixture
def redis(redis_server: RedisServer) -> Any:
    """A client of it, which is empty."""
    client = redis_server.client(decode_responses=True)
    client.flushall()
    return client


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
