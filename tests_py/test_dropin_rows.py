"""The tool's classes against real databases and the simulator: what they write, give and raise (dropin_contract.md §1.2)."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import databases
import prometheus_client
import pytest

import exai_files
from exai_files.dropin import connection, file_metrics
from exai_files.dropin.audit import AuditLogger, audit_operations_total
from exai_files.dropin.deduplication import DuplicateDetector
from exai_files.dropin.health import HealthChecker
from exai_files.dropin.lifecycle import LifecycleSync
from exai_files.dropin.recovery import RecoveryManager
from exai_files.dropin.registry import FileRegistry
from exai_files.dropin.rows import Rows

pytestmark = pytest.mark.once

FILE = "6f1c1d0e-8b0e-4f0c-9f62-1d2f0f9b7a11"


@pytest.fixture(params=["sqlite", "postgres"])
def there(request, sim) -> Iterator[connection.Connection]:
    """The drop-in's connection, to a registry of each kind."""
    registry = databases.new_database() if request.param == "postgres" else ":memory:"
    at_once = {"retry": {"base": 0}}
    with exai_files.Client(registry=registry, platforms=sim.platforms(), environment={}, settings=at_once) as client:
        connection.use(client)
        yield connection.connection()
        connection.close()


def rows_of(there: connection.Connection, table: str, **where: str) -> list[dict]:
    ((column, value),) = where.items()
    return there.rows.tables.find(table, column, value).wait()


def uploaded(there: connection.Connection, data: bytes = b"a paper") -> tuple[exai_files.FileRecord, str]:
    """A file on Moonshot, and the id of its row."""
    record = there.waiting.upload(data, name="paper.txt", to="moonshot")
    rows = rows_of(there, "file_uploads", file_hash=record.digest.removeprefix("sha256:"))
    return record, rows[0]["id"]


def failures(call: str) -> float:
    return connection.failures.labels(call)._value.get()


# ===== registry =====


def test_a_file_is_registered_and_found(there):
    registry = FileRegistry()
    row_id = asyncio.run(registry.register_file(FILE, "kimi", "file-1", "https://example.invalid/1", {"pages": 3}))
    (row,) = asyncio.run(registry.get_file_platforms(FILE))
    assert row["id"] == row_id
    expected = {"file_id": FILE, "platform": "kimi", "platform_file_id": "file-1", "status": "active"}
    expected |= {"platform_url": "https://example.invalid/1", "platform_metadata": {"pages": 3}}
    assert {name: row[name] for name in expected} == expected


def test_a_file_registered_twice_keeps_its_row(there):
    registry = FileRegistry()
    ids = {asyncio.run(registry.register_file(FILE, platform, "file-1")) for platform in ("glm", "zai", "glm")}
    assert len(ids) == 1, "a platform in our words is the same one"
    assert len(asyncio.run(registry.get_file_platforms(FILE))) == 1


@pytest.mark.parametrize("spelt", [str, str.upper, lambda text: text.replace("-", "")], ids=["as is", "upper", "bare"])
def test_the_tools_own_id_finds_what_we_uploaded(there, sim, spelt):
    record, file_id = uploaded(there)
    remote_id = record.replicas[0].remote_id
    row_id = asyncio.run(FileRegistry().register_file(spelt(FILE), "kimi", remote_id))
    for each in (spelt(FILE), FILE, file_id):
        (row,) = asyncio.run(FileRegistry().get_file_platforms(each))
        assert (row["id"], row["platform_file_id"]) == (row_id, remote_id)
    asyncio.run(LifecycleSync().sync_lifecycle(spelt(FILE), "kimi", "active"))
    assert rows_of(there, "file_lifecycle_sync", file_id=FILE)[0]["sync_status"] == "synced"
    there.waiting.delete(record)
    asyncio.run(LifecycleSync().sync_lifecycle(FILE, "kimi", "deleted"))
    assert rows_of(there, "file_lifecycle_sync", file_id=FILE)[1]["sync_status"] == "synced"


def test_what_went_through_us_needs_no_registering(there):
    record, file_id = uploaded(there)
    (row,) = asyncio.run(FileRegistry().get_file_platforms(file_id))
    assert (row["platform"], row["platform_file_id"]) == ("kimi", record.replicas[0].remote_id)


