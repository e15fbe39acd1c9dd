"""Processes: many with one file, exits, forks, signals and cancellation. Each in an interpreter of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import databases
import pytest

import exai_files

ONE_CALL_SYNC = """
import sys, json, exai_files
platforms = json.loads(sys.argv[1])
with exai_files.Client(registry=":memory:", platforms=platforms, environment={}) as files:
    print(files.upload(b"x", name="x.txt", to="zai").size)
"""

ONE_CALL_ASYNC = """
import sys, json, asyncio, exai_files
platforms = json.loads(sys.argv[1])
async def main():
    files = exai_files.AsyncClient(registry=":memory:", platforms=platforms, environment={})
    print((await files.upload(b"x", name="x.txt", to="zai")).size)
asyncio.run(main())
"""


def script(code: str, *args: str) -> list[str]:
    return [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code), *args]


@pytest.mark.parametrize("code", [pytest.param(ONE_CALL_SYNC, id="sync"), pytest.param(ONE_CALL_ASYNC, id="async")])
def test_a_one_call_script_always_ends_well(sim, code):
    """The stock asyncio bridge dies at exit in one of ten runs; `EXAI_FILES_EXITS=200` for the full count."""
    sim.zai.set(max_files=10_000)
    command = script(code, json.dumps(sim.platforms()))
    rounds = int(os.environ.get("EXAI_FILES_EXITS", "50"))
    for _ in range(0, rounds, 5):
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(5)]
        for process in running:
            said, complained = process.communicate(timeout=60)
            assert (process.returncode, said.strip(), complained) == (0, b"1", b"")


@pytest.mark.parametrize("code", [pytest.param(ONE_CALL_SYNC, id="sync"), pytest.param(ONE_CALL_ASYNC, id="async")])
def test_a_failing_script_has_a_failing_exit(sim, code):
    sim.zai.fault({"kind": "error", "code": "1113"}, operation="upload")
    done = subprocess.run(script(code, json.dumps(sim.platforms())), capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert b"BillingError" in done.stderr


def test_four_processes_with_one_file_make_one_remote_file(sim, tmp_path):
    path = tmp_path / "same.txt"
    path.write_text("the same")
    code = """
    import sys, json, asyncio, exai_files
    platforms, registry, path = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
    async def main():
        async with exai_files.AsyncClient(registry=registry, platforms=platforms, environment={}) as files:
            records = await asyncio.gather(*(files.upload(path, to="moonshot") for _ in range(32)))
            print({record.replicas[0].remote_id for record in records})
    asyncio.run(main())
    """
    command = script(code, json.dumps(sim.platforms()), databases.place(tmp_path / "registry.db"), str(path))
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = {process.communicate(timeout=60)[0].strip() for process in running}
    assert said == {str({sim.moonshot.files[0].id})}
    assert len(sim.truth(operation="upload")) == 1


def test_a_killed_process_is_taken_over_without_a_second_copy(sim, tmp_path):
    sim.moonshot.fault({"kind": "delay", "before_ms": 700}, when={"next": 1}, operation="upload")
    code = """
    import sys, json, exai_files
    platforms, registry = json.loads(sys.argv[1]), sys.argv[2]
    with exai_files.Client(registry=registry, platforms=platforms, environment={}) as files:
        files.upload(b"hello", name="a.txt", to="moonshot")
    """
    registry = databases.place(tmp_path / "registry.db")
    process = subprocess.Popen(script(code, json.dumps(sim.platforms()), registry))
    while not _open_intents(registry):
        assert process.poll() is None
    process.kill()
    process.wait()
    _let_leases_run_out(registry)
    with sim.client(registry=registry, settings={"retry": {"commit_horizon": 2}}) as client:
        record = client.upload(b"hello", name="a.txt", to="moonshot")
    assert [file.id for file in sim.moonshot.files] == [record.replicas[0].remote_id]


def _open_intents(registry: str) -> bool:
    return databases.query(registry, "SELECT 1 FROM upload_intents WHERE state = 'sending'") == "1"


def _let_leases_run_out(registry: str) -> None:
    """Thirty seconds of waiting, in no time."""
    long_ago = "'epoch'" if databases.IS_POSTGRES else "0"
    databases.query(registry, f"UPDATE upload_intents SET lease_until = {long_ago}")


def test_a_closed_registry_is_one_file(sim, tmp_path):
    for number in range(20):
        home = tmp_path / str(number)
        options = {"registry": home / "registry.db", "settings": {"copies": {"place": str(tmp_path / "copies")}}}
        with sim.client(**options) as files:
            files.upload(b"x", name="x.txt", to="moonshot")
            files.copies.collect()
        assert {path.name for path in home.iterdir()} == {"registry.db", "registry.audit-key"}


def test_use_after_fork_raises_instead_of_hanging(sim):
    code = """
    import os, sys, json, exai_files
    platforms = json.loads(sys.argv[1])
    files = exai_files.Client(registry=":memory:", platforms=platforms, environment={})
    files.upload(b"x", name="x.txt", to="zai")
    child = os.fork()
    if child == 0:
        try:
            files.upload(b"y", name="y.txt", to="zai")
        except RuntimeError as error:
            sys.exit(7 if "forked" in str(error) else 8)  # an ordinary exit, with all its clearing up
        sys.exit(9)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = subprocess.run(
        script(code, json.dumps(sim.platforms())), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "7"), done.stderr


