"""The mirror of the tool's tables: a stand-in for Supabase's REST interface, and the official client to compare with."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import canaries
import databases
import pytest
from postgrest import SyncPostgrestClient
from postgrest.types import ReturnMethod

import exai_files
from exai_files.dropin import connection, mirror

pytestmark = pytest.mark.once

KEY = "canary-service-role-key"
FILE = "6f1c1d0e-8b0e-4f0c-9f62-1d2f0f9b7a11"


class Rest:
    """Takes rows as PostgREST does: by the conflict key, all of a request or none of it; and removes them."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], list[dict]]] = []
        self.tables: dict[str, dict[tuple, dict]] = {}
        self.refuses: set[str] = set()
        self.answers: list[int] = []
        rest = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self.answer(rest.taken(self.path, dict(self.headers), body))

            def do_DELETE(self) -> None:
                self.answer(rest.removed(self.path, dict(self.headers)))

            def answer(self, status: int) -> None:
                self.send_response(status)
                said = b"" if status < 300 else b'{"code": "23503", "message": "no such file"}'
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def taken(self, path: str, headers: dict[str, str], rows: list[dict]) -> int:
        self.requests.append((path, headers.get("Prefer", headers.get("prefer", "")), headers, rows))
        if self.answers and (status := self.answers.pop(0)) >= 300:
            return status
        if any(row.get("file_id") in self.refuses for row in rows):
            return 409
        url = urlsplit(path)
        keys = parse_qs(url.query)["on_conflict"][0].split(",")
        table = self.tables.setdefault(url.path.rpartition("/")[2], {})
        for row in rows:
            table[tuple(row[key] for key in keys)] = row
        return 201

    def removed(self, path: str, headers: dict[str, str]) -> int:
        self.requests.append((path, headers.get("Prefer", headers.get("prefer", "")), headers, []))
        url = urlsplit(path)
        ids = parse_qs(url.query)["id"][0].removeprefix("in.(").removesuffix(")").split(",")
        table = self.tables.setdefault(url.path.rpartition("/")[2], {})
        for key in [key for key, row in table.items() if row["id"] in ids]:
            del table[key]
        return 204

    def rows(self, table: str) -> list[dict]:
        return list(self.tables.get(table, {}).values())


@pytest.fixture
def rest() -> Iterator[Rest]:
    rest = Rest()
    yield rest
    rest.server.shutdown()
    rest.server.server_close()


@pytest.fixture
def there(sim) -> Iterator[connection.Connection]:
    with exai_files.Client(registry=":memory:", platforms=sim.platforms(), environment={}) as client:
        connection.use(client)
        yield connection.connection()
        connection.close()


def mirrored(there: connection.Connection, rest: Rest) -> mirror.Mirror:
    """One that sends when it is told to."""
    canaries.add("the service key", KEY)
    there.rows.tables.mirror_to(rest.url, KEY).wait()
    return mirror.Mirror(there.rows)


def add(there: connection.Connection, table: str, **row: object) -> str:
    return there.rows.tables.add(table, json.dumps(row)).wait()


def test_requests_have_the_shape_of_the_official_clients(there, rest):
    sending = mirrored(there, rest)
    add(there, "file_audit_trail", file_id=FILE, operation="upload", status="success", operation_details={"ü": [1]})
    assert sending.send()
    path, prefer, headers, rows = rest.requests.pop()
    official = SyncPostgrestClient(f"{rest.url}/rest/v1", headers={"apikey": KEY, "Authorization": f"Bearer {KEY}"})
    official.table("file_audit_trail").upsert(rows, on_conflict="id", returning=ReturnMethod.minimal).execute()
    their_path, their_prefer, their_headers, their_rows = rest.requests.pop()
    ours, theirs = urlsplit(path), urlsplit(their_path)
    assert ours.path == theirs.path
    assert {name: set(value[0].split(",")) for name, value in parse_qs(ours.query).items()} == {
        name: set(value[0].split(",")) for name, value in parse_qs(theirs.query).items()
    }
    assert prefer == their_prefer
    assert rows == their_rows
    same_headers(headers, their_headers, "content-type")