@pytest.mark.parametrize("file_id", ["not-a-uuid", "", "6f1c1d0e"])
def test_what_cannot_be_registered_is_logged_and_counted(there, caplog, file_id):
    before = failures("FileRegistry.register_file")
    assert asyncio.run(FileRegistry().register_file(file_id, "kimi", "file-1")) is None
    assert asyncio.run(FileRegistry().get_file_platforms(file_id)) == []
    assert "takes a UUID" in caplog.text
    assert failures("FileRegistry.register_file") == before + 1


def test_a_database_that_is_away_is_told_at_once_the_second_time(monkeypatch):
    monkeypatch.setenv("SUPABASE_DB_URL", "postgres://nobody@127.0.0.1:1/nothing")
    connection.close()
    raised = []
    for _ in range(2):
        with pytest.raises(exai_files.RegistryError) as error:
            connection.connection()
        raised.append(error.value)
    connection.close()
    assert raised[0] is raised[1]


def test_in_strict_mode_it_is_raised(there, monkeypatch):
    monkeypatch.setenv("EXAI_FILES_DROPIN_STRICT", "1")
    with pytest.raises(exai_files.InvalidRequestError, match="UUID"):
        asyncio.run(FileRegistry().register_file("not-a-uuid", "kimi", "file-1"))


# ===== health =====


def test_a_healthy_file_is_asked_for(there, sim):
    record, file_id = uploaded(there)
    (copy,) = asyncio.run(FileRegistry().get_file_platforms(file_id))
    asked = len(sim.truth(platform="moonshot"))
    assert asyncio.run(HealthChecker().check_file_health(copy["id"], "kimi", record.replicas[0].remote_id)) is True
    assert len(sim.truth(platform="moonshot")) > asked, "the platform was asked"
    (check,) = rows_of(there, "file_health_checks", registry_id=copy["id"])
    assert check["status"] == "healthy"
    assert check["response_time_ms"] is not None
    assert check["error_message"] is None
    (after,) = asyncio.run(FileRegistry().get_file_platforms(file_id))
    assert after["verification_count"] == copy["verification_count"] + 1
    (file,) = rows_of(there, "file_uploads", id=file_id)
    assert file["health_status"] == "healthy"


def vanished(sim, remote_id):
    sim.moonshot.vanish(remote_id)


def down(sim, remote_id):
    sim.moonshot.fault({"kind": "status", "status": 503, "body": {}})


def locked_out(sim, remote_id):
    sim.moonshot.fault({"kind": "status", "status": 401, "body": {}})


@pytest.mark.parametrize(
    ("spoil", "status", "code"),
    [
        pytest.param(vanished, "unhealthy", 404, id="gone"),
        pytest.param(down, "error", 503, id="down"),
        pytest.param(locked_out, "error", 401, id="locked out"),
    ],
)
def test_an_unhealthy_file_is_not_called_healthy(there, sim, spoil, status, code):
    record, file_id = uploaded(there)
    (copy,) = asyncio.run(FileRegistry().get_file_platforms(file_id))
    remote_id = record.replicas[0].remote_id
    spoil(sim, remote_id)
    assert asyncio.run(HealthChecker().check_file_health(copy["id"], "kimi", remote_id)) is False
    (check,) = rows_of(there, "file_health_checks", registry_id=copy["id"])
    assert (check["status"], check["http_status_code"]) == (status, code)
    assert check["error_message"]
    assert check["error_code"]


def test_a_platform_without_a_key_is_no_healthy_one(there, sim):
    with exai_files.Client(registry=":memory:", environment={}) as client:
        connection.use(client)
        assert asyncio.run(HealthChecker().check_file_health(FILE, "kimi", "file-1")) is False
        (check,) = rows_of(connection.connection(), "file_health_checks", registry_id=FILE)
    assert check["status"] == "error"


# ===== lifecycle =====


