"""Taking over what the existing EXAI tool noted in its other tables (dropin_contract.md §4.4), and what it lacked."""

from __future__ import annotations

import subprocess
import sys

import databases
import pytest

import exai_files

TABLES = """
    CREATE TABLE files (id uuid PRIMARY KEY, storage_path text UNIQUE NOT NULL, original_name text NOT NULL,
        mime_type text, size_bytes integer, sha256 text, provider text, provider_file_id text, metadata jsonb,
        created_at timestamptz DEFAULT now());
    CREATE TABLE file_hashes (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), file_hash varchar(64) NOT NULL UNIQUE,
        original_file_id uuid, file_size bigint NOT NULL, content_type varchar(255),
        duplicate_count int DEFAULT 0, created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now());
    CREATE TABLE provider_file_uploads (id uuid PRIMARY KEY, provider text CHECK (provider IN ('kimi', 'glm')),
        provider_file_id text, sha256 text, filename text, file_size_bytes integer, upload_status text,
        supabase_file_id text, deleted_at timestamptz, created_at timestamptz DEFAULT now(), user_id text,
        UNIQUE (provider, provider_file_id));
    CREATE TABLE file_id_mappings (id serial PRIMARY KEY, supabase_file_id text NOT NULL, provider_file_id text,
        provider text, user_id text, status text);
"""


def uuid(number):
    return f"00000000-0000-4000-8000-{number:012}"


@pytest.fixture
def tool(sim):
    """The tool's database, with files that are on the platforms and some that it is wrong about."""
    url = databases.new_database("EXAI_TEST_POSTGRES")
    with sim.client() as uploader:
        records = [uploader.upload(f"content {n}".encode(), name=f"{n}.txt", to=["moonshot", "zai"]) for n in range(3)]
    hexes = [record.digest.removeprefix("sha256:") for record in records]
    kimi = [record.on("kimi").remote_id for record in records]
    glm = [record.on("glm").remote_id for record in records]
    databases.psql(url, TABLES)
    databases.psql(
        url,
        f"""
        INSERT INTO files (id, storage_path, original_name, mime_type, size_bytes, sha256)
        VALUES ('{uuid(1)}', 'a/0', '0.txt', 'text/plain', 9, '{hexes[0]}'),
               ('{uuid(2)}', 'a/x', 'unhashed.txt', 'text/plain', 5, NULL),
               ('{uuid(3)}', 'a/y', 'alone.txt', 'text/plain', 5, '{"e" * 64}');
        INSERT INTO file_hashes (id, file_hash, original_file_id, file_size, content_type)
        VALUES ('{uuid(4)}', '{hexes[0]}', '{uuid(1)}', 9, 'text/plain'),
               ('{uuid(5)}', '{"d" * 64}', NULL, 4, 'application/pdf');
        INSERT INTO provider_file_uploads
            (id, provider, provider_file_id, sha256, filename, file_size_bytes, upload_status, supabase_file_id, user_id,
             deleted_at, created_at)
        VALUES ('{uuid(10)}', 'kimi', '{kimi[0]}', '{hexes[0]}', '0.txt', 9, 'completed', '{uuid(1)}', 'eve', NULL, now()),
               ('{uuid(11)}', 'kimi', '{kimi[1]}', '{hexes[1].upper()}', '1.txt', 9, 'completed', NULL, 'eve', NULL, now()),
               ('{uuid(12)}', 'kimi', 'second-copy', '{hexes[1]}', '1.txt', 9, 'completed', NULL, NULL, NULL, '2020-01-01Z'),
               ('{uuid(13)}', 'kimi', 'no-digest', NULL, 'n.txt', 9, 'completed', NULL, NULL, NULL, now()),
               ('{uuid(14)}', 'kimi', 'bad-digest', 'abc', 'b.txt', 9, 'completed', NULL, NULL, NULL, now()),
               ('{uuid(15)}', 'kimi', 'never-done', '{"a" * 64}', 'p.txt', 9, 'pending', NULL, NULL, NULL, now()),
               ('{uuid(16)}', 'glm', 'gone', '{"b" * 64}', 'g.txt', 9, 'completed', NULL, NULL, now(), now()),
               ('{uuid(17)}', 'glm', NULL, '{"c" * 64}', 'i.txt', 9, 'completed', NULL, NULL, NULL, now());
        INSERT INTO file_id_mappings (supabase_file_id, provider_file_id, provider, status)
        VALUES ('{uuid(1)}', '{glm[0]}', 'glm', 'completed'), ('{uuid(1)}', '{kimi[0]}', 'kimi', 'completed'),
               ('{uuid(2)}', 'of-unhashed', 'kimi', 'completed'), ('{uuid(1)}', 'failed-one', 'kimi', 'failed'),
               ('{uuid(99)}', 'of-nothing', 'tencent', 'completed');
        """,
    )
    return url, records


