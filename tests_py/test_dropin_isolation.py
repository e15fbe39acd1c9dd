"""The existing tool's choice between two providers, and what counts as a failure of one."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import socket
import ssl

import httpx
import openai
import pytest

import exai_files
from exai_files.dropin.exceptions import FileUploadError, FileValidationError
from exai_files.dropin.persistent_circuit_breaker import CircuitBreakerOpenError, CircuitState
from exai_files.dropin.provider_faults import is_provider_fault
from exai_files.dropin.provider_isolation import (
    ProviderHealth,
    ProviderIsolationManager,
    ProviderType,
    _limit,
    get_provider_isolation_manager,
)

KIMI, GLM = ProviderType.KIMI, ProviderType.GLM
NOW = 1_790_000_000.25
MIB = 1 << 20


class Down(Exception):
    """Of a provider."""


class Clock:
    now = NOW

    def __call__(self):
        return self.now


def value(metric, **labels):
    return metric.labels(**labels)._value.get()


def test_names_are_the_tools():
    names = ["provider", "is_healthy", "circuit_state", "failures", "last_check"]
    assert [field.name for field in dataclasses.fields(ProviderHealth)] == names
    assert [str.__str__(each) for each in ProviderType] == ["kimi", "glm"]


def test_fault_3_a_manager_can_be_made_and_is_one(redis, monkeypatch):
    monkeypatch.setattr("exai_files.dropin.provider_isolation._manager", None)
    manager = get_provider_isolation_manager(redis_manager=redis)
    assert get_provider_isolation_manager() is manager
    assert manager.get_circuit_breaker(KIMI).redis is manager.redis is redis


@pytest.fixture
def isolation(redis, monkeypatch):
    names = ["PROVIDER_FILE_SIZE_THRESHOLD", "GLM_API_URL", "GLM_BASE_URL", "ZHIPUAI_API_URL"]
    for name in [*names, "GLM_FILES_MAX_SIZE_MB", "KIMI_FILES_MAX_SIZE_MB"]:
        monkeypatch.delenv(name, raising=False)
    manager = ProviderIsolationManager(redis)
    clock = Clock()
    for provider in ProviderType:
        manager.get_circuit_breaker(provider).clock = clock
    manager.clock = clock
    return manager


async def failing():
    raise Down


async def open_up(manager, providers):
    for provider in providers:
        for _ in range(5):
            with pytest.raises(Down):
                await manager.execute_with_isolation(provider, failing)


@pytest.mark.parametrize(
    ("down", "preferred", "size", "chosen", "reason"),
    [
        ([], KIMI, None, KIMI, "preferred_healthy"),
        ([], GLM, None, GLM, "preferred_healthy"),
        ([], "glm", None, GLM, "preferred_healthy"),
        ([GLM], GLM, None, KIMI, "cascade_prevention"),
        ([KIMI], KIMI, None, GLM, "cascade_prevention"),
        ([KIMI, GLM], GLM, None, GLM, "both_unhealthy"),
        ([], None, None, KIMI, "default_both_healthy"),
        ([KIMI], None, None, GLM, "only_healthy"),
        ([GLM], None, None, KIMI, "only_healthy"),
        ([KIMI, GLM], None, None, KIMI, "both_unhealthy_default"),
        ([], None, 0, GLM, "file_size_optimization"),
        ([], None, 20 * MIB - 1, GLM, "file_size_optimization"),
        ([], None, 20 * MIB, KIMI, "file_size_optimization"),
        ([GLM], None, 1, KIMI, "only_healthy"),
        ([KIMI], None, 50 * MIB, GLM, "only_healthy"),
    ],
)
def test_a_provider_is_chosen_and_why(isolation, down, preferred, size, chosen, reason):
    async def main():
        await open_up(isolation, down)
        before = value(isolation.provider_selection_total, provider=chosen.value, reason=reason)
        assert await isolation.select_provider(preferred, size) is chosen
        assert value(isolation.provider_selection_total, provider=chosen.value, reason=reason) == before + 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("environment", "preferred", "size", "chosen"),
    [
        pytest.param({}, None, 20 * MIB, KIMI, id="from the threshold on"),
        pytest.param({"GLM_API_URL": "https://open.bigmodel.cn/api/paas/v4"}, GLM, 20 * MIB, GLM, id="just fits"),
        pytest.param({"GLM_API_URL": "https://open.bigmodel.cn/api/paas/v4"}, GLM, 20 * MIB + 1, KIMI, id="China"),
        pytest.param({}, GLM, 50 * MIB, GLM, id="Z.ai"),
        pytest.param({"GLM_FILES_MAX_SIZE_MB": "20 # MiB"}, GLM, 21 * MIB, KIMI, id="the tool's own limit"),
        pytest.param({"GLM_FILES_MAX_SIZE_MB": "many"}, GLM, 21 * MIB, GLM, id="no number"),
        pytest.param({"PROVIDER_FILE_SIZE_THRESHOLD": f"{500 * MIB}"}, None, 50 * MIB, GLM, id="threshold"),
        pytest.param({"KIMI_FILES_MAX_SIZE_MB": "20"}, None, 50 * MIB, GLM, id="Kimi takes less"),
        pytest.param({}, None, 500 * MIB, KIMI, id="too large for both"),
        pytest.param({"PROVIDER_FILE_SIZE_THRESHOLD": "lots"}, None, 20 * MIB, KIMI, id="threshold is no number"),
    ],
)
def test_fault_27_no_provider_gets_what_it_cannot_take(isolation, monkeypatch, environment, preferred, size, chosen):
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    manager = ProviderIsolationManager(isolation.redis)
    assert asyncio.run(manager.select_provider(preferred, size)) is chosen


def test_fault_27_not_even_if_it_is_the_only_one_that_is_well(isolation, monkeypatch):
    monkeypatch.setenv("GLM_FILES_MAX_SIZE_MB", "20")

    async def main():
        await open_up(isolation, [KIMI])
        return await isolation.select_provider(None, 50 * MIB)

    assert asyncio.run(main()) is KIMI


def test_fault_27_the_limits_are_those_of_the_platforms(sim, monkeypatch):
    monkeypatch.delenv("KIMI_FILES_MAX_SIZE_MB", raising=False)
    monkeypatch.delenv("GLM_FILES_MAX_SIZE_MB", raising=False)
    with sim.client() as client:
        assert client.capabilities("moonshot")["max_file_bytes"]["value"] == _limit(KIMI)
        assert client.capabilities("zai")["max_file_bytes"]["value"] == _limit(GLM)
        monkeypatch.setenv("GLM_BASE_URL", "https://open.bigmodel.cn/api/paas/v4")
        agent = next(rule for rule in client.capabilities("zhipu")["purposes"] if rule["wire"] == "agent")
        assert agent["max_bytes"] == _limit(GLM)


def test_one_that_is_down_does_not_take_the_other_with_it(isolation):
    async def main():
        await open_up(isolation, [GLM])
        health = await isolation.get_all_provider_health()
        assert health == {
            KIMI: ProviderHealth(KIMI, True, CircuitState.CLOSED, 0, NOW),
            GLM: ProviderHealth(GLM, False, CircuitState.OPEN, 5, NOW),
        }
        assert value(isolation.provider_health_status, provider="glm") == 0
        assert value(isolation.provider_health_status, provider="kimi") == 1
        with pytest.raises(CircuitBreakerOpenError):
            await isolation.execute_with_isolation(GLM, failing)
        metrics = await isolation.get_isolation_metrics()
        assert {name: (each["name"], each["state"]) for name, each in metrics.items()} == {
            "kimi": ("provider_kimi", "CLOSED"),
            "glm": ("provider_glm", "OPEN"),
        }
        assert sorted(isolation.redis.keys()) == ["circuit_breaker:provider_glm", "circuit_breaker:provider_kimi"]
        await isolation.reset_all_providers()
        assert (await isolation.get_provider_health(GLM)).is_healthy
        await isolation.cleanup()

    asyncio.run(main())


def test_one_whose_wait_is_over_is_tried_though_the_other_is_well(isolation):
    async def main():
        await open_up(isolation, [KIMI])
        assert await isolation.select_provider(KIMI) is GLM
        isolation.clock.now += 60
        assert await isolation.select_provider(KIMI) is KIMI
        assert await isolation.select_provider() is KIMI
        assert (await isolation.get_provider_health(KIMI)).circuit_state is CircuitState.OPEN, "choosing is no trial"

    asyncio.run(main())


def test_an_operation_is_called_once_with_what_it_is_given(isolation):
    seen = []

    async def operation(*args, **kwargs):
        seen.append((args, kwargs))
        if kwargs:
            raise Down
        return "done"

    async def main():
        assert await isolation.execute_with_isolation(KIMI, operation, 1, 2) == "done"
        with pytest.raises(Down):
            await isolation.execute_with_isolation(KIMI, operation, a=3)

    asyncio.run(main())
    assert seen == [((1, 2), {}), ((), {"a": 3})]


# ===== what counts as a failure =====


def answered(status):
    response = httpx.Response(status, request=httpx.Request("POST", "https://api.example/files"))
    return openai.APIStatusError("it says so", response=response, body=None)


REQUEST = httpx.Request("GET", "https://api.example")


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        pytest.param(Down(), True, id="unknown"),
        pytest.param(RuntimeError("no id"), True, id="what the tool raises without an id"),
        pytest.param(ConnectionResetError(), True, id="connection"),
        pytest.param(TimeoutError(), True, id="time-out"),
        pytest.param(asyncio.TimeoutError(), True, id="asyncio's time-out"),
        pytest.param(OSError(errno.ENETUNREACH, "unreachable"), True, id="network"),
        pytest.param(socket.gaierror(), True, id="name"),
        pytest.param(ssl.SSLCertVerificationError(), True, id="certificate"),
        pytest.param(httpx.ReadTimeout(""), True, id="httpx"),
        pytest.param(openai.APIConnectionError(request=REQUEST), True, id="openai's connection"),
        pytest.param(openai.APITimeoutError(request=REQUEST), True, id="openai's time-out"),
        pytest.param(answered(500), True, id="500"),
        pytest.param(answered(529), True, id="529"),
        pytest.param(answered(429), True, id="429"),
        pytest.param(answered(400), False, id="400"),
        pytest.param(answered(404), False, id="404"),
        pytest.param(httpx.HTTPStatusError("", request=REQUEST, response=httpx.Response(503)), True, id="httpx 503"),
        pytest.param(httpx.HTTPStatusError("", request=REQUEST, response=httpx.Response(413)), False, id="httpx 413"),
        pytest.param(exai_files.PlatformUnavailableError("down"), True, id="ours: unavailable"),
        pytest.param(exai_files.PlatformTimeoutError("slow"), True, id="ours: timed out"),
        pytest.param(exai_files.OutcomeUnknownError("lost"), True, id="ours: outcome unknown"),
        pytest.param(exai_files.ContractDriftError("odd"), True, id="ours: drift"),
        pytest.param(exai_files.RateLimitError("fast"), True, id="ours: rate"),
        pytest.param(exai_files.CircuitOpenError("peace"), False, id="ours: another breaker"),
        pytest.param(exai_files.AuthenticationError("key"), False, id="ours: key"),
        pytest.param(exai_files.FileTooLargeError("large"), False, id="ours: too large"),
        pytest.param(exai_files.InvalidRequestError("wrong"), False, id="ours: wrong"),
        pytest.param(ValueError(), False, id="value"),
        pytest.param(TypeError(), False, id="type"),
        pytest.param(KeyError(), False, id="key"),
        pytest.param(AttributeError(), False, id="attribute"),
        pytest.param(FileNotFoundError(), False, id="no such file"),
        pytest.param(PermissionError(), False, id="not allowed"),
        pytest.param(asyncio.CancelledError(), False, id="cancelled"),
        pytest.param(KeyboardInterrupt(), False, id="interrupted"),
        pytest.param(GeneratorExit(), False, id="closed"),
    ],
)
def test_fault_22_what_counts(error, counts):
    assert is_provider_fault(error) is counts


def test_fault_22_the_tools_own_errors_say_whether_a_second_try_helps():
    assert is_provider_fault(FileUploadError("no", "kimi", "UPLOAD_FAILED"))
    assert not is_provider_fault(FileUploadError("no", "kimi", "UPLOAD_FAILED", retryable=False))
    assert not is_provider_fault(FileValidationError("no", "a.txt"))