@pytest.mark.parametrize(
    ("local", "is_there", "platform_status", "sync_status"),
    [
        ("active", True, "active", "synced"),
        ("archived", True, "active", "synced"),
        ("deleted", True, "active", "conflict"),
        ("active", False, "deleted", "conflict"),
        ("deleted", False, "deleted", "synced"),
    ],
)
def test_the_platform_is_compared(there, sim, local, is_there, platform_status, sync_status):
    record, file_id = uploaded(there)
    if not is_there:
        sim.moonshot.vanish(record.replicas[0].remote_id)
    assert asyncio.run(LifecycleSync().sync_lifecycle(file_id, "kimi", local)) is None
    (row,) = rows_of(there, "file_lifecycle_sync", file_id=file_id)
    assert (row["platform"], row["local_status"]) == ("kimi", local)
    assert (row["platform_status"], row["sync_status"]) == (platform_status, sync_status)
    assert (row["sync_error"] is None) == (sync_status == "synced")
    assert (row["next_sync_at"] is None) == (sync_status == "synced")
    assert len(sim.moonshot.files) == is_there, "nothing was deleted or made"


def test_what_cannot_be_asked_is_unknown_and_attempts_are_counted(there, sim):
    for _ in range(2):
        asyncio.run(LifecycleSync().sync_lifecycle(FILE, "glm", "active"))
    first, second = rows_of(there, "file_lifecycle_sync", file_id=FILE)
    assert (first["platform_status"], first["sync_status"]) == ("unknown", "error")
    assert (first["sync_attempt_count"], second["sync_attempt_count"]) == (1, 2)


# ===== recovery =====


class Operation:
    """Fails in given ways, then succeeds."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures, self.runs = list(failures), 0

    async def __call__(self) -> str:
        self.runs += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


def quick() -> RecoveryManager:
    manager = RecoveryManager()
    manager.base_delay_ms = 1
    return manager


def attempts(there: connection.Connection) -> list[tuple[int, str]]:
    rows = rows_of(there, "file_recovery_attempts", file_id=FILE)
    return [(row["attempt_number"], row["status"]) for row in rows]


def test_each_attempt_is_one_row(there):
    operation = Operation(ConnectionError("no"), TimeoutError())
    assert asyncio.run(quick().execute_with_retry(operation, FILE, "upload", "kimi")) == "done"
    rows = rows_of(there, "file_recovery_attempts", file_id=FILE)
    assert [(row["attempt_number"], row["status"]) for row in rows] == [(1, "pending"), (2, "pending"), (3, "success")]
    assert {(row["operation"], row["platform"], row["recovery_strategy"]) for row in rows} == {
        ("upload", "kimi", "exponential_backoff")
    }
    assert [row["retry_delay_ms"] for row in rows] == [1, 2, None]
    assert (rows[0]["error_message"], rows[1]["error_message"]) == ("no", "TimeoutError")
    assert (rows[0]["completed_at"], rows[2]["next_retry_at"]) == (None, None)
    assert rows[0]["next_retry_at"]
    assert rows[2]["completed_at"]


def test_the_pauses_double_from_one_second():
    manager = RecoveryManager()
    assert [manager._delay(attempt, OSError()) for attempt in (1, 2, 3, 4)] == [1, 2, 4, 8]
    asked = exai_files.RateLimitError("slow down", retry_after=7.5)
    assert [manager._delay(attempt, asked) for attempt in (1, 4)] == [7.5, 8]


def test_after_the_last_attempt_its_own_error_is_raised(there):
    manager = quick()
    manager.max_attempts = 3
    last = ConnectionError("the last")
    with pytest.raises(ConnectionError) as raised:
        asyncio.run(manager.execute_with_retry(Operation(OSError(), OSError(), last), FILE, "upload"))
    assert raised.value is last
    assert attempts(there) == [(1, "pending"), (2, "pending"), (3, "failed")]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("wrong"),
        FileNotFoundError("a.txt"),
        TypeError(),
        exai_files.InvalidRequestError("wrong"),
        exai_files.AuthenticationError("no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_cannot_succeed_is_tried_once(there, error):
    operation = Operation(error)
    with pytest.raises(type(error)):
        asyncio.run(quick().execute_with_retry(operation, FILE, "upload"))
    assert operation.runs == 1
    assert attempts(there) == [(1, "failed")]


@pytest.mark.parametrize("file_id", ["not-a-uuid", FILE])
def test_an_operation_that_succeeded_is_never_run_again(there, caplog, file_id):
    """Fault 11: a database that fails made the tool run it five times, and raise the database's error."""
    if file_id == FILE:
        there.waiting.close()
    operation = Operation()
    assert asyncio.run(quick().execute_with_retry(operation, file_id, "upload")) == "done"
    assert operation.runs == 1
    assert "execute_with_retry failed" in caplog.text