def same_headers(ours, theirs, *more):
    ours, theirs = ({name.lower(): value for name, value in each.items()} for each in (ours, theirs))
    for name in ("apikey", "authorization", "content-profile", "accept-profile", *more):
        assert ours[name] == theirs[name], name


def test_what_is_erased_is_removed_there(there, rest):
    sending = mirrored(there, rest)
    kept = there.waiting.upload(b"kept", name="kept.txt", to="moonshot")
    erased = there.waiting.upload(b"a paper", name="paper.txt", to="moonshot")
    assert sending.send()
    assert len(rest.rows("platform_file_registry")) == len(rest.rows("file_hashes")) == 2
    rest.requests.clear()
    there.waiting.lifecycle.erase(erased)
    assert sending.send()
    assert [f"sha256:{row['file_hash']}" for row in rest.rows("file_hashes")] == [kept.digest]
    copies = [row["platform_file_id"] for row in rest.rows("platform_file_registry")]
    assert copies == [kept.replicas[0].remote_id]
    removals = [request for request in rest.requests if "id=in." in request[0]]
    assert [urlsplit(path).path.rpartition("/")[2] for path, *_ in removals][-1] == "file_hashes"
    assert there.rows.tables.send(1.0, False).wait()["waiting"] == 0

    path, prefer, headers, _ = removals[-1]
    official = SyncPostgrestClient(f"{rest.url}/rest/v1", headers={"apikey": KEY, "Authorization": f"Bearer {KEY}"})
    ids = parse_qs(urlsplit(path).query)["id"][0].removeprefix("in.(").removesuffix(")").split(",")
    official.table("file_hashes").delete(returning=ReturnMethod.minimal).in_("id", ids).execute()
    their_path, their_prefer, their_headers, _ = rest.requests.pop()
    assert (urlsplit(path).path, parse_qs(urlsplit(path).query)) == (
        urlsplit(their_path).path, parse_qs(urlsplit(their_path).query)
    )  # fmt: skip
    assert prefer == their_prefer
    same_headers(headers, their_headers)


def test_of_many_rows_that_are_gone_no_url_is_too_long(sim, rest, tmp_path):
    with exai_files.Client(registry=tmp_path / "r.db", platforms=sim.platforms(), environment={}) as client:
        connection.use(client)
        there = connection.connection()
        sending = mirrored(there, rest)
        for n in range(250):
            add(there, "file_recovery_attempts", operation="upload", attempt_number=n, status="success")
        assert sending.send()
        assert len(rest.rows("file_recovery_attempts")) == 250
        rest.requests.clear()
        databases.query(str(tmp_path / "r.db"), "DELETE FROM file_recovery_attempts")
        assert sending.send()
    assert rest.rows("file_recovery_attempts") == []
    assert [len(path) < 4_200 for path, *_ in rest.requests] == [True] * 3


def test_what_may_still_arrive_is_overtaken_by_nothing_newer(there, rest):
    sending = mirrored(there, rest)
    answered, taken = threading.Event(), rest.taken
    rest.taken = lambda *request: (answered.wait(30), taken(*request))[1]
    add(there, "file_audit_trail", operation="upload", status="success")
    assert sending.send(0.2) is False
    rest.taken = taken
    assert sending.send()
    assert rest.requests == [], "its turn runs out first"
    assert there.rows.tables.send(1.0, False).wait()["waiting"] == 1
    answered.set()


def test_a_table_that_removes_nothing_holds_up_no_other(there, rest):
    sending = mirrored(there, rest)
    there.waiting.lifecycle.erase(there.waiting.upload(b"a paper", name="paper.txt", to="moonshot"))
    removed, asked = rest.removed, []

    def refused(path, headers):
        asked.append(urlsplit(path).path.rpartition("/")[2])
        return 403 if asked[-1] == "platform_file_registry" else removed(path, headers)

    rest.removed = refused
    add(there, "file_audit_trail", operation="upload", status="success")
    assert sending.send() is False
    assert asked.count("platform_file_registry") == 1
    assert asked[-1] == "file_hashes"
    assert rest.rows("file_audit_trail") != []


