"""The tool's managers of files (dropin_contract.md §1.5), against the simulator, real registries and its table `files`.

The table is in SQLite with the constraints of the tool's own, behind the official client and a stand-in for PostgREST.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import random
import sqlite3
import subprocess
import sys
import threading
import types
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import databases
import pytest
from postgrest import SyncPostgrestClient

import exai_files
from exai_files.dropin import backfill_file_hashes, connection, exceptions, file_metrics, migration_facade
from exai_files.dropin.backfill_file_hashes import FileHashBackfill
from exai_files.dropin.manager import UnifiedFileManager
from exai_files.dropin.mcp_storage_adapter import MCPStorageAdapter, MCPStorageResult
from exai_files.dropin.migration_facade import FileManagementFacade, ShadowModeMetrics
from exai_files.dropin.models import FileOperationResult, FileReference, FileUploadMetadata
from exai_files.dropin.providers import GLMFileProvider, KimiFileProvider
from exai_files.dropin.rollout_manager import RolloutManager
from exai_files.dropin.unified_manager import Provider, UploadRequest, UploadResult
from exai_files.dropin.unified_manager import UnifiedFileManager as Uploads

pytestmark = pytest.mark.once

HEXES = hashlib.sha256(b"a paper").hexdigest()
TABLE = """CREATE TABLE files (id text PRIMARY KEY, storage_path text UNIQUE NOT NULL, original_name text NOT NULL,
    mime_type text, size_bytes integer, file_type text NOT NULL DEFAULT 'user_upload', metadata text, created_at text,
    sha256 text UNIQUE, provider text, provider_file_id text, accessed_at text)"""


class Storage:
    """The tool's storage manager: a client for the table `files`, and a bucket."""

    def __init__(self, enabled: bool = True) -> None:
        self.enabled, self.bucket = enabled, {}
        self.database = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self.database.row_factory = sqlite3.Row
        self.database.execute(TABLE)
        self.refused: set[str] = set()
        self.before_a_row = lambda: None
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()
        self.rest = SyncPostgrestClient(f"http://127.0.0.1:{self.server.server_port}")
        bucket = SimpleNamespace(from_=lambda name: SimpleNamespace(download=lambda path: self.bucket[name, path]))
        self.client = SimpleNamespace(table=self.rest.table, storage=bucket)

    def close(self) -> None:
        self.rest.session.close()
        self.server.shutdown()
        self.server.server_close()

    def get_client(self) -> SimpleNamespace:
        return self.client

    def upload_file(self, file_path, file_data=None, file_obj=None, original_name="", mime_type=None):
        content = file_data or file_obj.read()
        self.bucket["user-files", file_path] = content
        return self.add(storage_path=file_path, original_name=original_name, size_bytes=len(content))

    def download_file(self, file_id):
        found = self.rows(id=file_id)
        return self.bucket.get(("user-files", found[0]["storage_path"])) if found else None

    def delete_file(self, file_id):
        for row in self.rows(id=file_id):
            self.bucket.pop(("user-files", row["storage_path"]))
        self.database.execute("DELETE FROM files WHERE id = ?", [file_id])
        return True

    def add(self, **row) -> str:
        row = {"id": str(uuid.uuid4()), "storage_path": str(uuid.uuid4()), "original_name": "paper.txt", **row}
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        self.database.execute(f"INSERT INTO files ({names}) VALUES ({marks})", list(row.values()))
        return row["id"]

    def rows(self, **where) -> list[dict]:
        condition = " AND ".join(f"{name} = ?" for name in where) or "TRUE"
        return [dict(row) for row in self.database.execute(f"SELECT * FROM files WHERE {condition}", [*where.values()])]

    def _handler(storage) -> type:
        class Handler(BaseHTTPRequestHandler):
            def run(self, verb: str) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length)) if length else {}
                try:
                    if verb in storage.refused:
                        raise sqlite3.OperationalError("away")
                    self.answer(200, storage._run(verb, dict(parse_qsl(urlsplit(self.path).query)), body))
                except sqlite3.Error as error:
                    unique = {"code": "23505" if isinstance(error, sqlite3.IntegrityError) else "57P03"}
                    self.answer(409, {**unique, "message": str(error), "details": None, "hint": None})

            do_GET = lambda self: self.run("GET")  # noqa: E731
            do_POST = lambda self: self.run("POST")  # noqa: E731
            do_PATCH = lambda self: self.run("PATCH")  # noqa: E731
            do_DELETE = lambda self: self.run("DELETE")  # noqa: E731

            def answer(self, status: int, content: object) -> None:
                said = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _run(self, verb: str, query: dict[str, str], body: dict) -> list[dict]:
        values = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in body.items()}
        if verb == "POST":
            self.before_a_row()
            return self.rows(id=self.add(**values))
        limit = query.pop("limit", "1000")
        order = query.pop("order", "id").partition(".")[0]
        tests = [
            (name, *value.partition(".")[::2]) for name, value in query.items() if name not in ("select", "columns")
        ]
        signs = {"eq": "= ?", "gt": "> ?", "is": "IS ?"}
        where = " AND ".join(f"{name} {signs[operator]}" for name, operator, _ in tests) or "TRUE"
        operands = [None if operator == "is" else operand for _, operator, operand in tests]
        if verb == "GET":
            found = self.database.execute(f"SELECT * FROM files WHERE {where} ORDER BY {order} LIMIT {limit}", operands)
        elif verb == "PATCH":
            changes = ", ".join(f"{name} = ?" for name in values)
            statement = f"UPDATE files SET {changes} WHERE {where} RETURNING *"
            found = self.database.execute(statement, [*values.values(), *operands])
        else:
            found = self.database.execute(f"DELETE FROM files WHERE {where} RETURNING *", operands)
        return [{**row, "metadata": json.loads(row["metadata"] or "{}")} for row in map(dict, found)]