WHY = {
    uuid(2): "it has no digest",
    uuid(12): "moonshot holds a later copy of the same content than second-copy",
    uuid(13): "it has no digest",
    uuid(14): '"abc" is no SHA-256',
    uuid(15): "its upload is pending",
    uuid(17): "it has no id of the provider's",
    "3": f"its file {uuid(2)} has no digest",
    "4": "its upload is failed",
    "5": f"its file {uuid(99)} has no digest",
}


@pytest.fixture(params=["file", "database"])
def registry(request, tmp_path):
    is_file = request.param == "file"
    place = databases.place(tmp_path / "r.db") if is_file else databases.new_database("EXAI_TEST_PGBOUNCER")
    with exai_files.Database(registry=place, environment={}) as database:
        database.migrate()
        yield place, database


def test_what_the_tool_knew_is_taken_in_once_and_what_it_got_wrong_is_said(sim, tool, registry):
    url, records = tool
    place, database = registry
    planned = database.import_rows(url, dry_run=True)
    with sim.client(registry=place) as files:
        assert list(files.list()) == [], "a dry run changes nothing"
    done = database.import_rows(url)
    assert done == planned
    # Two with copies, alone.txt, the hash without a file, and four whose uploads came to nothing.
    assert (done.contents, done.replicas, done.known_contents) == (7, 3, 0)
    assert {reject.id: reject.why for reject in done.rejects if reject.id != uuid(16)} == WHY
    assert next(reject.why for reject in done.rejects if reject.id == uuid(16)).startswith("it was deleted at ")
    again = database.import_rows(url)
    assert (again.contents, again.replicas, again.known_contents, again.known_replicas) == (0, 0, 7, 3)
    with sim.client(registry=place) as files:
        first = files.get(records[0].digest)
        assert (first.name, first.size, first.mime) == ("0.txt", 9, "text/plain")
        assert {replica.remote_id for replica in first.replicas} == {r.remote_id for r in records[0].replicas}
        assert files.get("alone.txt").replicas == ()
        assert files.get("d" * 64).name == "d" * 12
        assert {record.name for record in files.list(owner="eve")} == {"1.txt"}


def test_what_was_taken_in_stands_in_for_uploads_once_the_platform_was_asked(sim, tool, registry):
    url, _ = tool
    place, database = registry
    database.import_rows(url)
    with sim.client(registry=place) as files:
        before = len(sim.truth(operation="upload"))
        done = files.reconcile(winner="platform", account="default")
        believed = [each for each in done.differences if each.action == "believe"]
        assert len(believed) == 3
        assert all(each.is_done and "not known here" in each.why[-1] for each in believed)
        assert len(done.orphans) == 3, "the third file, and the second on Z.ai"
        again = files.upload(b"content 0", name="0.txt", to=["moonshot", "zai"])
        assert [replica.origin for replica in again.replicas] == ["already-there", "already-there"]
        assert len(sim.truth(operation="upload")) == before
        assert files.text(again, platform="moonshot") == "content 0"
        assert files.reconcile(only_remote="adopt").equal == 3


def test_the_command_says_what_it_rejects(tool, tmp_path):
    url, _ = tool

    def run(*args, **environment):
        command = [sys.executable, "-m", "exai_files", "--registry", str(tmp_path / "r.db"), "db", "import", *args]
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **environment}
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    done = run("--from", "TOOL_URL", "--dry-run", TOOL_URL=url)
    assert done.returncode == 3
    assert done.stdout.startswith("7 contents and 3 copies would be taken in; 0 and 0 were known\n")
    assert "it has no digest" in done.stdout
    assert run("--from", "TOOL_URL").returncode == 2
    assert run().returncode == 2, "the tool's tables are in PostgreSQL"
    refused = run("--from", "TOOL_URL", TOOL_URL=databases.new_database("EXAI_TEST_POSTGRES"))
    assert (refused.returncode, "none of the EXAI tool's tables" in refused.stderr) == (2, True)


def test_an_adopted_database_imports_its_own_other_tables(sim, tool):
    url, _ = tool
    with exai_files.Database(registry=url, environment={}) as database:
        database.migrate()
        done = database.import_rows()
        assert done.replicas == 3
        assert database.import_rows().known_replicas == 3
