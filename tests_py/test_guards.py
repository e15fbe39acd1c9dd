"""The circuit breaker and the rate limiter around users' own calls."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import socket
import subprocess
import sys
import threading
import time

import canaries
import pytest

from exai_files import CircuitBreaker, CircuitOpenError, InvalidRequestError, RateLimiter, RateLimitError

QUICK = {"calls": 4, "minimum_calls": 2, "wait": 60}


class Down(Exception):
    pass


class TheirFault(Exception):
    pass


def fails(breaker, error=Down, times=2):
    for _ in range(times):
        with pytest.raises(error), breaker:
            raise error("it is down")


@pytest.fixture
def redis_url(tmp_path):
    """A Redis of this test's own."""
    assert shutil.which("redis-server"), "redis-server is not installed; `make test` installs it"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    password = canaries.CANARIES["the password of Redis"]
    settings = f'port {port}\nbind 127.0.0.1\nsave ""\ndir "{tmp_path}"\nrdbcompression no\nrequirepass {password}\n'
    server = subprocess.Popen(["redis-server", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    server.stdin.write(settings.encode())
    server.stdin.close()

    def ask(*words):
        environment = {**os.environ, "REDISCLI_AUTH": password}
        return subprocess.run(["redis-cli", "-p", str(port), *words], capture_output=True, env=environment).stdout

    try:
        while ask("ping") != b"PONG\n":
            assert server.poll() is None
        yield f"redis://:{password}@127.0.0.1:{port}"
        # Its dump is looked at with all other files.
        assert ask("save") == b"OK\n"
    finally:
        server.kill()
        server.wait()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def place(request, tmp_path):
    if request.param == "redis":
        return request.getfixturevalue("redis_url")
    return tmp_path / "state.db" if request.param == "sqlite" else None


def test_a_breaker_opens_and_says_why(place):
    breaker = CircuitBreaker("search", state=place, **QUICK)
    fails(breaker)
    with pytest.raises(CircuitOpenError, match="search is left in peace for now; its latest failure: Down") as refused:
        with breaker:
            pytest.fail("not entered")
    assert 0 < refused.value.retry_after <= 60
    health = breaker.health()
    assert (health.state, health.operation, health.last_error) == ("open", "search", "Down: it is down")
    breaker.reset()
    with breaker:
        pass
    assert breaker.health().state == "closed"


def test_awaited_too(place):
    breaker = CircuitBreaker("search", state=place, **QUICK)

    async def main():
        for _ in range(2):
            with pytest.raises(Down):
                async with breaker:
                    raise Down
        with pytest.raises(CircuitOpenError):
            async with breaker:
                pytest.fail("not entered")
        return await breaker.health_async()

    assert asyncio.run(main()).state == "open"


def test_around_functions_of_both_kinds():
    breaker = CircuitBreaker("search", counts=Down, **QUICK)

    @breaker
    def find(word: str) -> str:
        """Finds."""
        return word

    @breaker
    async def find_later(word: str) -> str:
        raise Down(word)

    assert (find("a"), find.__name__, find.__doc__) == ("a", "find", "Finds.")
    with pytest.raises(Down):
        asyncio.run(find_later("b"))
    with pytest.raises(CircuitOpenError):
        find("c")


def test_what_says_nothing_opens_nothing():
    breaker = CircuitBreaker("search", counts=(Down, TheirFault), ignores=TheirFault, **QUICK)
    fails(breaker, TheirFault, 20)
    fails(breaker, KeyboardInterrupt, 20)
    fails(breaker, ValueError, 20)

    async def cancelled():
        async with breaker:
            await asyncio.sleep(60)

    async def main():
        for _ in range(20):
            task = asyncio.create_task(cancelled())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert breaker.health().state == "closed"


def test_half_open_lets_so_many_through_and_no_more():
    breaker = CircuitBreaker("search", **{**QUICK, "wait": 0.001}, probes=2, successes_to_close=2)
    fails(breaker)
    entered, barrier, refused = [], threading.Barrier(9), []

    def call():
        try:
            with breaker:
                entered.append(1)
                barrier.wait()
        except CircuitOpenError:
            refused.append(1)
            barrier.wait()

    threads = [threading.Thread(target=call) for _ in range(8)]
    time.sleep(0.005)  # the wait itself
    for thread in threads:
        thread.start()
    barrier.wait()
    for thread in threads:
        thread.join()
    assert (len(entered), len(refused)) == (2, 6)
    assert breaker.health().state == "closed"


def test_slow_calls_count(monkeypatch):
    breaker = CircuitBreaker("search", slow_call=1e-9, slow_rate=100, **QUICK)
    for _ in range(2):
        with breaker:
            pass
    deadline = time.monotonic() + 5
    with pytest.raises(CircuitOpenError):
        while time.monotonic() < deadline:
            with breaker:
                pass


def test_entered_within_itself_and_by_tasks_of_one_loop():
    breaker = CircuitBreaker("search", **QUICK)

    async def call(fail: bool) -> None:
        async with breaker, breaker:
            await asyncio.sleep(0)
            if fail:
                raise Down

    async def main():
        return await asyncio.gather(*(call(number == 3) for number in range(9)), return_exceptions=True)

    outcomes = asyncio.run(main())
    assert [type(outcome) for outcome in outcomes].count(Down) == 1
    with pytest.raises(RuntimeError, match="not entered"):
        breaker.__exit__(None, None, None)


def test_another_process_and_a_restart_know_it(tmp_path):
    fails(CircuitBreaker("search", state=tmp_path / "s.db", **QUICK))
    code = (
        "import sys, exai_files\n"
        "b = exai_files.CircuitBreaker('search', state=sys.argv[1], calls=4, minimum_calls=2)\n"
        "print(b.health().state)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s.db")], capture_output=True, text=True)
    assert run.stdout.strip() == "open", run.stderr