class Log:
    """As the tool's FileOperationsLogger."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict]] = []

    def __getattr__(self, name: str):
        what = name.removeprefix("log_")
        return lambda file_path, file_size, user_id, success, **more: self.lines.append(
            (what, {"file_path": file_path, "file_size": file_size, "user_id": user_id, "success": success, **more})
        )


class Elsewhere:
    """A provider that our registry knows nothing of."""

    provider_name, is_available = "local", True

    def __init__(self) -> None:
        self.files: list[str] = []

    async def upload_file(self, file_path, metadata):
        self.files.append(f"local-{len(self.files)}")
        return reference(provider="local", provider_id=self.files[-1])

    async def delete_file(self, file_ref):
        self.files.remove(file_ref.provider_id)
        return True

    async def check_file_exists(self, file_hash):
        return None


def reference(**different) -> FileReference:
    usual = {"internal_id": str(uuid.uuid4()), "provider_id": "file-1", "provider": "kimi", "file_hash": HEXES}
    return FileReference(**{**usual, "size": 7, "mime_type": "text/plain", "original_name": "paper.txt", **different})


@pytest.fixture(params=["sqlite", "postgres"])
def there(request, sim, monkeypatch) -> Iterator[connection.Connection]:
    registry = databases.new_database() if request.param == "postgres" else ":memory:"
    yield from opened(registry, sim, monkeypatch)


@pytest.fixture
def here(sim, monkeypatch) -> Iterator[connection.Connection]:
    """The same, to SQLite only."""
    yield from opened(":memory:", sim, monkeypatch)


def opened(registry, sim, monkeypatch, **settings) -> Iterator[connection.Connection]:
    monkeypatch.setenv("KIMI_API_KEY", "set")
    monkeypatch.setenv("GLM_API_KEY", "set")
    settings = {"retry": {"base": 0}, **settings}
    with exai_files.Client(registry=registry, platforms=sim.platforms(), environment={}, settings=settings) as client:
        connection.use(client)
        yield connection.connection()
        connection.close()


@pytest.fixture
def storage() -> Iterator[Storage]:
    storage = Storage()
    yield storage
    storage.close()


@pytest.fixture
def paper(tmp_path) -> str:
    path = tmp_path / "paper.txt"
    path.write_bytes(b"a paper")
    return str(path)


def manager(storage=None, log=None, **more) -> UnifiedFileManager:
    model = SimpleNamespace(upload_file=None)
    providers = {"kimi": KimiFileProvider(model), "glm": GLMFileProvider(model), **more}
    return UnifiedFileManager(storage, log, providers)


def uploads(sim, platform="moonshot") -> int:
    return len(sim.truth(platform=platform, operation="upload"))


# ===== manager =====


@pytest.mark.parametrize(
    ("of", "name", "expected"),
    [
        (UnifiedFileManager, "__init__", "(self, storage, logger, providers)"),
        (
            *(UnifiedFileManager, "upload_file_async"),
            "(self, file_path, metadata=None, provider='kimi', allow_duplicates=False)",
        ),
        (
            *(UnifiedFileManager, "upload_file"),
            "(self, file_path, metadata=None, provider='kimi', allow_duplicates=False)",
        ),
        (UnifiedFileManager, "download_file", "(self, file_ref, destination)"),
        (UnifiedFileManager, "delete_file", "(self, file_ref)"),
        (Uploads, "__init__", "(self, config=None)"),
        (Uploads, "delete_file", "(self, file_id, provider, user_id)"),
        (
            *(UploadRequest, "__init__"),
            "(self, file_path, user_id, purpose='assistants', preferred_provider=None, metadata=<factory>)",
        ),
        (
            *(UploadResult, "__init__"),
            "(self, file_id, provider, file_path, file_size, sha256, mime_type, supabase_path=None, upload_duration=0.0,"
            " metadata=<factory>)",
        ),
        (RolloutManager, "should_use_unified", "(self, tool_name, user_id=None)"),
        (
            *(FileManagementFacade, "__init__"),
            "(self, unified_manager, rollout_manager, config, legacy_handlers=None)",
        ),
        (
            *(FileManagementFacade, "upload_file"),
            "(self, file_path, metadata=None, provider='kimi', context_id=None, user_id=None, allow_duplicates=False)",
        ),
        (FileManagementFacade, "download_file", "(self, file_id, destination=None, user_id=None)"),
        (FileManagementFacade, "delete_file", "(self, file_id, user_id=None)"),
        (
            *(MCPStorageAdapter, "upload_file"),
            "(self, file_path, original_name, mime_type='application/octet-stream')",
        ),
        (MCPStorageAdapter, "execute_sql", "(self, query, params=None)"),
        (MCPStorageResult, "__init__", "(self, success, data=None, error=None, metadata=None)"),
        (FileHashBackfill, "__init__", "(self, storage, dry_run=False)"),
        (FileHashBackfill, "backfill_all", "(self, batch_size=50, rate_limit=1.0)"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_names_have_the_parameters_they_had(of, name, expected):
    signature = inspect.signature(getattr(of, name))
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    assert str(inspect.Signature(bare)) == expected


def test_a_file_goes_up_comes_back_and_goes(there, sim, paper, tmp_path):
    files = manager()
    file = files.upload_file(paper, FileUploadMetadata(user_id="eve"), "glm")
    assert (file.provider, file.file_hash, file.size) == ("glm", HEXES, 7)
    assert [each.id for each in sim.zai.files] == [file.provider_id]
    assert asyncio.run(files.reference_async(file.internal_id)).provider_id == file.provider_id
    assert files.delete_file(file) is True
    assert sim.zai.files == []
    with pytest.raises(exceptions.FileNotFoundError):
        asyncio.run(files.reference_async(file.internal_id))
    text = files.upload_file(paper, provider="kimi")
    with pytest.raises(exceptions.FileDownloadError) as refused:
        files.download_file(text, str(tmp_path / "back.txt"))
    assert refused.value.error_code == "DOWNLOAD_NOT_SUPPORTED"


def test_without_a_table_the_registry_says_what_is_a_duplicate(there, sim, paper):
    files = manager()
    first = files.upload_file(paper)
    with pytest.raises(exceptions.FileDuplicateError) as known:
        files.upload_file(paper)
    assert known.value.existing_file.provider_id == first.provider_id
    assert files.upload_file(paper, allow_duplicates=True).provider_id == first.provider_id
    assert files.upload_file(paper, provider="glm").provider == "glm", "what Kimi has is no duplicate there"
    assert (uploads(sim), uploads(sim, "zai")) == (1, 1)


def test_a_storage_that_is_switched_off_is_none(here, paper):
    off = Storage(enabled=False)
    manager(off).upload_file(paper)
    assert off.rows() == []
    off.close()


def test_an_upload_is_one_row_with_all_that_a_row_must_have(there, sim, storage, paper):
    """Fault 34: there was no `storage_path`, so that no row was ever taken."""
    files = manager(storage)
    file = files.upload_file(paper)
    (row,) = storage.rows()
    expected = {"id": file.internal_id, "sha256": HEXES, "provider": "kimi", "provider_file_id": file.provider_id}
    expected |= {"size_bytes": 7, "original_name": "paper.txt", "storage_path": f"kimi:{file.provider_id}"}
    assert {name: row[name] for name in expected} == expected
    with pytest.raises(exceptions.FileDuplicateError) as known:
        files.upload_file(paper)
    assert known.value.existing_file.internal_id == file.internal_id
    glm = files.upload_file(paper, provider="glm")
    assert storage.rows() == [row], "a content has one row"
    assert glm.internal_id == file.internal_id
    assert asyncio.run(files.reference_async(row["id"])).provider_id == file.provider_id
    files.delete_file(file)
    assert storage.rows() == []
    assert files.upload_file(paper).provider == "kimi", "what is gone is no duplicate"


def test_the_tools_own_upload_keeps_its_row(here, storage, paper):
    own = storage.add(sha256=HEXES, storage_path="eve/paper.txt", size_bytes=7)
    files = manager(storage)
    file = files.upload_file(paper)
    assert file.internal_id == own
    (row,) = storage.rows()
    assert (row["storage_path"], row["provider_file_id"]) == ("eve/paper.txt", file.provider_id)
    files.delete_file(file)
    (row,) = storage.rows()
    assert (row["storage_path"], row["provider"], row["provider_file_id"]) == ("eve/paper.txt", None, None)


def test_of_two_uploads_at_once_the_first_makes_the_row(here, storage, paper):
    rows = []
    storage.before_a_row = lambda: rows or rows.append(storage.add(sha256=HEXES, provider="glm", provider_file_id="g"))
    assert manager(storage).upload_file(paper).internal_id == rows[0]
    assert [row["id"] for row in storage.rows()] == rows


def test_changed_content_is_another_file(here, sim, paper, tmp_path):
    """Fault 32: the digest was kept by path."""
    files = manager()
    first = files.upload_file(paper)
    (tmp_path / "paper.txt").write_bytes(b"A PAPER")
    second = files.upload_file(paper)
    assert first.file_hash != second.file_hash
    assert uploads(sim) == 2


def test_each_operation_is_one_line_in_the_log(here, sim, paper, tmp_path):
    """Fault 33: each upload was logged as a failure first."""
    log = Log()
    files = manager(None, log)
    file = files.upload_file(paper, FileUploadMetadata(user_id="eve"))
    with pytest.raises(exceptions.FileDuplicateError):
        files.upload_file(paper)
    with pytest.raises(exceptions.FileNotFoundError):
        files.upload_file(paper + ".none")
    with pytest.raises(exceptions.FileDownloadError):
        files.download_file(file, str(tmp_path / "back.txt"))
    files.delete_file(file)
    told = [(what, line["success"], line["file_size"], line.get("duplicate", False)) for what, line in log.lines]
    assert told == [
        ("upload", True, 7, False),
        ("upload", True, 7, True),
        ("upload", False, 0, False),
        ("download", False, 7, False),
        ("delete", True, 7, False),
    ]
    assert (log.lines[0][1]["user_id"], log.lines[0][1]["file_id"]) == ("eve", file.internal_id)
    assert len({line["operation_id"] for _, line in log.lines}) == 5


def test_a_log_that_fails_fails_no_upload(here, paper):
    broken = SimpleNamespace(log_upload=lambda **_: 1 / 0)
    assert manager(None, broken).upload_file(paper).size == 7


def test_a_table_that_cannot_be_read_is_known_before_anything_is_sent(here, sim, storage, paper):
    storage.refused = {"GET"}
    with pytest.raises(exceptions.FileUploadError) as failed:
        manager(storage).upload_file(paper)
    assert (failed.value.error_code, failed.value.retryable, uploads(sim)) == ("METADATA_STORAGE_FAILED", True, 0)


def test_a_row_that_is_not_taken_leaves_no_orphan(here, sim, storage, paper):
    """Fault 34."""
    elsewhere = Elsewhere()
    files = manager(storage, local=elsewhere)
    storage.refused = {"POST"}
    for provider in ("kimi", "local"):
        with pytest.raises(exceptions.FileUploadError) as failed:
            files.upload_file(paper, provider=provider)
        assert failed.value.error_code == "METADATA_STORAGE_FAILED"
    assert elsewhere.files == [], "nobody would have known of it"
    assert len(sim.moonshot.files) == 1, "the registry knows it"
    storage.refused = set()
    assert files.upload_file(paper).provider_id == sim.moonshot.files[0].id
    assert uploads(sim) == 1
    assert len(storage.rows()) == 1


def test_what_cannot_be_uploaded_is_said_in_the_tools_codes(here, sim, paper, monkeypatch):
    files = manager()
    with pytest.raises(exceptions.ProviderNotFoundError) as unknown:
        files.upload_file(paper, provider="other")
    assert unknown.value.available_providers == ["kimi", "glm"]
    assert files.get_provider_status() == {"kimi": True, "glm": True}
    monkeypatch.delenv("KIMI_API_KEY")
    assert (files.get_provider_status()["kimi"], files.list_available_providers()) == (False, ["glm"])
    with pytest.raises(exceptions.FileUploadError) as failed:
        files.upload_file(paper)
    assert failed.value.error_code == "PROVIDER_UNAVAILABLE"
    sim.zai.fail_next(status=403, times=1, operation="upload")
    with pytest.raises(exceptions.FileUploadError) as failed:
        files.upload_file(paper, provider="glm")
    assert failed.value.error_code == "UPLOAD_FAILED"


def test_code_that_waits_may_not_do_so_in_an_event_loop(here, paper):
    async def wrong() -> None:
        files = manager()
        for name, arguments in {"upload_file": [paper], "download_file": [None, ""], "delete_file": [None]}.items():
            with pytest.raises(RuntimeError, match=rf"{name}\(\) from async context. Use {name}_async"):
                getattr(files, name)(*arguments)

    asyncio.run(wrong())


# ===== rollout =====


def config(**different) -> SimpleNamespace:
    usual = {"ENABLE_UNIFIED_MANAGER": True, "ENABLE_SHADOW_MODE": False, "SHADOW_MODE_SAMPLE_RATE": 1.0}
    usual |= {"ENABLE_FALLBACK_TO_LEGACY": True, "KIMI_ROLLOUT_PERCENTAGE": 100}
    return SimpleNamespace(**{**usual, **different})


def test_every_user_stays_on_the_side_they_were_on():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    drawn = random.Random(seed)
    for _ in range(2000):
        percentage, tool = drawn.randint(0, 100), drawn.choice(["kimi_upload", "glm_upload", "download", "ü"])
        user = f"user {drawn.random()}"
        expected = int(hashlib.md5(f"{tool}:{user}".encode()).hexdigest(), 16) % 100 < percentage
        assert RolloutManager(config(KIMI_ROLLOUT_PERCENTAGE=percentage)).should_use_unified(tool, user) is expected
    # Known answers: buckets 56 and 10.
    for user, percentage, is_in in [("user123", 56, False), ("user123", 57, True), ("user456", 11, True)]:
        rollout = RolloutManager(config(KIMI_ROLLOUT_PERCENTAGE=percentage))
        assert rollout.should_use_unified("kimi_upload", user) is is_in, (user, percentage)


@pytest.mark.parametrize(
    ("tool", "percentage"),
    [
        *[(tool, "KIMI") for tool in ("kimi_upload", "kimi", "download", "delete", "glm_upload", "other", "KIMI")],
        *[("smart_handler", "SMART_HANDLER"), ("Smart", "SMART_HANDLER"), ("supabase", "SUPABASE")],
    ],
)
def test_each_tool_goes_by_its_percentage(tool, percentage):
    nothing = dict.fromkeys((f"{name}_ROLLOUT_PERCENTAGE" for name in ("KIMI", "SMART_HANDLER", "SUPABASE")), 0)
    rollout = RolloutManager(config(**{**nothing, f"{percentage}_ROLLOUT_PERCENTAGE": 100}))
    assert rollout.should_use_unified(tool) is rollout.should_use_unified(tool, "eve") is True
    rollout.config.ENABLE_UNIFIED_MANAGER = False
    assert rollout.should_use_unified(tool) is False
    assert not any(RolloutManager(config(**nothing)).should_use_unified(tool) for _ in range(100))


def test_the_rollout_can_be_seen():
    assert RolloutManager(config(KIMI_ROLLOUT_PERCENTAGE=5)).get_rollout_status() == {
        "unified_enabled": True,
        "kimi_rollout": 5,
        "smart_handler_rollout": 0,
        "supabase_rollout": 0,
        "fallback_enabled": True,
    }


# ===== facade =====


@pytest.fixture
def tool(storage, monkeypatch) -> SimpleNamespace:
    """The tool's hub and storage, as modules."""
    tool = SimpleNamespace(storage=storage, hub=[], provider_id="hub-1")

    def upload_file_with_provider(supabase_client, file_path, provider="auto", user_id=None):
        tool.hub.append((file_path, provider, user_id))
        result = {"success": True, "supabase_file_id": str(uuid.uuid4()), "provider": provider, "file_size": 7}
        result |= {"filename": "paper.txt", "upload_time": "2026-11-30T12:00:00", "deduplicated": False}
        failed = {} if tool.provider_id else {"provider_upload_failed": True, "error": "no luck"}
        return {**result, "metadata_id": "m", "provider_file_id": tool.provider_id, **failed}

    modules = {"tools": {}, "tools.supabase_upload": {"upload_file_with_provider": upload_file_with_provider}}
    modules |= {"src": {}, "src.storage": {}, "src.storage.supabase_client": {"get_storage_manager": lambda: storage}}
    for name, attributes in modules.items():
        module = types.ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    return tool