def test_of_two_processes_one_sends_at_a_time(sim, rest, tmp_path):
    registry = {"registry": tmp_path / "r.db", "platforms": sim.platforms(), "environment": {}}
    with exai_files.Client(**registry) as client, exai_files.Client(**registry) as other:
        connection.use(other)
        second = mirrored(connection.connection(), rest)
        connection.use(client)
        first = mirrored(connection.connection(), rest)
        add(connection.connection(), "file_audit_trail", operation="upload", status="success")
        taken = rest.taken

        def meanwhile(*request):
            rest.taken = taken
            assert second.send()
            assert len(rest.requests) == 0, "it leaves the row to the first"
            return taken(*request)

        rest.taken = meanwhile
        assert first.send()
        assert len(rest.requests) == 1


def test_rows_arrive_once_in_their_last_state(there, rest):
    sending = mirrored(there, rest)
    ids = [add(there, "file_audit_trail", operation="upload", status="success", duration_ms=n) for n in range(1200)]
    for status in ("archived", "active"):
        add(there, "platform_file_registry", platform="kimi", platform_file_id="f", platform_metadata={}, status=status)
    assert sending.send()
    assert {row["id"] for row in rest.rows("file_audit_trail")} == set(ids)
    assert [row["status"] for row in rest.rows("platform_file_registry")] == ["active"]
    sent = [rows for path, _, _, rows in rest.requests]
    assert [len(rows) for rows in sent] == [1, 500, 500, 200], "in batches, and the newest state only"
    rest.requests = rest.requests[:3]
    assert sending.send()
    assert len(rest.requests) == 3, "and then no more"


def test_what_our_client_does_is_mirrored_too(there, rest):
    sending = mirrored(there, rest)
    record = there.waiting.upload(b"a paper", name="paper.txt", to="moonshot")
    assert sending.send()
    (row,) = rest.rows("platform_file_registry")
    assert (row["platform"], row["platform_file_id"]) == ("kimi", record.replicas[0].remote_id)
    assert rest.rows("file_hashes")[0]["file_hash"] == record.digest.removeprefix("sha256:")
    there.waiting.delete(record)
    assert sending.send()
    assert rest.rows("platform_file_registry")[0]["status"] == "deleted"


@pytest.mark.parametrize("status", [403, 404])
def test_a_table_that_is_not_there_holds_up_no_other(there, rest, status):
    sending = mirrored(there, rest)
    add(there, "file_recovery_attempts", operation="upload", attempt_number=1, status="success")
    add(there, "file_audit_trail", operation="upload", status="success")
    rest.answers = [status]
    assert sending.send() is False
    assert len(rest.rows("file_audit_trail")) == 1
    assert sending.send()
    assert len(rest.rows("file_recovery_attempts")) == 1


def test_what_others_refer_to_is_sent_first(there, rest):
    sending = mirrored(there, rest)
    copy = add(
        there, "platform_file_registry", platform="kimi", platform_file_id="f", platform_metadata={}, status="active"
    )
    there.rows.tables.note_health(json.dumps({"registry_id": copy, "status": "healthy"})).wait()
    assert sending.send()
    assert [urlsplit(path).path.rpartition("/")[2] for path, *_ in rest.requests] == [
        "platform_file_registry", "file_health_checks"
    ]  # fmt: skip


def test_a_send_under_way_does_not_hold_up_the_end(there, rest, monkeypatch):
    sending = mirrored(there, rest)
    answered = threading.Event()
    monkeypatch.setattr(mirror, "AT_EXIT", 0.2)
    taken = rest.taken
    rest.taken = lambda *request: (answered.wait(30), taken(*request))[1]
    add(there, "file_audit_trail", operation="upload", status="success")
    sending.start()
    while not sending._thread.is_alive():
        pass
    begun = time.monotonic()
    sending.stop()
    answered.set()
    assert time.monotonic() - begun < 10
    sending._thread.join()


