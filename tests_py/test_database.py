"""The registry's database: its schema, and a PostgreSQL in place of the file."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import databases
import pytest

import exai_files
from exai_files.errors import ConfigError, RegistryError

pytestmark = pytest.mark.once

OF_THE_TOOL = """
    CREATE TABLE file_uploads (id uuid PRIMARY KEY, filename text);
    INSERT INTO file_uploads VALUES ('00000000-0000-4000-8000-000000000001', 'old.txt');
"""


@pytest.fixture(params=["EXAI_TEST_POSTGRES", "EXAI_TEST_PGBOUNCER"], ids=["direct", "pooled"])
def url(request):
    return databases.new_database(request.param)


def cli(*args, **environment):
    command = [sys.executable, "-m", "exai_files", *args]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", **environment})
    return done.returncode, done.stdout, done.stderr


def test_hosts_that_share_a_database_share_what_is_known(sim, url):
    with sim.client(registry=url) as one, sim.client(registry=url) as other:
        sent = one.upload(b"hello", name="a.txt", to=["moonshot", "zai"])
        there = other.upload(b"hello", name="b.txt", to="moonshot")
        assert there.on("moonshot").origin == "already-there"
        assert other.get(sent.digest).name == "a.txt"
        assert [record.digest for record in other.list()] == [sent.digest]
        one.set_breaker("zai", "forced-open")
        with pytest.raises(exai_files.CircuitOpenError):
            other.upload(b"other", name="c.txt", to="zai")
    assert len(sim.moonshot.files) == 1


def test_tables_of_the_tool_are_adopted_when_asked(sim, url):
    databases.psql(url, OF_THE_TOOL)
    with pytest.raises(RegistryError, match="file_uploads") as refused:
        sim.client(registry=url)
    assert "db plan" in refused.value.hint
    with exai_files.Database(registry=url) as database:
        plan = database.plan()
        assert plan.adopts == ("file_uploads",)
        assert "ADD COLUMN IF NOT EXISTS" in plan.steps[0].sql
        assert database.status().version == 0
        status = database.migrate()
        assert (status.version, status.drift, status.size > 0) == (status.latest, (), True)
        assert database.plan() == exai_files.SchemaPlan(adopts=(), steps=())
    with sim.client(registry=url) as files:
        files.upload(b"new", name="new.txt", to="moonshot")
    assert databases.psql(url, "SELECT filename FROM file_uploads ORDER BY filename") == "new.txt\nold.txt"


def test_the_command_plans_migrates_and_says_how_it_is(tmp_path):
    url = databases.new_database("EXAI_TEST_POSTGRES")
    databases.psql(url, OF_THE_TOOL)
    home = {"HOME": str(tmp_path), "EXAI_FILES_REGISTRY__URL": url}
    code, planned, _ = cli("db", "plan", **home)
    assert (code, planned.startswith("-- takes over, with every row: file_uploads\n")) == (0, True)
    assert cli("db", "status", **home)[0] == 10
    assert cli("ls", **home)[0] == 1
    code, _, said = cli("db", "migrate", **home)
    assert code == 0, said
    code, status, _ = cli("db", "status", "--json", **home)
    assert (code, json.loads(status)["drift"]) == (0, [])
    assert cli("db", "plan", **home)[1] == "-- nothing to do\n"
    databases.psql(url, "ALTER TABLE upload_intents DROP COLUMN fence")
    code, status, _ = cli("db", "status", **home)
    assert (code, "no column upload_intents.fence" in status) == (10, True)


def test_the_command_knows_the_file_too(tmp_path):
    code, status, _ = cli("--registry", str(tmp_path / "r.db"), "db", "status", HOME=str(tmp_path))
    assert code == 0
    assert re.search(r"schema (\d+) of \1,", status)


def test_a_password_is_nowhere(tmp_path, caplog):
    secret = "s3cret-of-the-database"
    url = f"postgres://somebody:{secret}@127.0.0.1:1/nowhere?sslmode=disable"
    with caplog.at_level(1), pytest.raises(RegistryError) as unreachable:
        exai_files.Client(registry=url, settings={"registry": {"timeout": 0.2}}, environment={})
    seen = [str(unreachable.value), repr(unreachable.value), repr(vars(unreachable.value)), caplog.text]
    code, _, said = cli("--registry", url, "ls", HOME=str(tmp_path))
    assert (code, "command line" in said) == (2, True)
    seen.append(said.replace(url, ""))
    (tmp_path / "c.toml").write_text(f'registry.url = "{url}"')
    with pytest.raises(ConfigError, match="EXAI_FILES_REGISTRY__URL") as in_file:
        exai_files.Client(config_file=tmp_path / "c.toml", environment={})
    assert not [text for text in [*seen, str(in_file.value)] if secret in text]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        pytest.param("mysql://localhost/x", "must begin with postgres://", id="other scheme"),
        pytest.param("postgres://localhost/x?password=y", "before its host", id="password as parameter"),
        pytest.param("postgres://", "names no host", id="no host"),
        pytest.param("postgres://localhost:x/y", "cannot be used", id="port"),
        pytest.param("postgres://localhost/x?nonsense=1", "cannot be used", id="unknown parameter"),
    ],
)
def test_a_wrong_url_is_refused(url, said):
    with pytest.raises(ConfigError, match=said):
        exai_files.Client(registry=url, environment={})


def test_tls_is_checked(tmp_path):
    def encrypted(server):
        return databases.new_database(server).replace("sslmode=disable", "sslmode=require")

    with pytest.raises(RegistryError, match="TLS"):  # which the pooler does not speak
        exai_files.Client(
            registry=encrypted("EXAI_TEST_PGBOUNCER"), settings={"registry": {"timeout": 2}}, environment={}
        )
    url = encrypted("EXAI_TEST_POSTGRES").replace("127.0.0.1", "localhost")
    with pytest.raises(RegistryError, match="certificate"):
        exai_files.Client(registry=url, environment={})
    with exai_files.Client(
        registry=url, settings={"registry": {"ca_bundle": os.environ["EXAI_TEST_CA"]}}, environment={}
    ) as files:
        assert list(files.list()) == []
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match="ca_bundle"):
        exai_files.Client(registry=url, settings={"registry": {"ca_bundle": str(tmp_path / "ca.pem")}}, environment={})


def test_old_history_is_removed_when_asked_for(sim, tmp_path):
    registry = databases.place(tmp_path / "r.db")
    with sim.client(registry=registry) as files:
        for number in range(3):
            files.upload(str(number).encode(), name=f"{number}.txt", to="moonshot")
    moment = "timestamptz '2020-01-01Z'" if "://" in registry else "1577836800000000"
    databases.query(registry, f"UPDATE upload_intents SET updated_at = {moment} WHERE remote_name LIKE '0%'")
    with exai_files.Database(registry=registry, environment={}) as database:
        assert database.maintain(dry_run=True).removed["upload_intents"] == 1
        assert database.maintain(keep=timedelta(days=1)).removed["upload_intents"] == 1
        assert database.maintain(keep=0).removed["upload_intents"] == 0, "what is younger than a day stays"
        for wrong in (-1, None, True, "90d", float("nan")):
            with pytest.raises(exai_files.InvalidRequestError):
                database.maintain(keep=wrong)
    with sim.client(registry=registry) as files:
        assert files.upload(b"0", name="0.txt", to="moonshot").replicas[0].origin == "already-there"
    code, said, _ = cli("--registry", registry, "db", "maintain", "--keep-days", "0", HOME=str(tmp_path))
    assert (code, "upload_intents: 0 rows removed" in said) == (0, True)


@pytest.mark.parametrize(("seconds", "works"), [(0, True), (5, True), (3_600, False), (-3_600, False)])
def test_a_machine_whose_clock_is_off_does_not_take_part(url, tmp_path, seconds, works):
    shim = tmp_path / "clock_shim.so"
    source = Path(__file__).parent.parent / "benches" / "clock_shim.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(shim), str(source)], check=True)
    offset = tmp_path / "offset"
    offset.write_bytes(struct.pack("l", seconds))
    environment = {"LD_PRELOAD": str(shim), "CLOCK_OFFSET_FILE": str(offset), "HOME": str(tmp_path)}
    code, _, said = cli("ls", EXAI_FILES_REGISTRY__URL=url, **environment)
    assert (code == 0) == works, said
    assert works or "clock is 3600 s from that of the registry's server" in said