def facade(files: object, **different) -> FileManagementFacade:
    settings = config(**different)
    return FileManagementFacade(files, RolloutManager(settings), settings)


def test_a_successful_upload_is_not_done_again(here, sim, tool, paper):
    """Fault 42: a reference has no `success`, and so the other way was gone as well. A duplicate was uploaded again, too."""
    files = facade(manager(tool.storage))
    first, again = (asyncio.run(files.upload_file(paper)) for _ in range(2))
    assert first.success
    assert again.success
    assert first.file_reference.provider_id == again.file_reference.provider_id == sim.moonshot.files[0].id
    assert (uploads(sim), tool.hub) == (1, [])


def test_what_may_have_been_uploaded_is_not_uploaded_by_the_other_way(here, sim, tool, paper):
    tool.storage.refused = {"POST"}
    with pytest.raises(exceptions.FileUploadError, match="table of files"):
        asyncio.run(facade(manager(tool.storage)).upload_file(paper))
    assert (uploads(sim), tool.hub) == (1, [])


@pytest.mark.parametrize(
    ("settings", "fails"),
    [
        pytest.param({"ENABLE_UNIFIED_MANAGER": False}, False, id="switched off"),
        pytest.param({"KIMI_ROLLOUT_PERCENTAGE": 0}, False, id="not rolled out"),
        pytest.param({}, True, id="failed"),
    ],
)
def test_the_way_before_is_gone_where_it_is_wanted(here, sim, tool, paper, settings, fails):
    """Fault 43: keys were read that the hub never returns."""
    if fails:
        sim.moonshot.fail_next(status=400, times=1, operation="upload")
    files = facade(manager(), **settings)
    result = asyncio.run(files.upload_file(paper, FileUploadMetadata(user_id="eve")))
    file = result.file_reference
    assert (result.success, file.provider_id, file.file_hash, file.mime_type) == (True, "hub-1", HEXES, "text/plain")
    assert tool.hub == [(paper, "kimi", "eve")]
    tool.provider_id = None
    lost = asyncio.run(files._legacy_upload(paper, None, "kimi", None))
    assert (lost.success, lost.error) == (False, "Kimi upload error: no luck")
    assert asyncio.run(files._legacy_upload(paper, None, "other", None)).success is False