def test_a_database_that_fails_hides_no_error(there, monkeypatch):
    """Fault 12."""
    monkeypatch.setenv("EXAI_FILES_DROPIN_STRICT", "1")
    there.waiting.close()
    with pytest.raises(ValueError, match="its own"):
        asyncio.run(quick().execute_with_retry(Operation(ValueError("its own")), FILE, "upload"))


def test_a_cancelled_operation_is_noted_as_abandoned(there):
    async def cancelled() -> None:
        begun = asyncio.Event()

        async def operation() -> None:
            begun.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(RecoveryManager().execute_with_retry(operation, FILE, "download"))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert attempts(there) == [(1, "abandoned")]


# ===== audit =====


def counted(operation: str, status: str) -> float:
    return audit_operations_total.labels(operation=operation, status=status)._value.get()


@pytest.mark.parametrize("text", ["\udcff", "x" * 300, "ü\n\t", float("nan")], ids=repr)
def test_no_text_keeps_a_row_out(there, text):
    asyncio.run(AuditLogger().log_operation(FILE, str(text), "kimi", "failed", str(text), 1, {"what": text}))
    assert len(rows_of(there, "file_audit_trail", file_id=FILE)) == 1
    file_metrics.record_upload_attempt("kimi", str(text))
    file_metrics.record_upload_completion("kimi", str(text), 1, 0.1)
    assert b"audit_operations_total" in prometheus_client.generate_latest(), "and it spoils no metrics"


def test_an_operation_is_in_the_trail_and_counted(there):
    before = counted("access", "failed")
    details = {"user_id": "system", "why": ["test"]}
    assert asyncio.run(AuditLogger().log_operation(FILE, "access", "kimi", "failed", "no", 12, details)) is None
    (row,) = rows_of(there, "file_audit_trail", file_id=FILE)
    expected = {"operation": "access", "platform": "kimi", "status": "failed", "error_message": "no", "duration_ms": 12}
    expected |= {"user_id": "system", "operation_details": details}
    assert {name: row[name] for name in expected} == expected
    assert row["created_at"].endswith("Z"), "UTC, and it says so"
    assert counted("access", "failed") == before + 1


def test_what_is_not_in_the_trail_is_not_counted(there):
    """Fault 50."""
    before = counted("verify", "success")
    asyncio.run(AuditLogger().log_operation("not-a-uuid", "verify"))
    assert counted("verify", "success") == before


def test_a_trail_outlives_its_file(there):
    """Fault 50: it went with the file."""
    record, file_id = uploaded(there)
    asyncio.run(AuditLogger().log_operation(file_id, "upload", "kimi"))
    there.waiting.delete(record)
    assert len(rows_of(there, "file_audit_trail", file_id=file_id)) == 1


def test_a_logger_that_is_off_writes_nothing(there, monkeypatch):
    monkeypatch.setenv("AUDIT_ENABLED", "false")
    logger = AuditLogger()
    assert logger.enabled is False
    asyncio.run(logger.log_operation(FILE, "upload"))
    assert rows_of(there, "file_audit_trail", file_id=FILE) == []


# ===== all of them =====


