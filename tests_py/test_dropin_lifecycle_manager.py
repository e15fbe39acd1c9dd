"""The daemon's lifecycle manager, through the official client and a stand-in for PostgREST that knows its grammar."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import pytest
from postgrest import SyncPostgrestClient

import exai_files
from exai_files.dropin import connection, file_metrics
from exai_files.dropin.lifecycle_manager import CleanupResult, FileLifecycleManager

pytestmark = pytest.mark.once

NOW = datetime(2026, 11, 30, 12, tzinfo=timezone.utc)


class Rest:
    """One table, asked and changed as by PostgREST; no answer has more than 1,000 rows."""

    MOST = 1000

    def __init__(self) -> None:
        self.rows: list[dict] = []
        self.fails = 0
        rest = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = rest.find(self.path)
                self.answer(200 if found is not None else 400, found if found is not None else {"message": "grammar"})

            def do_PATCH(self) -> None:
                changes = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if rest.fails:
                    rest.fails -= 1
                    self.answer(503, {"message": "away"})
                    return
                for row in rest.find(self.path) or []:
                    row.update(changes)
                self.answer(200, [])

            def answer(self, status: int, content: object) -> None:
                said = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.client = SyncPostgrestClient(f"http://127.0.0.1:{self.server.server_port}/rest/v1")

    def find(self, path: str) -> list[dict] | None:
        """Rows that a query names; None where it is none."""
        found, first, most = self.rows, 0, self.MOST
        for name, value in parse_qsl(urlsplit(path).query):
            operator, _, operand = value.partition(".")
            if name in ("select", "order"):
                continue
            if name == "offset":
                first = int(value)
            elif name == "limit":
                most = min(most, int(value))
            elif operator == "is" and operand == "null":
                found = [row for row in found if row[name] is None]
            elif operator == "lt":
                found = [row for row in found if row[name] < operand]
            elif operator == "eq":
                found = [row for row in found if str(row[name]) == operand]
            else:
                return None
        return sorted(found, key=lambda row: row["id"])[first : first + most]

    def add(
        self, provider: str, remote_id: str, *, age: timedelta, of: str | None = "a file", size: int = 7, used=None
    ):
        row = {"id": str(uuid.uuid4()), "provider": provider, "provider_file_id": remote_id, "file_size_bytes": size}
        row |= {"created_at": (NOW - age).isoformat(), "supabase_file_id": of, "deleted_at": None, "last_used": used}
        self.rows.append({**row, "upload_status": "completed", "deletion_reason": None})
        return self.rows[-1]


@pytest.fixture
def rest() -> Iterator[Rest]:
    rest = Rest()
    yield rest
    rest.client.session.close()
    rest.server.shutdown()
    rest.server.server_close()


@pytest.fixture(autouse=True)
def there(sim) -> Iterator[connection.Connection]:
    at_once = {"retry": {"base": 0}}
    with exai_files.Client(registry=":memory:", platforms=sim.platforms(), environment={}, settings=at_once) as client:
        connection.use(client)
        yield connection.connection()
        connection.close()


@pytest.fixture
def manager(rest) -> FileLifecycleManager:
    manager = FileLifecycleManager(rest.client, retention_days=30)
    manager.now = lambda: NOW
    return manager


def deletions(provider: str, reason: str) -> float:
    return file_metrics.FILE_DELETIONS.labels(provider=provider, reason=reason)._value.get()


def test_old_files_go_from_their_provider_and_their_rows_say_so(sim, rest, manager):
    """Faults 46, 47: `is.None` found nothing, and no provider was ever told."""
    old, young = (sim.moonshot.seed_file(filename=name).id for name in ("old.txt", "young.txt"))
    of_old = rest.add("kimi", old, age=timedelta(days=31))
    of_young = rest.add("kimi", young, age=timedelta(days=29))
    before = deletions("kimi", "expired")
    result = asyncio.run(manager.cleanup_expired_files())
    assert (result.files_marked, result.files_deleted, result.bytes_freed, result.errors) == (1, 1, 7, [])
    assert [file.id for file in sim.moonshot.files] == [young]
    assert (of_old["upload_status"], of_old["deletion_reason"]) == ("deleted", "expired")
    assert of_old["deleted_at"] == NOW.isoformat()
    assert of_young["deleted_at"] is None
    assert deletions("kimi", "expired") == before + 1
    assert asyncio.run(manager.cleanup_expired_files()).files_marked == 0


def test_orphans_go_on_demand(sim, rest, manager):
    ids = [sim.zai.seed_file(filename=f"{n}.txt").id for n in range(3)]
    rest.add("glm", ids[0], age=timedelta(days=31), of=None)
    rest.add("glm", ids[1], age=timedelta(days=2), of=None)
    rest.add("glm", ids[2], age=timedelta(days=31))
    assert asyncio.run(manager.cleanup_orphaned_files()).files_deleted == 1
    assert sorted(file.id for file in sim.zai.files) == sorted(ids[1:])


@pytest.mark.parametrize("used", [NOW.isoformat(), "2026-11-29T00:00:00Z", "2026-11-29T00:00:00"])
def test_what_was_used_lately_stays(sim, rest, manager, used):
    rest.add("kimi", sim.moonshot.seed_file(filename="a").id, age=timedelta(days=300), used=used)
    assert asyncio.run(manager.cleanup_expired_files()).files_marked == 0
    assert len(sim.moonshot.files) == 1


def test_for_ever_is_for_ever(sim, rest):
    rest.add("kimi", sim.moonshot.seed_file(filename="a").id, age=timedelta(days=300))
    for days in (0, -1):
        manager = FileLifecycleManager(rest.client, retention_days=days)
        assert asyncio.run(manager.cleanup_expired_files()).files_marked == 0


def test_a_daemon_that_nobody_told_how_long_only_says_what_would_go(sim, rest, caplog, monkeypatch):
    monkeypatch.delenv("FILE_RETENTION_DAYS", raising=False)
    rest.add("kimi", sim.moonshot.seed_file(filename="a").id, age=timedelta(days=300))
    manager = FileLifecycleManager(rest.client)
    asyncio.run(manager._expire())
    assert "1 files are older than 30 days; set FILE_RETENTION_DAYS" in caplog.text
    assert len(sim.moonshot.files) == 1
    monkeypatch.setenv("FILE_RETENTION_DAYS", "30")
    asyncio.run(FileLifecycleManager(rest.client)._expire())
    assert sim.moonshot.files == []


def test_a_dry_run_says_what_would_go(sim, rest, manager):
    rest.add("kimi", sim.moonshot.seed_file(filename="a").id, age=timedelta(days=31))
    result = asyncio.run(manager.cleanup_expired_files(dry_run=True))
    assert (result.files_marked, result.files_deleted, result.bytes_freed) == (1, 0, 7)
    assert len(sim.moonshot.files) == 1
    assert rest.rows[0]["deleted_at"] is None


def test_more_rows_than_a_page_are_all_seen(rest, manager):
    """Fault 47: REST gives no more than its limit."""
    for number in range(1100):
        rest.add("kimi", f"file-{number}", age=timedelta(days=40))
    assert asyncio.run(manager.cleanup_expired_files(dry_run=True)).files_marked == 1100


def test_a_file_that_is_gone_is_marked(rest, manager):
    row = rest.add("kimi", "gone-already", age=timedelta(days=31))
    result = asyncio.run(manager.cleanup_expired_files())
    assert (result.files_marked, result.files_deleted, result.bytes_freed) == (1, 0, 0)
    assert row["deleted_at"]


@pytest.mark.parametrize("what", ["provider", "database"])
def test_what_fails_is_told_and_tried_again(sim, rest, manager, what):
    row = rest.add("kimi", sim.moonshot.seed_file(filename="a").id, age=timedelta(days=31))
    if what == "provider":
        sim.moonshot.fault({"kind": "status", "status": 503, "body": {}})
    else:
        rest.fails = 1
    result = asyncio.run(manager.cleanup_expired_files())
    assert (result.files_marked, len(result.errors)) == (0, 1)
    assert row["deleted_at"] is None
    sim.admin("DELETE", "/faults")
    assert asyncio.run(manager.cleanup_expired_files()).files_marked == 1
    assert sim.moonshot.files == []


def test_a_file_under_a_lease_stays(sim, rest, manager, there):
    record = there.waiting.upload(b"wanted", name="a.txt", to="moonshot")
    with there.waiting.lease(record, platform="moonshot", for_=60):
        rest.add("kimi", record.replicas[0].remote_id, age=timedelta(days=31))
        result = asyncio.run(manager.cleanup_expired_files())
    assert (result.files_marked, len(result.errors)) == (0, 1)
    assert len(sim.moonshot.files) == 1


def test_it_cleans_up_when_it_starts_and_ends_when_it_is_told(sim, rest, manager):
    """Fault 47: the first pass came after a day, and with restarts never."""
    rest.add("kimi", sim.moonshot.seed_file(filename="a").id, age=timedelta(days=31))

    async def run() -> None:
        await manager.start()
        await manager.start()
        assert manager.running
        task = manager.cleanup_task
        while rest.rows[0]["deleted_at"] is None:
            await asyncio.sleep(0)
        await manager.stop()
        assert task is not None
        assert task.done()
        assert not manager.running

    asyncio.run(asyncio.wait_for(run(), 30))


def test_its_settings_are_the_tools(monkeypatch):
    monkeypatch.setenv("FILE_RETENTION_DAYS", "7 # a week")
    monkeypatch.setenv("CLEANUP_INTERVAL_HOURS", "often")
    manager = FileLifecycleManager(None)
    assert (manager.retention_days, manager.cleanup_interval_hours) == (7, 24)
    assert (manager.running, manager.cleanup_task) == (False, None)
    assert asyncio.run(manager.cleanup_expired_files()).errors == []
    assert [field for field in vars(CleanupResult(1, 2, 3, [], 0.5))] == [
        "files_marked", "files_deleted", "bytes_freed", "errors", "duration"
    ]  # fmt: skip