def test_without_a_way_back_the_error_is_raised(here, sim, tool, paper):
    sim.moonshot.fail_next(status=400, times=1, operation="upload")
    with pytest.raises(exceptions.FileUploadError):
        asyncio.run(facade(manager(), ENABLE_FALLBACK_TO_LEGACY=False).upload_file(paper))
    assert tool.hub == []


@pytest.mark.parametrize("with_table", [True, False], ids=["table", "registry"])
def test_a_file_is_downloaded_and_deleted_by_its_id(there, sim, tool, tmp_path, with_table):
    """Fault 42: the manager was called with arguments that it does not take."""
    batch, back = tmp_path / "batch.jsonl", tmp_path / "back.jsonl"
    batch.write_bytes(b'{"a": 1}\n')
    files = facade(manager(tool.storage if with_table else None))
    file = asyncio.run(files.upload_file(str(batch), FileUploadMetadata(purpose="batch"))).file_reference
    assert asyncio.run(files.download_file(file.internal_id, str(back))).success
    assert back.read_bytes() == batch.read_bytes()
    assert asyncio.run(files.delete_file(file.internal_id)).success
    assert (sim.moonshot.files, tool.storage.rows()) == ([], [])
    assert asyncio.run(files.delete_file(file.internal_id)).success is False, "it is nowhere"


