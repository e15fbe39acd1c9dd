"""The file locks of the existing tool: in memory and in a real Redis."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import signal
import subprocess
import sys
import threading
from contextlib import asynccontextmanager, suppress

import pytest
from redis_server import RedisServer
from waiting import run

import exai_files
from exai_files.dropin import file_lock_manager
from exai_files.dropin import redis_client as dropin_redis
from exai_files.dropin.errors import FileLockError, FileUploadErrorCode
from exai_files.dropin.file_lock_manager import (
    FileLockLostError,
    FileLockManager,
    FileLockTimeoutError,
    get_lock_manager,
)

PATH = "/data/paper.pdf"
KEY = f"file_lock:{hashlib.sha256(PATH.encode()).hexdigest()}"

COUNTS_CANCELLATIONS = sys.version_info >= (3, 11)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.delenv("FILE_LOCK_TIMEOUT_SECONDS", raising=False)
    monkeypatch.delenv("EX_DRIVE_MAPPINGS", raising=False)
    monkeypatch.setattr(file_lock_manager, "POLL", (0.001, 0.002))
    yield
    assert len(file_lock_manager._turns) == len(file_lock_manager._held) == 0


@pytest.fixture
def shared(redis):
    return FileLockManager(redis)


@pytest.fixture(params=["in-memory", "redis", "redis, bytes"])
def locks(request):
    if request.param == "in-memory":
        return FileLockManager()
    redis = request.getfixturevalue("redis")
    if request.param == "redis, bytes":
        redis = request.getfixturevalue("redis_server").client()
    return FileLockManager(redis)


class Caller:
    """A task that waits for a lock, and holds it until it is told to end."""

    def __init__(self, locks, path=PATH, patience=None):
        self.entered, self.done = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._hold(locks.acquire(path, patience)))

    async def _hold(self, lock):
        async with lock:
            self.entered.set()
            await self.done.wait()

    async def end(self):
        self.done.set()
        await asyncio.gather(self.task, return_exceptions=True)

    async def cancel(self):
        self.task.cancel()
        await self.end()


@asynccontextmanager
async def held(locks, path=PATH):
    """A lock that another task holds. Gives that task, and what ends it."""
    caller = Caller(locks, path)
    await caller.entered.wait()
    try:
        yield caller.task, caller.done
    finally:
        await caller.end()


async def until(question):
    while not question():
        await asyncio.sleep(0)


# ===== the contract =====


def test_fault_4_there_is_one_manager_and_it_needs_no_configuration(monkeypatch):
    monkeypatch.setattr(file_lock_manager, "_manager", None)
    assert get_lock_manager() is get_lock_manager()
    assert get_lock_manager().get_lock_stats() == {
        "total_locks": 0,
        "active_locks": 0,
        "mode": "in-memory",
        "timeout": 300,
    }


@pytest.mark.parametrize(("text", "seconds"), [("7", 7), ("7  # seconds", 7), ("", 300), ("long", 300)])
def test_the_timeout_is_the_environments(monkeypatch, text, seconds):
    monkeypatch.setenv("FILE_LOCK_TIMEOUT_SECONDS", text)
    assert FileLockManager().lock_timeout == seconds


def test_redis_is_used_where_it_is_given_or_named(redis, monkeypatch):
    assert FileLockManager(redis).get_lock_stats()["mode"] == "redis"
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:2/0")
    assert FileLockManager().get_lock_stats()["mode"] == "redis"


def test_it_says_what_is_held_and_waited_for(locks):
    async def main():
        assert not await locks.is_locked(PATH)
        async with held(locks), held(locks, "/data/other.pdf"):
            assert await locks.is_locked(PATH)
            waiting = Caller(locks)
            await asyncio.sleep(0)
            stats = locks.get_lock_stats()
            assert (stats["total_locks"], stats["active_locks"], stats["timeout"]) == (2, 2, 300)
            await waiting.cancel()
        assert not await locks.is_locked(PATH)

    run(main())


# ===== one at a time =====


def test_fault_28_there_is_never_a_second_holder(locks):
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    inside, most, times, fences = 0, 0, 0, []

    async def call(lock_for, cancelled):
        nonlocal inside, most, times
        async with locks.acquire(PATH, 30) as lock:
            fences.append(lock.fence)
            inside += 1
            most = max(most, inside)
            try:
                for _ in range(lock_for):
                    await asyncio.sleep(0)
            finally:
                inside -= 1
            times += not cancelled

    async def main():
        tasks = []
        for _ in range(60):
            is_cancelled = rng.random() < 0.3
            tasks.append(asyncio.create_task(call(rng.randrange(5), is_cancelled)))
            if is_cancelled:
                asyncio.get_running_loop().call_later(rng.random() / 50, tasks[-1].cancel)
        await asyncio.gather(*tasks, return_exceptions=True)

    run(main())
    assert most == 1
    assert times >= 30
    assert fences == sorted(set(fences)), "each fence is higher than the last"


def test_fault_28_nor_in_another_thread_with_a_loop_and_a_manager_of_its_own():
    inside, most, entered = [], [], threading.Barrier(4)

    async def call():
        async with FileLockManager().acquire(PATH):
            inside.append(1)
            most.append(len(inside))
            await asyncio.sleep(0)
            inside.pop()

    async def calls():
        entered.wait()
        await asyncio.gather(*(call() for _ in range(25)))

    threads = [threading.Thread(target=run, args=(calls(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 100


def test_they_come_in_the_order_in_which_they_came(locks):
    order = []

    async def call(number):
        async with locks.acquire(PATH):
            order.append(number)

    async def main():
        async with held(locks):
            tasks = [asyncio.create_task(call(number)) for number in range(9)]
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    run(main())
    assert order == list(range(9))


PROCESS = """
import asyncio, os, sys, redis
from exai_files.dropin.file_lock_manager import FileLockManager
locks = FileLockManager(redis.Redis.from_url(os.environ["PLACE"]))
async def call():
    async with locks.acquire("/data/paper.pdf") as lock:
        with open(os.environ["COUNT"]) as file:
            count = int(file.read())
        await asyncio.sleep(0)
        with open(os.environ["COUNT"], "w") as file:
            file.write(str(count + 1))
        print(lock.fence, flush=True)
