"""The circuit breaker of the existing tool, in memory and in a real Redis."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import random
import socket
import subprocess
import sys

import prometheus_client
import pytest
from redis_server import RedisServer
from waiting import run

import exai_files
from exai_files.dropin import redis_client as dropin_redis
from exai_files.dropin.persistent_circuit_breaker import (
    CircuitBreakerConfig,
    CircuitBreakerOpenError,
    CircuitBreakerState,
    CircuitState,
    PersistentCircuitBreaker,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
NOW = 1_790_000_000.25
NOBODY = "redis://127.0.0.1:1/0"


class Down(Exception):
    """Of a provider."""


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.fixture(params=["memory", "redis"])
def breaker(request, monkeypatch):
    """Makes breakers that agree on the time; in memory each is alone."""
    monkeypatch.setenv("REDIS_URL", NOBODY)
    client = request.getfixturevalue("redis") if request.param == "redis" else None
    clock = Clock()

    def made(**settings):
        breaker = PersistentCircuitBreaker(CircuitBreakerConfig("search", **settings), client)
        breaker.clock = clock
        return breaker

    made.clock = clock
    return made


async def calls(breaker, outcomes):
    """One call after the other: an exception to raise, or None."""
    for outcome in outcomes:
        try:
            async with breaker:
                if outcome is not None:
                    raise outcome
        except type(outcome):
            pass


async def admitted(breaker, number):
    """How many of so many calls at once get in, and what the others are told."""
    done, inside = asyncio.Event(), []

    async def call():
        async with breaker:
            inside.append(1)
            await done.wait()

    tasks = [asyncio.create_task(call()) for _ in range(number)]
    while len(inside) + sum(task.done() for task in tasks) < number:
        await asyncio.sleep(0)
    done.set()
    refusals = [outcome for outcome in await asyncio.gather(*tasks, return_exceptions=True) if outcome]
    return len(inside), refusals


def value(metric, **labels):
    return metric.labels(**labels)._value.get()


# ===== the contract =====


def test_names_and_signatures_are_the_tools():
    assert [(state.name, state.value, state == state.value) for state in CircuitState] == [
        ("CLOSED", "CLOSED", True),
        ("OPEN", "OPEN", True),
        ("HALF_OPEN", "HALF_OPEN", True),
    ]
    assert dataclasses.asdict(CircuitBreakerConfig("a")) == {
        "name": "a",
        "failure_threshold": 5,
        "timeout": 60,
        "half_open_max_calls": 3,
        "success_threshold": 2,
        "max_timeout": 300,
        "backoff_multiplier": 2.0,
    }
    names = ["state", "failures", "successes", "last_failure_time", "last_state_change", "timeout", "half_open_calls"]
    assert [field.name for field in dataclasses.fields(CircuitBreakerState)] == names


def test_redis_has_the_tools_key_and_json(redis):
    breaker = PersistentCircuitBreaker(CircuitBreakerConfig("search"), redis)
    breaker.clock = Clock()
    run(calls(breaker, [Down()]))
    assert redis.keys() == ["circuit_breaker:search"]
    assert json.loads(redis.get("circuit_breaker:search")) == {
        "state": "CLOSED",
        "failures": 1,
        "successes": 0,
        "last_failure_time": NOW,
        "last_state_change": NOW,
        "timeout": 60,
        "half_open_calls": 0,
    }
    assert 86_390 < redis.ttl("circuit_breaker:search") <= 86_400


@pytest.mark.parametrize("timeout", [60, 60.0], ids=["the tool's", "the core's"])
def test_what_others_wrote_is_understood(redis, timeout):
    told = {"state": "OPEN", "failures": 5, "successes": 0, "last_failure_time": NOW, "last_state_change": NOW}
    redis.set("circuit_breaker:search", json.dumps({**told, "timeout": timeout, "half_open_calls": 0}), ex=86_400)
    breaker = PersistentCircuitBreaker(CircuitBreakerConfig("search"), redis)
    breaker.clock = Clock()
    breaker.clock.now += 59

    async def main():
        with pytest.raises(CircuitBreakerOpenError):
            await breaker.__aenter__()
        breaker.clock.now += 1
        async with breaker:
            return await breaker.get_metrics()

    assert run(main()) == {
        "name": "search",
        "state": "HALF_OPEN",
        "failures": 5,
        "successes": 0,
        "last_failure_time": NOW,
        "timeout": 60,
        "half_open_calls": 1,
    }


@pytest.mark.parametrize("rubbish", ["", "[]", "null", "{}", '{"state": "AJAR"}', "\x00", "1" * 5000])
def test_what_nobody_would_write_is_a_closed_breaker(redis, rubbish):
    redis.set("circuit_breaker:search", rubbish)
    breaker = PersistentCircuitBreaker(CircuitBreakerConfig("search"), redis)
    run(calls(breaker, [Down()]))
    assert json.loads(redis.get("circuit_breaker:search"))["failures"] == 1


def test_the_core_follows_it_where_it_is_told_to(redis, redis_server):
    core = exai_files.CircuitBreaker("search", state=redis_server.url, existing_tool_keys=True)
    breaker = PersistentCircuitBreaker(CircuitBreakerConfig("search"), redis)
    run(calls(breaker, [Down()] * 5))
    with pytest.raises(exai_files.CircuitOpenError):
        with core:
            pytest.fail("not entered")
    core.reset()
    assert run(breaker.get_state()) == "CLOSED"


def test_it_opens_tries_and_closes(breaker):
    it = breaker()

    async def main():
        await calls(it, [Down()] * 5)
        assert await it.get_state() == "OPEN"
        breaker.clock.now += 60
        assert await it.get_state() == "OPEN", "only a call finds out"
        await calls(it, [None])
        assert await it.get_state() == "HALF_OPEN"
        await calls(it, [None])
        assert await it.get_metrics() == {
            "name": "search",
            "state": "CLOSED",
            "failures": 0,
            "successes": 0,
            "last_failure_time": NOW,
            "timeout": 60,
            "half_open_calls": 0,
        }

    run(main())


def test_each_failed_trial_makes_the_wait_longer_up_to_the_limit(breaker):
    it = breaker()

    async def main():
        await calls(it, [Down()] * 5)
        waits = []
        for _ in range(5):
            waits.append((await it.get_metrics())["timeout"])
            breaker.clock.now += waits[-1]
            await calls(it, [Down()])
        await it.reset()
        return [*waits, (await it.get_metrics())["timeout"]]

    assert run(main()) == [60, 120, 240, 300, 300, 60]


# ===== the faults =====


def test_fault_2_both_breakers_of_the_tool_count_in_either_order():
    old = (
        "Counter('circuit_breaker_failures_total', 'x', ['service'])\n"
        "Counter('circuit_breaker_state_changes_total', 'x', ['service', 'from_state', 'to_state'])\n"
    )
    new = "import exai_files.dropin.provider_isolation as ours\n"
    use = "breaker = ours.PersistentCircuitBreaker\nbreaker.failures_total.labels(breaker_name='a').inc()\n"
    for order in (old + new, new + old, new + new + old):
        code = f"from prometheus_client import Counter, generate_latest\n{order}{use}print(generate_latest().decode())"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert 'exai_files_circuit_breaker_failures_total{breaker_name="a"} 1.0' in run.stdout, run.stderr


def test_fault_17_another_breaker_sees_it_open(redis, redis_server):
    one = PersistentCircuitBreaker(CircuitBreakerConfig("search"), redis)
    other = PersistentCircuitBreaker(CircuitBreakerConfig("search"), redis_server.client())

    async def main():
        assert await other.get_state() == "CLOSED"
        await calls(one, [Down()] * 5)
        assert await other.get_state() == "OPEN"
        with pytest.raises(CircuitBreakerOpenError):
            await other.__aenter__()
        await other.reset()
        assert await one.get_state() == "CLOSED"

    run(main())


@pytest.mark.parametrize("threshold", [5, 100])
def test_fault_18_twenty_failures_on_two_breakers_are_twenty(redis, redis_server, threshold):
    config = CircuitBreakerConfig("search", failure_threshold=threshold)
    pair = [PersistentCircuitBreaker(config, client) for client in (redis, redis_server.client(decode_responses=False))]
    for one in pair:
        one.clock = Clock()

    async def main():
        inside, go = [], asyncio.Event()

        async def call(breaker):
            async with breaker:
                inside.append(1)
                if len(inside) == 20:
                    go.set()
                await go.wait()
                raise Down

        await asyncio.gather(*(call(pair[number % 2]) for number in range(20)), return_exceptions=True)
        return await pair[0].get_metrics()

    metrics = run(main())
    assert metrics["failures"] == 20
    assert metrics["state"] == ("OPEN" if threshold == 5 else "CLOSED")


HAMMER = """
import asyncio, os, sys, redis
from exai_files.dropin.persistent_circuit_breaker import *
breaker = PersistentCircuitBreaker(
    CircuitBreakerConfig("search", failure_threshold=1000), redis.Redis.from_url(os.environ["PLACE"])
)
async def call():
    async with breaker:
        raise ConnectionError