def test_what_no_provider_gives_back_comes_from_the_bucket(here, tool, paper, tmp_path):
    files = facade(manager(tool.storage))
    kept = MCPStorageAdapter().upload_file(paper, "paper.txt").data
    tool.storage.database.execute("UPDATE files SET sha256 = ?", [HEXES])
    assert asyncio.run(files.upload_file(paper)).file_reference.internal_id == kept
    assert asyncio.run(files.download_file(kept, str(tmp_path / "back.txt"))).success
    assert (tmp_path / "back.txt").read_bytes() == b"a paper"
    assert asyncio.run(files.download_file(kept)).success
    assert asyncio.run(files._legacy_delete(kept)).success
    assert tool.storage.bucket == {}
    assert "not found" in asyncio.run(files._legacy_download(kept, None)).error


@pytest.mark.parametrize("unified", [True, False], ids=["unified first", "hub first"])
def test_in_shadow_mode_both_ways_are_compared(here, sim, tool, paper, unified):
    files = facade(manager(), ENABLE_UNIFIED_MANAGER=unified, ENABLE_SHADOW_MODE=True)

    async def upload() -> FileOperationResult:
        result = await files.upload_file(paper)
        await asyncio.gather(*files._shadows)
        return result

    assert asyncio.run(upload()).success
    assert (uploads(sim), len(tool.hub)) == (1, 1)
    counts = files.shadow_metrics
    assert (counts.comparison_count, counts.error_count, counts.discrepancy_count) == (1, 0, 1), "the ids differ"
    tool.provider_id = sim.moonshot.files[0].id
    asyncio.run(upload())
    assert (counts.comparison_count, counts.discrepancy_count) == (2, 1)
    tool.provider_id = None
    asyncio.run(upload())
    assert (counts.comparison_count, counts.error_count, counts.get_error_rate()) == (3, 1, 1 / 3)
    assert uploads(sim) == 1
    counts.reset()
    assert counts.get_error_rate() == counts.comparison_count == 0