def test_ctrl_c_stops_a_waiting_call_within_a_second(sim):
    sim.moonshot.fault("stall", when={"next": 1}, operation="upload")
    code = """
    import sys, json, time, exai_files
    platforms = json.loads(sys.argv[1])
    files = exai_files.Client(registry=":memory:", platforms=platforms, environment={})
    try:
        files.upload(b"x", name="x.txt", to="moonshot")
    except KeyboardInterrupt:
        print("stopped")
    """
    process = subprocess.Popen(script(code, json.dumps(sim.platforms())), stdout=subprocess.PIPE, text=True)
    while not sim.truth(operation="upload"):
        assert process.poll() is None
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert (process.returncode, said.strip()) == (0, "stopped")
    assert time.monotonic() - begun < 3  # the exit of the interpreter included


def test_a_cancelled_task_stops_its_transfer(sim):
    sim.moonshot.set(bandwidth_bits_per_second=8_000_000)

    async def main() -> float:
        async with sim.async_client() as files:
            task = asyncio.create_task(files.upload(b"x" * 8_000_000, name="x.bin", to="moonshot", purpose="image"))
            moved = asyncio.Event()
            other = asyncio.create_task(
                files.upload(b"y" * 4_000_000, name="y.bin", to="zai", progress=lambda transfer: moved.set())
            )
            await moved.wait()
            await other
            begun = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return time.monotonic() - begun

    assert asyncio.run(main()) < 1
    with sim.client() as client:
        client.upload(b"z", name="z.txt", to="zai")
    assert all(entry["outcome"] != "stored" for entry in sim.truth(platform="moonshot"))


def test_a_thousand_cancelled_calls_leave_nothing_running(sim):
    sim.moonshot.fault("stall", operation="list")

    async def main() -> None:
        async with sim.async_client(platforms={"moonshot": {"concurrency": 10_000}}) as files:
            tasks = [asyncio.ensure_future(files.list_remote("moonshot")) for _ in range(1_000)]
            while not sim.truth(operation="list"):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)

    asyncio.run(main())


def test_the_waiting_client_works_inside_a_running_loop(sim):
    async def main() -> exai_files.FileRecord:
        with sim.client() as files:
            return files.upload(b"hello", name="a.txt", to="moonshot")

    assert asyncio.run(main()).size == 5


def test_logging_goes_through_logging_and_configures_nothing(sim, caplog):
    import logging

    assert logging.getLogger("exai_files").handlers[0].__class__ is logging.NullHandler
    sim.moonshot.fail_next(status=503)
    exai_files._core.reset_logging()
    with caplog.at_level(logging.INFO), sim.client() as files:
        files.upload(b"hello", name="a.txt", to="moonshot")
    assert any(record.name.startswith("exai_files") and "retrying" in record.getMessage() for record in caplog.records)