async def main():
    print("ready", flush=True)
    sys.stdin.readline()
    await asyncio.gather(*(call() for _ in range(20)))
asyncio.run(main())
"""


def started(code, redis_server, **environment):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PLACE": redis_server.url, **environment}, **pipes
    )


def test_fault_31_two_processes_exclude_each_other(redis_server, redis, tmp_path):
    count = tmp_path / "count"
    count.write_text("0")
    with (
        started(PROCESS, redis_server, COUNT=str(count)) as one,
        started(PROCESS, redis_server, COUNT=str(count)) as other,
    ):
        for process in (one, other):
            assert process.stdout.readline() == "ready\n"
        for process in (one, other):
            process.stdin.write("go\n")
            process.stdin.flush()
        fences = [int(line) for process in (one, other) for line in process.stdout]
        assert (one.wait(), other.wait()) == (0, 0)
    assert count.read_text() == "40"
    assert len(set(fences)) == 40
    assert redis.keys() == ["file_lock:fence"], "nothing else is left"


def test_redis_is_told_of_a_holder_and_keeps_it_only_for_a_lease(shared, redis):
    async def main():
        async with shared.acquire(PATH) as lock:
            assert 59_000 < redis.pttl(KEY) <= 60_000
            assert lock.fence == int(redis.get("file_lock:fence"))
            assert lock.path == PATH
        assert not redis.exists(KEY)

    run(main())


# ===== waiting =====


def test_who_waits_too_long_is_told_so(locks):
    async def main():
        async with held(locks):
            for patience in (0, 0.01):
                with pytest.raises(TimeoutError) as late:
                    async with locks.acquire(PATH, patience):
                        pytest.fail("not entered")
                assert str(late.value) == f"Could not acquire file lock within {patience} seconds"
            assert type(late.value) is FileLockTimeoutError
            assert isinstance(late.value, exai_files.ConflictError)
            assert late.value.detail.code is FileUploadErrorCode.LOCK_TIMEOUT
            assert late.value.detail.file_path == PATH
        async with locks.acquire(PATH, 0):
            pass

    run(main())


def test_who_waits_for_another_process_too(shared, redis):
    async def main():
        redis.set(KEY, "another", px=60_000)
        assert await shared.is_locked(PATH)
        with pytest.raises(FileLockTimeoutError):
            async with shared.acquire(PATH, 0.01):
                pytest.fail("not entered")
        waiting = Caller(shared, patience=5)
        await until(lambda: len(file_lock_manager._turns))
        redis.delete(KEY)
        await waiting.entered.wait()
        await waiting.end()

    run(main())


def test_fault_29_a_lock_in_memory_is_not_taken_from_its_holder_for_being_old(monkeypatch):
    monkeypatch.setenv("FILE_LOCK_TIMEOUT_SECONDS", "0")
    locks = FileLockManager()

    async def main():
        async with held(locks) as (task, done):
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with locks.acquire(PATH):
                        pytest.fail("not entered")
            done.set()
            await task

    run(main())


@pytest.mark.parametrize("error", [TimeoutError("the upload"), asyncio.TimeoutError(), asyncio.CancelledError("mine")])
def test_fault_30_what_the_body_raises_passes_as_it_is(locks, error):
    async def main():
        async with locks.acquire(PATH):
            raise error

    with pytest.raises(type(error)) as passed:
        run(main())
    if not isinstance(error, asyncio.CancelledError):
        assert passed.value is error


def test_a_waiting_caller_can_be_cancelled_and_leaves_nothing(locks):
    async def main():
        async with held(locks):
            waiting = [Caller(locks) for _ in range(5)]
            await asyncio.sleep(0)
            await asyncio.gather(*(caller.cancel() for caller in waiting))
        async with locks.acquire(PATH, 5):
            pass

    run(main())


def test_who_is_cancelled_while_redis_is_asked_keeps_no_lock(shared, redis):
    async def main():
        for _ in range(9):
            caller = Caller(shared)
            await asyncio.sleep(0)
            await caller.cancel()

    run(main())  # its end waits for the threads
    assert not redis.exists(KEY)


# ===== losing it =====


async def awaited(task):
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    return outcome


def test_a_lock_can_be_forced_open_and_its_holder_is_told(locks):
    async def main():
        assert not await locks.force_unlock(PATH)
        async with held(locks) as (task, _):
            waiting = Caller(locks, patience=5)
            await asyncio.sleep(0)
            assert await locks.force_unlock(PATH)
            lost = await awaited(task)
            assert type(lost) is FileLockLostError
            assert isinstance(lost, FileLockError)
            assert lost.detail.file_path == PATH
            await waiting.entered.wait()
            assert await locks.is_locked(PATH), "the old holder's end is not the new one's"
            await waiting.end()

    run(main())


def test_a_new_holder_waits_for_no_old_one_that_does_not_end(locks):
    async def main():
        entered, done = asyncio.Event(), asyncio.Event()

        async def slow():
            async with locks.acquire(PATH):
                entered.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    await done.wait()

        task = asyncio.create_task(slow())
        await entered.wait()
        await locks.force_unlock(PATH)
        async with locks.acquire(PATH, 5):
            done.set()
            assert type(await awaited(task)) is FileLockLostError
            assert locks.get_lock_stats()["active_locks"] == 1
            with pytest.raises(FileLockTimeoutError):
                async with locks.acquire(PATH, 0):
                    pytest.fail("not entered")

    run(main())


def test_another_process_is_forced_too(shared, redis):
    redis.set(KEY, "another", px=60_000)
    assert run(shared.force_unlock(PATH))
    assert not redis.exists(KEY)


@pytest.mark.parametrize("now", ["nobody's", "another's"])
def test_a_holder_whose_lock_is_not_its_own_any_more_is_interrupted(shared, redis, now):
    shared.lease = 0.03

    async def main():
        async with held(shared) as (task, _):
            redis.delete(KEY) if now == "nobody's" else redis.set(KEY, "another")
            assert type(await awaited(task)) is FileLockLostError
        assert redis.get(KEY) == (None if now == "nobody's" else "another"), "what is another's is left alone"

    run(main())


def test_a_holder_that_ends_before_it_was_noticed_is_told(shared, redis):
    async def main():
        with pytest.raises(FileLockLostError):
            async with shared.acquire(PATH):
                redis.delete(KEY)
        with pytest.raises(KeyError):
            async with shared.acquire(PATH):
                redis.delete(KEY)
                raise KeyError("its own error comes first")

    run(main())


def test_a_cancellation_that_is_not_ours_stays_one(shared, redis):
    async def main():
        async with held(shared) as (task, _):
            lock = file_lock_manager._held[KEY.removeprefix("file_lock:")]
            lock._lose()
            task.cancel()
            # Python 3.10 does not count cancellations: there it may pass for ours.
            ours = () if COUNTS_CANCELLATIONS else (FileLockLostError,)
            assert isinstance(await awaited(task), (asyncio.CancelledError, *ours))

    run(main())


def test_ours_is_taken_back_even_if_the_body_swallows_it(locks):
    async def main():
        with pytest.raises(FileLockLostError):
            async with locks.acquire(PATH):
                await locks.force_unlock(PATH)
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
        assert not COUNTS_CANCELLATIONS or asyncio.current_task().cancelling() == 0

    run(main())


def test_a_lock_is_renewed_though_its_holder_blocks_the_loop(shared, redis):
    shared.lease = 0.3

    async def main():
        async with shared.acquire(PATH):
            renewals, before = 0, redis.pttl(KEY)
            while renewals < 4:
                left = redis.pttl(KEY)
                assert left > 0, "it has ended"
                renewals += left > before
                before = left

    run(main())


HOLDER = """
import asyncio, os, sys, redis
from exai_files.dropin.file_lock_manager import FileLockLostError, FileLockManager
locks = FileLockManager(redis.Redis.from_url(os.environ["PLACE"]))
locks.lease = 0.3
async def main():
    try:
        async with locks.acquire("/data/paper.pdf"):
            print("held", flush=True)
            await asyncio.Event().wait()
    except FileLockLostError as lost:
        print(lost, flush=True)