def test_shadow_mode_is_sampled():
    files = facade(None, ENABLE_SHADOW_MODE=True, SHADOW_MODE_SAMPLE_RATE=0.0)
    assert not any(files._should_run_shadow_mode() for _ in range(100))
    files.config.SHADOW_MODE_SAMPLE_RATE = 1.0
    assert all(files._should_run_shadow_mode() for _ in range(100))
    files.config.ENABLE_SHADOW_MODE = False
    assert files._should_run_shadow_mode() is False


OK, FAILED = (
    FileOperationResult(success=True, file_reference=reference()),
    FileOperationResult(success=False, error="no"),
)
OTHER = FileOperationResult(success=True, file_reference=reference(provider_id="x", file_hash="b" * 64, size=8))


@pytest.mark.parametrize(
    ("primary", "shadow", "expected"),
    [
        pytest.param(OK, OK, (True, False, 0, None), id="the same"),
        pytest.param(OK, OTHER, (False, False, 3, None), id="different"),
        pytest.param(OK, FAILED, (False, True, 2, None), id="one failed"),
        pytest.param(FAILED, FAILED, (True, True, 2, "Both implementations failed"), id="both failed"),
    ],
)
def test_results_are_compared(primary, shadow, expected):
    found = facade(None)._compare_results(primary, shadow)
    said = (found["results_match"], found["has_errors"], len(found["discrepancies"]), found.get("match_reason"))
    assert said == expected
    assert (found["primary_success"], found["shadow_success"]) == (primary.success, shadow.success)


def test_comparisons_are_counted():
    counts = ShadowModeMetrics()
    for status in ("success", "error", "discrepancy", "success"):
        counts.record_comparison(status)
    assert (counts.comparison_count, counts.error_count, counts.discrepancy_count) == (4, 1, 1)
    assert counts.get_error_rate() == 0.25
    assert counts.last_reset.tzinfo is not None


def test_an_upload_whose_outcome_is_unknown_is_not_repeated():
    unknown = exai_files.OutcomeUnknownError("it may be there")
    failed = exceptions.FileUploadError("failed", "kimi", "UPLOAD_FAILED")
    assert not migration_facade._may_be_done(failed)
    failed.__cause__ = unknown
    assert migration_facade._may_be_done(failed)


# ===== the adapter =====


def test_the_adapter_uses_the_bucket_and_the_table(tool, paper):
    adapter = MCPStorageAdapter()
    done = adapter.upload_file(paper, "paper.txt", "text/plain")
    assert (done.success, done.metadata["sha256"], done.metadata["size_bytes"]) == (True, HEXES, 7)
    (row,) = tool.storage.rows()
    assert row["id"] == done.data
    assert adapter.download_file(done.data, row["storage_path"]).data == b"a paper"
    assert adapter.update_file_hash(done.data, HEXES).success
    assert tool.storage.rows()[0]["sha256"] == HEXES
    assert adapter.delete_file(done.data, row["storage_path"]).success
    assert tool.storage.bucket == {}


def test_what_the_adapter_cannot_do_it_says(tool, paper):
    adapter = MCPStorageAdapter()
    assert "no data" in adapter.download_file("none", "none").error
    assert "not found" in adapter.update_file_hash("none", HEXES).error
    assert adapter.upload_file(paper + ".none", "none").success is False
    ran = adapter.execute_sql("DELETE FROM files", {"a": 1})
    assert (ran.success, ran.metadata) == (False, {"query": "DELETE FROM files", "params": {"a": 1}})
    assert "nothing was run" in ran.error