KILLED = """
import os, signal, sys, exai_files
breaker = exai_files.CircuitBreaker(
    "search", state=os.environ["PLACE"], calls=4, minimum_calls=2, wait=0.001, wait_cap=0.001, probes=2, probe_lease=0.5
)
for _ in range(int(sys.argv[1])):
    try:
        with breaker:
            raise OSError("down")
    except OSError:
        pass
if sys.argv[1] == "0":
    breaker.__enter__()
    print("probing", flush=True)
    sys.stdin.read()
os.kill(os.getpid(), signal.SIGKILL)
"""


def started(place, failures):
    command, environment = [sys.executable, "-c", KILLED, str(failures)], {**os.environ, "PLACE": str(place)}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def open_and_be_killed(place):
    with started(place, 2) as process:
        assert process.wait() == -9


def test_a_kill_keeps_the_state(tmp_path, redis_url):
    for place in (tmp_path / "s.db", redis_url):
        open_and_be_killed(place)
        assert CircuitBreaker("search", state=place, **QUICK).health().state == "open"


def test_probes_whose_holders_were_killed_are_free_after_their_lease(tmp_path, redis_url):
    for place in (tmp_path / "s.db", redis_url):
        open_and_be_killed(place)
        breaker = CircuitBreaker("search", state=place, probes=2, probe_lease=0.5, **QUICK)
        with started(place, 0) as first, started(place, 0) as second:
            assert [probe.stdout.readline() for probe in (first, second)] == ["probing\n"] * 2
            with pytest.raises(CircuitOpenError):
                with breaker:
                    pytest.fail("both places are taken")
            first.kill()
            second.kill()
        assert seconds_until_entered(breaker) < 0.5 + 1.0, "a lease and a second later they are free"


def seconds_until_entered(breaker):
    begun = time.monotonic()
    while time.monotonic() - begun < 10:
        try:
            with breaker:
                break
        except CircuitOpenError:
            pass
    return time.monotonic() - begun


def test_a_redis_that_is_not_there_fails_nothing():
    breaker = CircuitBreaker("search", state="redis://127.0.0.1:1", **QUICK)
    fails(breaker)
    with pytest.raises(CircuitOpenError):
        with breaker:
            pytest.fail("not entered")
    with RateLimiter("search", requests=10, per=60, state="redis://127.0.0.1:1"):
        pass


def test_a_limiter_refuses_at_once_what_cannot_come_in_time(place):
    limiter = RateLimiter("search", requests=3, per=60, state=place, max_wait=0.5)
    for _ in range(3):
        with limiter:
            pass
    with pytest.raises(RateLimitError, match="search has no turn left") as refused:
        with limiter:
            pytest.fail("not entered")
    assert 55 < refused.value.retry_after < 62
    assert limiter.health().used == 3