@pytest.mark.parametrize("status", [401, 404, 405, 429, 500, 503])
def test_while_it_is_away_nothing_is_lost_and_nothing_fails(there, rest, caplog, status):
    sending = mirrored(there, rest)
    rest.answers = [status]
    add(there, "file_audit_trail", operation="upload", status="success")
    assert sending.send() is False
    assert "not mirrored at the moment" in caplog.text
    assert rest.rows("file_audit_trail") == []
    assert sending.send()
    assert len(rest.rows("file_audit_trail")) == 1


def test_a_row_that_is_refused_holds_up_no_other(there, rest, caplog):
    sending = mirrored(there, rest)
    rest.refuses = {FILE}
    others = [str(uuid.uuid4()) for _ in range(9)]
    for file_id in [*others[:4], FILE, *others[4:]]:
        add(there, "file_recovery_attempts", file_id=file_id, operation="upload", attempt_number=1, status="success")
    assert sending.send()
    assert {row["file_id"] for row in rest.rows("file_recovery_attempts")} == set(others)
    assert "23503 no such file" in caplog.text
    assert there.rows.tables.send(1.0, False).wait() == {"sent": 0, "refused": 0, "waiting": 1}
    rest.refuses = set()
    assert sending.send(again=True)
    assert len(rest.rows("file_recovery_attempts")) == 10


def test_a_reply_that_is_lost_makes_no_second_row(there, rest):
    sending = mirrored(there, rest)
    add(there, "file_audit_trail", operation="upload", status="success")
    taken = rest.taken
    rest.taken = lambda *request: (taken(*request), 500)[1]
    assert sending.send() is False
    rest.taken = taken
    assert sending.send()
    assert len(rest.requests) == 2
    assert len(rest.rows("file_audit_trail")) == 1


def test_the_outbox_outlives_its_process(sim, rest, tmp_path):
    with exai_files.Client(registry=tmp_path / "r.db", platforms=sim.platforms(), environment={}) as client:
        connection.use(client)
        there = connection.connection()
        sending = mirrored(there, rest)
        rest.answers = [503]
        add(there, "file_audit_trail", operation="upload", status="success")
        assert sending.send() is False
    with exai_files.Client(registry=tmp_path / "r.db", environment={}) as client:
        connection.use(client)
        there = connection.connection()
        add(there, "file_audit_trail", operation="access", status="success")
        assert mirrored(there, rest).send()
    assert {row["operation"] for row in rest.rows("file_audit_trail")} == {"upload", "access"}


def test_it_is_set_up_by_the_tools_variables_and_sends_on_its_own(rest, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for name in ("SUPABASE_DB_URL", "EXAI_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SUPABASE_URL", f"{rest.url}/")
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", canaries.add("the service key", KEY))
    connection.close()
    there = connection.connection()
    add(there, "file_audit_trail", operation="upload", status="success")
    connection.close()
    assert [row["operation"] for row in rest.rows("file_audit_trail")] == ["upload"]


@pytest.mark.parametrize(
    "url", ["http://example.com", "ftp://example.com", "no url", "https://user:word@example.com", "https://e.com/?a=b"]
)
def test_a_key_is_sent_nowhere_that_is_not_safe(there, caplog, url):
    environment = {"SUPABASE_URL": url, "SUPABASE_SERVICE_ROLE_KEY": KEY}
    assert mirror.mirror_of(environment, there.rows) is None
    assert "SUPABASE_URL" in caplog.text


def test_a_database_is_not_mirrored():
    with exai_files.Client(registry=databases.new_database(), environment={}) as client:
        connection.use(client)
        with pytest.raises(exai_files.ConfigError, match="PostgreSQL is not mirrored"):
            connection.connection().rows.tables.mirror_to("https://example.com", KEY).wait()
        connection.close()