def test_without_the_tools_storage_the_adapter_raises_nothing(paper, monkeypatch):
    monkeypatch.setitem(sys.modules, "src.storage.supabase_client", None)
    monkeypatch.delenv("SUPABASE_PROJECT_ID", raising=False)
    adapter = MCPStorageAdapter()
    results = [adapter.download_file("1", "p"), adapter.delete_file("1", "p"), adapter.upload_file(paper, "n")]
    assert {(result.success, "no src.storage" in result.error) for result in results} == {(False, True)}
    assert adapter.project_id == ""


# ===== the manager of uploads on behalf of users =====


def counted(name: str, **labels: str) -> float:
    metric = getattr(file_metrics, name)
    return (metric.labels(**labels) if labels else metric)._value.get()


def code_of(request: UploadRequest, files: Uploads | None = None) -> str:
    with pytest.raises(exceptions.FileManagementError) as failed:
        asyncio.run((files or Uploads()).upload_file(request))
    assert failed.value.provider == "unified_manager"
    return failed.value.error_code


def test_a_users_file_is_uploaded_once_and_counted_once(there, sim, paper):
    """Faults 44 and 45: quotas were awaited wrongly, attempts and completions did not balance."""
    files, request = Uploads(), UploadRequest(paper, "eve", preferred_provider=Provider.KIMI, metadata={"a": 1})
    active = counted("ACTIVE_UPLOADS")
    attempts = counted("FILE_UPLOAD_ATTEMPTS", provider="kimi", user_id="eve")
    unknown = counted("FILE_UPLOAD_ATTEMPTS", provider="unknown", user_id="eve")
    first, again = (asyncio.run(files.upload_file(request)) for _ in range(2))
    assert first.file_id == again.file_id == sim.moonshot.files[0].id
    assert (first.provider, first.sha256, first.file_size, first.metadata) == (Provider.KIMI, HEXES, 7, {"a": 1})
    assert again.metadata == {"a": 1, "deduplicated": True}
    assert uploads(sim) == 1
    assert counted("ACTIVE_UPLOADS") == active
    assert counted("FILE_UPLOAD_ATTEMPTS", provider="kimi", user_id="eve") == attempts + 2
    assert counted("FILE_UPLOAD_ATTEMPTS", provider="unknown", user_id="eve") == unknown
    expected = {"uploads_total": 2, "uploads_success": 2, "uploads_failed": 0, "bytes_uploaded": 7}
    expected["by_provider"] = {"kimi": {"total": 2, "success": 2, "failed": 0, "bytes": 7}}
    assert files.get_metrics() == expected
    files.get_metrics()["by_provider"].clear()
    assert files.get_metrics() == expected


def test_the_provider_is_the_preferred_one_the_one_that_has_it_or_the_one_for_its_size(here, paper, tmp_path):
    def provider(path, preferred=None):
        return asyncio.run(Uploads().upload_file(UploadRequest(str(path), "eve", "file", preferred))).provider

    large = tmp_path / "large.txt"
    large.write_bytes(b"x" * ((20 << 20) + 1))
    assert provider(large) is Provider.KIMI
    assert provider(paper, Provider.KIMI) is Provider.KIMI
    assert provider(paper) is Provider.KIMI, "it has the file"
    (tmp_path / "small.txt").write_bytes(b"x")
    assert provider(tmp_path / "small.txt") is Provider.GLM


def test_a_provider_that_is_left_in_peace_is_passed_over(here, sim, paper, tmp_path):
    """Fault 45: trips were never counted."""
    trips = counted("CIRCUIT_BREAKER_TRIPS", provider="kimi")
    here.waiting.set_breaker("moonshot", "forced-open")
    files, request = Uploads(), UploadRequest(paper, "eve", preferred_provider=Provider.KIMI)
    assert asyncio.run(files.upload_file(request)).provider is Provider.GLM
    assert counted("CIRCUIT_BREAKER_TRIPS", provider="kimi") == trips + 1
    health = asyncio.run(files.health_check())
    assert health["unified_manager"] == "healthy"
    assert (health["providers"]["glm"], health["providers"]["kimi"].partition(":")[0]) == ("healthy", "unhealthy")
    assert health["circuit_breakers"]["glm"] == {"state": "CLOSED", "failures": 0}
    assert health["metrics"]["uploads_total"] == 2
    here.waiting.set_breaker("zai", "forced-open")
    assert asyncio.run(files.upload_file(request)).metadata == {"deduplicated": True}, "what is there needs no provider"
    (tmp_path / "paper.txt").write_bytes(b"another")
    assert code_of(request) == "ALL_PROVIDERS_UNAVAILABLE"
    assert uploads(sim) == 0


def test_of_one_provider_only_it_is_the_circuit_breaker(here, sim, paper):
    only = {"moonshot": sim.platforms()["moonshot"]}
    with exai_files.Client(registry=":memory:", platforms=only, environment={}) as client:
        connection.use(client)
        client.set_breaker("moonshot", "forced-open")
        assert code_of(UploadRequest(paper, "eve")) == "CIRCUIT_BREAKER_OPEN"


@pytest.mark.parametrize(
    "change",
    [{"file_path": "none.txt"}, {"file_path": "empty.txt"}, {"purpose": "nonsense"}, {"user_id": ""}],
    ids=lambda change: next(iter(change)),
)
def test_what_will_not_do_is_not_valid(here, sim, paper, tmp_path, monkeypatch, change):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").touch()
    assert code_of(UploadRequest(**{"file_path": paper, "user_id": "eve", **change})) == "VALIDATION_FAILED"
    assert uploads(sim) + uploads(sim, "zai") == 0