@pytest.mark.parametrize(
    "cls", [FileRegistry, HealthChecker, LifecycleSync, RecoveryManager, AuditLogger, DuplicateDetector]
)
@pytest.mark.parametrize(
    "environment", [{}, {"SUPABASE_DB_URL": "postgres://nobody@192.0.2.1/nothing"}], ids=["bare", "set"]
)
def test_constructors_do_nothing(monkeypatch, cls, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    connection.close()
    monkeypatch.setenv("REDIS_URL", "redis://192.0.2.1/0")  # nobody is there, and nobody answers
    begun = time.monotonic()
    made = cls()
    assert time.monotonic() - begun < 1, "nobody is waited for"
    assert connection._connection is None, "nothing is opened"
    assert made.supabase is None or made.supabase


@pytest.mark.parametrize("cls", [FileRegistry, LifecycleSync, AuditLogger])
def test_the_later_shape_is_refused_by_name(cls):
    with pytest.raises(exai_files.UnsupportedError, match="not part of the drop-in"):
        cls({"a": 1} if cls is LifecycleSync else "there")


def test_a_hundred_calls_at_once_are_a_hundred_rows(there):
    async def all_at_once() -> list[str | None]:
        calls = (FileRegistry().register_file(str(uuid.uuid4()), "kimi", f"file-{n}") for n in range(100))
        return await asyncio.gather(*calls)

    assert len(set(asyncio.run(all_at_once()))) == 100


def test_where_rows_go_is_said_once(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for name in ("SUPABASE_DB_URL", "EXAI_DATABASE_URL", "SUPABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    connection.close()
    with caplog.at_level(logging.INFO, "exai_files.dropin"):
        for _ in range(3):
            asyncio.run(FileRegistry().register_file(FILE, "kimi", "file-1"))
    connection.close()
    assert caplog.text.count("rows of the tool's tables go to the embedded registry") == 1


def test_the_tools_variable_names_the_database(monkeypatch):
    url = databases.new_database()
    monkeypatch.setenv("SUPABASE_DB_URL", f"{url} # of the project")
    connection.close()
    assert asyncio.run(FileRegistry().register_file(FILE, "kimi", "file-1"))
    connection.close()
    assert databases.query(url, "SELECT platform, platform_file_id FROM platform_file_registry") == "kimi|file-1"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"KIMI_BASE_URL": "https://api.moonshot.ai/v1"}, {}),
        ({"KIMI_BASE_URL": "https://api.moonshot.cn/v1"}, {"EXAI_FILES_PLATFORMS__MOONSHOT__REGION": "cn"}),
        ({"GLM_API_URL": "https://proxy.test/v4/"}, {"EXAI_FILES_PLATFORMS__ZAI__BASE_URL": "https://proxy.test/v4"}),
        ({"SUPABASE_DB_URL": "", "EXAI_DATABASE_URL": "postgres://a"}, {"EXAI_FILES_REGISTRY__URL": "postgres://a"}),
        (
            {"REDIS_URL": "redis://r"},
            {"EXAI_FILES_REDIS__URL": "redis://r", "EXAI_FILES_REDIS__EXISTING_TOOL_KEYS": "true"},
        ),
        (
            {"SUPABASE_DB_URL": "postgres://a", "EXAI_FILES_REGISTRY__URL": "postgres://b"},
            {"EXAI_FILES_REGISTRY__URL": "postgres://b"},
        ),
    ],
    ids=json.dumps,
)
def test_the_tools_variables_are_understood(environment, expected):
    said = connection.in_our_words(environment)
    assert {name: value for name, value in said.items() if name.startswith("EXAI_FILES_")} == expected


def test_rows_say_what_is_wrong(there):
    rows = Rows(there.rows.tables)
    with pytest.raises(exai_files.InvalidRequestError, match="has no column"):
        asyncio.run(rows.add("file_audit_trail", {"nonsense": 1}))


# ===== the connection =====


def test_a_database_that_refuses_is_asked_once_by_many_callers(monkeypatch):
    asked, refusal = [], b"SFATAL\0C28P01\0Mno\0\0"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)

        def refuse_all():
            with suppress(OSError):
                while True:
                    peer, _ = server.accept()
                    with peer:
                        asked.append(peer.recv(1024))
                        peer.sendall(b"E" + (4 + len(refusal)).to_bytes(4, "big") + refusal)

        threading.Thread(target=refuse_all, daemon=True).start()
        monkeypatch.setenv(
            "EXAI_DATABASE_URL", f"postgresql://u:p@127.0.0.1:{server.getsockname()[1]}/d?sslmode=disable"
        )
        connection.close()
        try:
            with pytest.raises(exai_files.RegistryError) as first:
                connection.connection()
            alone = len(asked)
            connection.close()
            with ThreadPoolExecutor(4) as callers:
                asking = [callers.submit(connection.connection) for _ in range(4)]
                outcomes = [caller.exception() for caller in asking]
        finally:
            connection.close()
            server.shutdown(socket.SHUT_RDWR)
    assert {str(outcome) for outcome in outcomes} == {str(first.value)}
    assert len(asked) == 2 * alone, "what the first has heard is said to the others"