asyncio.run(main())
"""


def test_the_lock_of_a_killed_process_is_free_after_its_lease(redis_server, shared):
    with started(HOLDER, redis_server) as process:
        assert process.stdout.readline() == "held\n"

        async def main():
            with pytest.raises(FileLockTimeoutError):
                async with shared.acquire(PATH, 0.01):
                    pytest.fail("not entered")
            process.kill()
            async with shared.acquire(PATH, 5):
                pass

        run(main())


def test_a_process_that_slept_through_its_lease_learns_of_it(redis_server, shared):
    with started(HOLDER, redis_server) as process:
        assert process.stdout.readline() == "held\n"
        os.kill(process.pid, signal.SIGSTOP)

        async def main():
            async with shared.acquire(PATH, 5):
                os.kill(process.pid, signal.SIGCONT)
                assert process.stdout.readline() == "the lock of '/data/paper.pdf' was lost while it was held\n"

        run(main())


# ===== without Redis =====


def test_without_redis_locks_are_the_processs_own_until_it_is_back(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(dropin_redis, "PAUSE", 0.0)
    caplog.set_level(logging.INFO, "exai_files.dropin.redis_client")
    server = RedisServer(tmp_path)
    server.start()
    monkeypatch.setenv("REDIS_URL", server.url)
    locks = FileLockManager()
    locks.lease = 0.03

    async def main():
        server.kill()
        async with held(locks) as (task, done):
            assert await locks.is_locked(PATH)
            with pytest.raises(FileLockTimeoutError):
                async with locks.acquire(PATH, 0):
                    pytest.fail("not entered")
            server.start()
            client = server.client()
            await until(lambda: client.exists(KEY))
            done.set()
            await task
        assert not client.exists(KEY)

    run(main())
    said = [record.getMessage() for record in caplog.records if record.name == "exai_files.dropin.redis_client"]
    assert [message[:20] for message in said] == ["Redis is out of reac", "Redis is back: circu"]
    server.end()


def test_a_holder_finds_out_that_another_took_it_while_redis_was_away(tmp_path, monkeypatch):
    monkeypatch.setattr(dropin_redis, "PAUSE", 0.0)
    server = RedisServer(tmp_path)
    server.start()
    monkeypatch.setenv("REDIS_URL", server.url)
    locks = FileLockManager()

    async def main():
        async with held(locks) as (task, _):
            server.kill()
            server.start()
            server.client().set(KEY, "another")
            locks.lease = 0.03
            lock = file_lock_manager._held[KEY.removeprefix("file_lock:")]
            keeper = threading.Thread(target=locks._keep, args=(locks._shared, lock))
            keeper.start()
            assert type(await awaited(task)) is FileLockLostError
            keeper.join()

    run(main())
    server.end()


# ===== the name of a file =====


def hashed(path):
    return hashlib.sha256(str(path).encode()).hexdigest()


def test_a_plain_path_has_the_tools_key():
    assert file_lock_manager._key(PATH) == hashed(PATH)


def test_fault_31_a_file_has_one_key_whatever_it_is_called(tmp_path, monkeypatch):
    file = tmp_path.resolve() / "paper.pdf"
    (tmp_path / "link.pdf").symlink_to(file)
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    names = ["paper.pdf", "./paper.pdf", "folder/../paper.pdf", "link.pdf", file, os.fsencode(file)]
    assert {file_lock_manager._key(name) for name in names} == {hashed(file)}
    assert file_lock_manager._key("Paper.pdf") != hashed(file), "two files, where case matters"


@pytest.mark.parametrize(
    ("mappings", "windows", "posix"),
    [
        ("", r"C:\Project\data\paper.pdf", "/mnt/project/data/paper.pdf"),
        ("", "c:/project/data/paper.pdf", "/mnt/project/data/paper.pdf"),
        ("", r"C:\data\paper.pdf", "/mnt/project/data/paper.pdf"),
        ("C:/app, d:/data/", r"D:\paper.pdf", "/data/paper.pdf"),
        ("C:/app, d:/data/", r"C:\Project\paper.pdf", "/app/Project/paper.pdf"),
        ("rubbish,,:/", r"C:\Project\paper.pdf", "/mnt/project/paper.pdf"),
    ],
)
def test_fault_31_a_path_of_windows_is_the_containers(monkeypatch, mappings, windows, posix):
    monkeypatch.setenv("EX_DRIVE_MAPPINGS", mappings)
    assert file_lock_manager._key(windows) == hashed(posix)


def test_a_name_that_no_file_can_have_is_refused(locks):
    async def main():
        async with locks.acquire("a\0b"):
            pytest.fail("not entered")

    with pytest.raises(ValueError, match="null"):
        run(main())