def test_a_user_may_have_so_much_and_no_more(sim, paper, tmp_path, monkeypatch):
    for _ in opened(":memory:", sim, monkeypatch, quotas={"max_files": 1, "max_file_bytes": 100}):
        files, other = Uploads(), tmp_path / "other.txt"
        other.write_bytes(b"another")
        done = asyncio.run(files.upload_file(UploadRequest(paper, "eve")))
        assert code_of(UploadRequest(str(other), "eve"), files) == "QUOTA_EXCEEDED"
        (tmp_path / "large.txt").write_bytes(b"x" * 101)
        assert code_of(UploadRequest(str(tmp_path / "large.txt"), "bob"), files) == "QUOTA_EXCEEDED"
        assert asyncio.run(files.delete_file(done.file_id, done.provider, "eve")) is True
        assert asyncio.run(files.delete_file(done.file_id, done.provider, "eve")) is True, "it is gone"
        assert asyncio.run(files.upload_file(UploadRequest(str(other), "eve"))).file_size == 7
        assert files.get_metrics()["uploads_failed"] == 2


def test_anything_else_is_unexpected_and_counted_once(here, sim, paper):
    files, active = Uploads(), counted("ACTIVE_UPLOADS")
    sim.zai.fail_next(status=403, times=1, operation="upload")
    assert code_of(UploadRequest(paper, "eve"), files) == "UNEXPECTED_ERROR"
    assert files.get_metrics()["by_provider"]["glm"] == {"total": 1, "success": 0, "failed": 1, "bytes": 0}
    assert counted("ACTIVE_UPLOADS") == active
    done = asyncio.run(files.upload_file(UploadRequest(paper, "eve", preferred_provider=Provider.KIMI)))
    sim.moonshot.fail_next(status=403, times=1, operation="delete")
    assert asyncio.run(files.delete_file(done.file_id, done.provider, "eve")) is False


def test_making_one_asks_nobody(monkeypatch):
    monkeypatch.setattr(connection, "_opened", lambda _: pytest.fail("a client was opened"))
    assert Uploads({"a": 1}).config == {"a": 1}
    assert Uploads().get_metrics()["uploads_total"] == 0


# ===== backfill =====


@pytest.fixture
def bucket(storage) -> Storage:
    """Five files: two with the same bytes, one that is gone, one with a digest."""
    contents = {"user-files": b"1", "generated-files": b"2"}
    for name, content in contents.items():
        storage.bucket[name, "a/b.txt"] = content
    storage.bucket["user-files", "c.txt"] = b"1"
    paths = ("user-files/a/b.txt", "generated-files/a/b.txt", "c.txt", "gone.txt")
    for number, path in enumerate(paths):
        storage.add(id=str(number), storage_path=path, size_bytes=1 << 20)
    storage.add(id="9", storage_path="known.txt", sha256=HEXES)
    return storage


@pytest.mark.parametrize("dry_run", [True, False], ids=["dry run", "for good"])
def test_digests_are_noted_of_all_that_can_be_read(bucket, dry_run, monkeypatch):
    monkeypatch.setattr(backfill_file_hashes, "PAGE", 2)
    before, backfill = bucket.rows(), FileHashBackfill(bucket, dry_run=dry_run)
    assert asyncio.run(backfill.validate_backfill_scope()) == {"total_files": 4, "total_size_mb": 4.0, "warnings": []}
    counts = asyncio.run(backfill.backfill_all(rate_limit=0))
    assert counts == {"processed": 4, "updated": 3 if dry_run else 2, "errors": 1, "skipped": 0 if dry_run else 1}
    if dry_run:
        assert bucket.rows() == before
        return
    noted = {row["id"]: row["sha256"] for row in bucket.rows()}
    one, two = (hashlib.sha256(content).hexdigest() for content in (b"1", b"2"))
    assert noted == {"0": one, "1": two, "2": None, "3": None, "9": HEXES}
    again = asyncio.run(FileHashBackfill(bucket).backfill_all(rate_limit=0))
    assert again == {"processed": 2, "updated": 0, "errors": 1, "skipped": 1}


def test_the_command_says_how_much_there_is_and_does_it(tool, bucket, capsys):
    backfill_file_hashes.main(["--validate-only"])
    assert "'total_files': 4" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        backfill_file_hashes.main(["--dry-run", "--rate-limit", "0", "--batch-size", "2"])
    assert ended.value.code == 1
    assert "'processed': 4" in capsys.readouterr().out
    bucket.database.execute("DELETE FROM files WHERE id = '3'")
    with pytest.raises(SystemExit) as ended:
        backfill_file_hashes.main(["--rate-limit", "0"])
    assert ended.value.code == 0
    assert len([row for row in bucket.rows() if row["sha256"]]) == 3


def test_without_a_client_there_is_nothing_to_backfill():
    with pytest.raises(exai_files.UnsupportedError, match="SUPABASE_URL"):
        asyncio.run(FileHashBackfill(None).backfill_all())


def test_the_shim_of_the_command_runs_it(tmp_path):
    from exai_files.dropin import names

    (tmp_path / "shim.py").write_text(names.shim("exai_files.dropin.backfill_file_hashes"))
    command = [sys.executable, str(tmp_path / "shim.py"), "--help"]
    assert "--validate-only" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