async def main():
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(10):
        await asyncio.gather(*(call() for _ in range(10)), return_exceptions=True)
asyncio.run(main())
"""


def test_fault_18_between_processes_too(redis, redis_server):
    def started():
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return subprocess.Popen([sys.executable, "-c", HAMMER], env={**os.environ, "PLACE": redis_server.url}, **pipes)

    with started() as one, started() as other:
        for process in (one, other):
            assert process.stdout.readline() == "ready\n"
        for process in (one, other):
            process.stdin.write("go\n")
            process.stdin.flush()
        assert (one.wait(), other.wait()) == (0, 0)
    assert json.loads(redis.get("circuit_breaker:search"))["failures"] == 200


def test_fault_19_only_failures_in_a_row_open_it(breaker):
    it = breaker(failure_threshold=3)
    outcomes = [Down() if number % 33 == 1 else None for number in range(100)]

    async def main():
        await calls(it, outcomes)
        assert await it.get_state() == "CLOSED"
        await calls(it, [Down()] * 3)
        assert await it.get_state() == "OPEN"

    run(main())


def test_fault_20_half_open_admits_exactly_so_many(breaker):
    it = breaker()

    async def main():
        await calls(it, [Down()] * 5)
        breaker.clock.now += 60
        return await admitted(it, 8)

    inside, refusals = run(main())
    assert inside == 3
    assert [str(refusal) for refusal in refusals] == ["Circuit breaker search HALF_OPEN max calls exceeded"] * 5
    assert {refusal.retry_after for refusal in refusals} == {60}


def test_fault_20_also_where_successes_do_not_suffice(breaker):
    it = breaker(success_threshold=4)

    async def main():
        await calls(it, [Down()] * 5)
        breaker.clock.now += 60
        await calls(it, [None] * 3)
        with pytest.raises(CircuitBreakerOpenError, match="HALF_OPEN max calls exceeded"):
            await it.__aenter__()
        breaker.clock.now += 60
        await calls(it, [None])
        assert await it.get_state() == "CLOSED"

    run(main())


def test_fault_21_the_places_of_a_crash_are_given_away_again(redis):
    told = {"state": "HALF_OPEN", "failures": 5, "successes": 0, "last_failure_time": NOW - 60, "timeout": 60}
    redis.set("circuit_breaker:search", json.dumps({**told, "last_state_change": NOW, "half_open_calls": 3}))
    breaker = PersistentCircuitBreaker(CircuitBreakerConfig("search"), redis)
    breaker.clock = Clock()

    async def main():
        breaker.clock.now += 59.5
        with pytest.raises(CircuitBreakerOpenError) as refused:
            await breaker.__aenter__()
        assert refused.value.retry_after == 0.5
        breaker.clock.now += 0.5
        assert (await admitted(breaker, 5))[0] == 3
        assert await breaker.get_state() == "CLOSED"

    run(main())


async def cancelled_inside(breaker, until=None):
    inside = asyncio.Event()

    async def call():
        async with breaker:
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await (until or inside).wait()
    task.cancel()
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)


def test_fault_22_what_says_nothing_changes_nothing(breaker):
    it = breaker(failure_threshold=2)

    async def main():
        await calls(it, [Down()])
        await calls(it, [ValueError(), KeyError("a"), TypeError()])
        await cancelled_inside(it)
        assert (await it.get_metrics())["failures"] == 1, "neither counted nor forgotten"
        await calls(it, [Down()])
        breaker.clock.now += 60
        for _ in range(9):
            await cancelled_inside(it)
        assert await it.get_state() == "HALF_OPEN"
        assert (await admitted(it, 9))[0] == 3, "a trial that says nothing gives its place back"

    run(main())


def test_fault_23_calls_at_once_have_times_of_their_own(breaker):
    it = breaker()
    histogram = it.call_duration.labels(breaker_name="search", state="CLOSED", result="success")

    async def main():
        entered, left = asyncio.Event(), asyncio.Event()

        async def long():
            async with it:
                entered.set()
                await left.wait()
                breaker.clock.now += 0.5

        task = asyncio.create_task(long())
        await entered.wait()
        breaker.clock.now += 0.5
        async with it:
            breaker.clock.now += 0.25
        left.set()
        await task

    before = histogram._sum.get()
    run(main())
    assert histogram._sum.get() - before == 0.25 + 1.25


def test_fault_24_reset_forgets_also_while_closed(breaker):
    it = breaker(failure_threshold=3)

    async def main():
        await calls(it, [Down()] * 2)
        await it.reset()
        assert (await it.get_metrics())["failures"] == 0
        await calls(it, [Down()] * 2)
        assert await it.get_state() == "CLOSED"

    run(main())


def test_fault_25_a_refusal_has_a_type_and_the_words_that_callers_look_for(breaker):
    it = breaker()

    async def main():
        await calls(it, [Down()] * 5)
        breaker.clock.now += 12
        async with it:
            pytest.fail("not entered")

    with pytest.raises(exai_files.CircuitOpenError) as refused:
        run(main())
    assert str(refused.value) == "Circuit breaker search is OPEN"
    assert refused.value.retry_after == 48


def test_fault_26_a_constructor_asks_nobody(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{nobody.getsockname()[1]}/0")
        breaker = PersistentCircuitBreaker(CircuitBreakerConfig("search"))
        assert breaker.redis.connection_pool.connection_kwargs["socket_timeout"] == dropin_redis.TIMEOUT
        nobody.setblocking(False)
        with pytest.raises(BlockingIOError):
            nobody.accept()


def test_fault_26_a_redis_that_hangs_neither_blocks_the_loop_nor_fails_the_call(tmp_path, monkeypatch):
    monkeypatch.setattr(dropin_redis, "TIMEOUT", 0.1)
    server = RedisServer(tmp_path)
    server.start()
    monkeypatch.setenv("REDIS_URL", server.url)
    breaker = PersistentCircuitBreaker(CircuitBreakerConfig("search", failure_threshold=1))

    async def main():
        turns = 0
        task = asyncio.create_task(calls(breaker, [Down()]))
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        assert await breaker.get_state() == "OPEN"
        return turns

    server.suspend()
    assert run(main()) > 100
    server.resume()
    server.end()


def test_without_redis_it_goes_on_says_so_once_and_comes_back(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(dropin_redis, "PAUSE", 0.0)
    caplog.set_level(logging.INFO, "exai_files.dropin.redis_client")
    server = RedisServer(tmp_path)
    server.start()
    monkeypatch.setenv("REDIS_URL", server.url)
    pair = [PersistentCircuitBreaker(CircuitBreakerConfig("search", failure_threshold=2)) for _ in range(2)]

    async def main():
        await calls(pair[0], [Down()])
        server.kill()
        await calls(pair[0], [Down()])
        assert await pair[0].get_state() == "OPEN", "it goes on from what it knew"
        assert await pair[1].get_state() == "CLOSED", "each by itself"
        server.start()
        await calls(pair[1], [Down(), Down()])
        assert await pair[0].get_state() == "OPEN"
        await pair[1].reset()
        assert await pair[0].get_state() == "CLOSED", "they are one again"

    run(main())
    said = [record.getMessage() for record in caplog.records if record.name == "exai_files.dropin.redis_client"]
    assert [message.split(":")[0] for message in said] == [
        "Redis is out of reach, circuit breakers and file locks are this process's own",
        "Redis is back",
    ]
    server.end()


def test_what_happened_while_redis_was_away_is_left_behind_in_it(redis_server, redis, monkeypatch):
    breaker = PersistentCircuitBreaker(CircuitBreakerConfig("search", failure_threshold=2), redis)

    async def main():
        await calls(breaker, [Down()])
        with monkeypatch.context() as away:
            away.setattr(dropin_redis.SharedRedis, "is_left_alone", True)
            await calls(breaker, [Down()])
        await breaker.cleanup()

    run(main())
    assert json.loads(redis.get("circuit_breaker:search"))["state"] == "OPEN"


@pytest.mark.parametrize("url", ["redis://:s3cret/x@localhost:6379/0", "http://:s3cret@localhost", "nonsense"])
def test_a_wrong_url_is_no_reason_to_fail_and_is_not_told(monkeypatch, caplog, url):
    monkeypatch.setenv("REDIS_URL", url)
    breaker = PersistentCircuitBreaker(CircuitBreakerConfig("search"))
    run(calls(breaker, [Down()]))
    assert breaker.redis is None
    assert "REDIS_URL cannot be read" in caplog.text
    assert "s3cret" not in caplog.text


def test_neither_redis_nor_prometheus_need_be_installed():
    code = (
        "import asyncio, sys\n"
        "sys.modules.update(redis=None, prometheus_client=None)\n"
        "from exai_files.dropin import file_lock_manager, provider_isolation as ours\n"
        "async def done(): return 'done'\n"
        "manager = ours.ProviderIsolationManager()\n"
        "assert manager.get_circuit_breaker('kimi').redis is None\n"
        "print(asyncio.run(manager.execute_with_isolation(ours.ProviderType.KIMI, done)))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "done\n", run.stderr


# ===== who is inside =====


def test_tasks_share_it_and_it_is_entered_within_itself(breaker):
    it = breaker(failure_threshold=3)

    async def call(number):
        async with it, it:
            await asyncio.sleep(0)
            if number % 2:
                raise ValueError
            raise Down

    async def main():
        await asyncio.gather(*(call(number) for number in range(2)), return_exceptions=True)
        assert (await it.get_metrics())["failures"] == 2, "one task, twice"
        assert not it._entered

    run(main())


def test_another_task_may_leave_than_entered(breaker):
    it = breaker()

    async def main():
        await asyncio.create_task(it.__aenter__())
        await asyncio.create_task(it.__aexit__(None, None, None))
        with pytest.raises(RuntimeError, match="was not entered"):
            await it.__aexit__(None, None, None)

    run(main())


def test_a_call_that_is_cancelled_as_it_enters_keeps_no_place(redis):
    breaker = PersistentCircuitBreaker(CircuitBreakerConfig("search"), redis)
    breaker.clock = Clock()

    async def cancelled_as_it_enters():
        task = asyncio.create_task(breaker.__aenter__())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def tried_out():
        for _ in range(9):
            await cancelled_as_it_enters()

    run(calls(breaker, [Down()] * 5))
    breaker.clock.now += 60
    run(tried_out())  # its end waits for the threads
    assert not breaker._entered
    assert run(admitted(breaker, 9))[0] == 3


def test_waits_that_nobody_used_are_not_saved_up(breaker):
    it = breaker()

    async def main():
        await calls(it, [Down()] * 5)
        breaker.clock.now += 60
        await calls(it, [None])
        breaker.clock.now += 3600
        assert (await admitted(it, 9))[0] == 3

    run(main())


def test_a_lost_trial_that_is_found_again_gives_no_place_back(breaker):
    it = breaker()

    async def main():
        await calls(it, [Down()] * 5)
        breaker.clock.now += 60
        lost = asyncio.create_task(cancelled_inside(it, until=(go := asyncio.Event())))
        while not it._entered:
            await asyncio.sleep(0)
        breaker.clock.now += 60
        async with it, it, it:
            go.set()
            await lost
            with pytest.raises(CircuitBreakerOpenError):
                await it.__aenter__()

    run(main())


def test_a_trial_that_ends_after_the_next_wait_says_nothing(breaker):
    it = breaker(success_threshold=1)

    async def main():
        await calls(it, [Down()] * 5)
        breaker.clock.now += 60
        entered, go = asyncio.Event(), asyncio.Event()

        async def late():
            async with it:
                entered.set()
                await go.wait()

        task = asyncio.create_task(late())
        await entered.wait()
        await calls(it, [Down()])
        breaker.clock.now += 120
        async with it:
            go.set()
            await task
            assert await it.get_state() == "HALF_OPEN"

    run(main())


@pytest.mark.parametrize("step", [1, -3600], ids=["later", "after the clock was set back"])
@pytest.mark.parametrize("result", [None, Down()], ids=["success", "failure"])
def test_a_late_result_says_nothing_of_what_came_since(breaker, result, step):
    it = breaker(failure_threshold=1)

    async def main():
        entered, go = asyncio.Event(), asyncio.Event()

        async def late():
            async with it:
                entered.set()
                await go.wait()
                if result:
                    raise result

        task = asyncio.create_task(late())
        await entered.wait()
        breaker.clock.now += step
        await calls(it, [Down()])
        breaker.clock.now += 60
        async with it:
            go.set()
            await asyncio.gather(task, return_exceptions=True)
            metrics = await it.get_metrics()
        assert (metrics["state"], metrics["successes"]) == ("HALF_OPEN", 0)

    run(main())


def test_a_clock_that_is_set_back_makes_no_wait_longer(breaker):
    it = breaker()

    async def main():
        await calls(it, [Down()] * 5)
        breaker.clock.now -= 3600
        with pytest.raises(CircuitBreakerOpenError) as refused:
            await it.__aenter__()
        assert refused.value.retry_after == 60
        breaker.clock.now += 60
        await asyncio.gather(*(it.__aenter__() for _ in range(3)))
        breaker.clock.now -= 3600
        with pytest.raises(CircuitBreakerOpenError) as refused:
            await it.__aenter__()
        assert refused.value.retry_after == 60
        breaker.clock.now += 60
        assert (await admitted(it, 9))[0] == 3

    run(main())


def test_memory_and_redis_agree_on_every_history_and_trials_are_never_too_many(redis):
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    config = CircuitBreakerConfig("search", failure_threshold=2, timeout=10, max_timeout=25)
    shared = PersistentCircuitBreaker(config, redis)
    alone = PersistentCircuitBreaker(config)
    alone._shared = dropin_redis.SharedRedis(lambda: pytest.fail("asked"))
    alone._shared._is_away, alone._shared._ask_again_at = True, float("inf")
    clock = shared.clock = alone.clock = Clock()

    async def step(breaker, action, place):
        try:
            if action == "enter":
                await breaker.__aenter__()
            elif action == "reset":
                await breaker.reset()
            elif breaker._entered:
                error = {"success": None, "failure": Down(), "neutral": ValueError()}[action]
                breaker._entered.append(breaker._entered.pop(place % len(breaker._entered)))
                await breaker.__aexit__(type(error), error, None)
        except CircuitBreakerOpenError as refused:
            return str(refused), refused.retry_after, await breaker.get_metrics()
        return await breaker.get_metrics()

    async def main():
        for _ in range(400):
            clock.now += rng.choice([0, 0, 0.125, 1, 10])
            action = rng.choices(["enter", "success", "failure", "neutral", "reset"], [9, 4, 3, 2, 0.2])[0]
            place = rng.randrange(100)
            assert await step(shared, action, place) == await step(alone, action, place)
            state = json.loads(redis.get("circuit_breaker:search"))
            rounds = (clock.now - state["last_state_change"]) // state["timeout"] + 1
            assert 0 <= state["half_open_calls"] <= 3 * rounds

    run(main())


def test_transitions_and_failures_are_counted(breaker):
    it = breaker()
    opened = {"breaker_name": "search", "from_state": "CLOSED", "to_state": "OPEN"}
    before = value(it.state_changes, **opened), value(it.failures_total, breaker_name="search")
    run(calls(it, [Down()] * 5))
    after = value(it.state_changes, **opened), value(it.failures_total, breaker_name="search")
    assert (after[0] - before[0], after[1] - before[1]) == (1, 5)
    sample = prometheus_client.REGISTRY.get_sample_value
    assert sample("circuit_breaker_current_state", {"breaker_name": "search"}) == 2
    run(it.reset())
    assert sample("circuit_breaker_current_state", {"breaker_name": "search"}) == 0