def test_a_limiter_waits_for_its_turn(place):
    limiter = RateLimiter("search", requests=4, per=0.4, state=place)
    begun = []

    async def call():
        async with limiter:
            begun.append(time.monotonic())

    async def main():
        await asyncio.gather(*(call() for _ in range(10)))

    asyncio.run(main())
    begun.sort()
    assert all(later - earlier >= 0.38 for earlier, later in zip(begun, begun[4:], strict=False))


@pytest.mark.parametrize(
    "guard", [CircuitBreaker("g"), RateLimiter("g", requests=1, per=1)], ids=["breaker", "limiter"]
)
def test_generators_are_refused_and_callable_objects_awaited(guard):
    def steps():
        yield 1

    async def awaited_steps():
        yield 1

    class Search:
        async def __call__(self):
            return "found"

    for generator in (steps, awaited_steps):
        with pytest.raises(TypeError, match="generator"):
            guard(generator)
    assert asyncio.run(guard(Search())()) == "found"


def test_retry_after_zero_is_no_pause():
    limiter = RateLimiter("search", requests=10, per=60)
    limiter.throttled(0)
    assert limiter.health().paused_for == 0
    assert limiter.health().share == 0.7
    with pytest.raises(InvalidRequestError):
        limiter.throttled(1e19)


def test_a_waiting_caller_can_be_cancelled():
    limiter = RateLimiter("search", requests=1, per=600)

    async def main():
        async with limiter:
            pass
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(limiter.__aenter__(), 0.05)

    asyncio.run(main())


def test_throttling_is_learnt():
    limiter = RateLimiter("search", requests=10, per=60, max_wait=0)
    limiter.throttled(retry_after=30)
    health = limiter.health()
    assert (health.share, 29 < health.paused_for <= 30) == (0.7, True)
    with pytest.raises(RateLimitError):
        with limiter:
            pytest.fail("not entered")


def test_bulk_calls_leave_a_fifth():
    bulk = RateLimiter("search", requests=10, per=60, max_wait=0, bulk=True)
    for _ in range(8):
        with bulk:
            pass
    with pytest.raises(RateLimitError):
        with bulk:
            pytest.fail("not entered")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"calls": 0},
        {"calls": -1},
        {"calls": 2.5},
        {"seconds": 0},
        {"seconds": -1},
        {"seconds": math.nan},
        {"seconds": math.inf},
        {"minimum_calls": 0},
        {"minimum_calls": True},
        {"failure_rate": 0},
        {"failure_rate": 102},
        {"failure_rate": 0.5},
        {"slow_rate": 0},
        {"slow_call": 0},
        {"wait": 0},
        {"wait": "5"},
        {"wait_factor": 0.5},
        {"wait_factor": 101},
        {"wait_cap": 0},
        {"probes": 0},
        {"successes_to_close": 0},
        {"successes_to_close": 4},
        {"probe_lease": 0},
    ],
    ids=str,
)
def test_a_breaker_with_a_wrong_setting_is_refused(wrong):
    with pytest.raises(InvalidRequestError) as refused:
        CircuitBreaker(**{"name": "search", **wrong})
    assert refused.value.hint
    assert next(iter(wrong)) in str(refused.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"requests": 0},
        {"requests": -1},
        {"requests": 1.5},
        {"per": 0},
        {"per": math.nan},
        {"per": "1 m"},
        {"max_wait": "long"},
    ],
    ids=str,
)
def test_a_limiter_with_a_wrong_setting_is_refused(wrong):
    with pytest.raises(InvalidRequestError) as refused:
        RateLimiter(**{"name": "search", "requests": 1, "per": 1, **wrong})
    assert refused.value.hint


@pytest.mark.parametrize(
    "url", ["http://localhost", "redis+tower://localhost", "redis://", "redis+sentinel://h:1", "redis://a,b"]
)
def test_a_wrong_url_is_refused(url):
    with pytest.raises(Exception, match="Redis URL"):
        CircuitBreaker("search", state=url)


def test_a_state_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "state.db").write_text("this is no database, and was never one " * 100)
    with pytest.raises(Exception, match="database"):
        CircuitBreaker("search", state=tmp_path / "state.db")
    assert (tmp_path / "state.db").stat().st_size > 1000
