"""What time asks for, as users meet it: recovery, kept copies, the audit log; in Python and in the shell."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import databases
import pytest
from waiting import deadline

import exai_files
from exai_files import audit_verifier

pytestmark = pytest.mark.once

KEEPS = {"recovery": {"every": 0}}


@pytest.fixture
def place(tmp_path):
    return databases.place(tmp_path / "registry.db")


def shell(tmp_path, sim, place, *args):
    config = tmp_path / "exai-files.toml"
    tables = "".join(
        f"[platforms.{name}]\n"
        + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items() if key != "api_key")
        for name, table in sim.platforms().items()
    )
    key = f"[audit]\nkey_file = {json.dumps(str(tmp_path / 'audit.key'))}\n"
    config.write_text(f"[copies]\nplace = {json.dumps(str(tmp_path / 'copies'))}\n{key}{tables}")
    keys = {
        "MOONSHOT_API_KEY": sim.platforms()["moonshot"]["api_key"],
        "ZAI_API_KEY": sim.platforms()["zai"]["api_key"],
    }
    where = {"EXAI_FILES_REGISTRY__URL": place} if "://" in str(place) else {"EXAI_FILES_REGISTRY__PATH": str(place)}
    done = subprocess.run(
        [sys.executable, "-m", "exai_files", "--config", str(config), *args],
        capture_output=True,
        text=True,
        env={**os.environ, **keys, **where},
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_log_is_read_exported_signed_and_proved_in_the_shell_and_without_us(sim, tmp_path, place):
    def run(*args):
        return shell(tmp_path, sim, place, *args)

    (tmp_path / "paper.txt").write_text("a paper")
    assert run("upload", "paper.txt", "--to", "moonshot")[0] == 0
    assert run("rm", "paper.txt", "--yes")[0] == 0
    code, said, _ = run("audit", "tail", "--json")
    assert code == 0
    actions = [json.loads(line)["record"]["action"] for line in said.splitlines()]
    assert actions == ["audit.begin", "copy.keep", "upload", "delete", "copy.drop"]
    assert "paper" not in said
    (tmp_path / "checkpoints").write_text(run("audit", "checkpoint")[1])
    (tmp_path / "key").write_text(run("audit", "key")[1])
    assert run("audit", "export", "log.jsonl")[:2] == (0, "5 records\n")
    log = tmp_path / "log.jsonl"
    code, said, complained = run("audit", "export", "-")
    assert (code, said, complained) == (0, log.read_text(), "5 records\n")
    log.write_text("another one's")
    code, _, complained = run("audit", "export", "log.jsonl")
    assert (code, log.read_text()) == (2, "another one's")
    assert "there is log.jsonl already: add --force to replace it" in complained
    assert run("audit", "export", "log.jsonl", "--force")[0] == 0
    code, said, complained = run("audit", "verify", "--checkpoints", "checkpoints", "--key", "key")
    assert (code, complained) == (0, ""), said
    assert said.startswith("intact: 5 records, 2 checkpoints, root "), said
    code, _, complained = run("audit", "verify")
    assert code == 0
    assert "without a checkpoint kept elsewhere" in complained
    (tmp_path / "proof.json").write_text(run("audit", "prove", "2")[1])
    assert json.loads((tmp_path / "proof.json").read_text())["schema"] == 1

    alone = [sys.executable, audit_verifier.__file__, "log.jsonl", "--key", "key", "--checkpoint", "checkpoints"]
    done = subprocess.run([*alone, "--proof", "proof.json"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    log.write_text(log.read_text().replace('"action":"upload"', '"action":"delete"'))
    done = subprocess.run(alone, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 12
    assert "prev: record 2: record 3 does not follow the one before it\n" in done.stdout
    assert "NOT INTACT: 5 records" in done.stdout


def test_a_log_that_was_cut_off_is_found_against_a_checkpoint(sim, tmp_path, place):
    settings = {**KEEPS, "audit": {"key_file": str(tmp_path / "key"), "checkpoint_file": str(tmp_path / "kept")}}
    with sim.client(registry=place, settings=settings) as files:
        for number in range(3):
            files.upload(f"{number}".encode(), name="a.txt", to="zai")
        last = files.audit.checkpoint()
        assert (last.size, (tmp_path / "kept").read_text().count(last.note)) == (4, 1)
        assert files.audit.verify(checkpoints=tmp_path / "kept").is_intact
        databases.query(place, "DELETE FROM audit_log WHERE seq > 2")
        databases.query(place, "DELETE FROM audit_checkpoints")
        assert files.audit.verify().is_intact, "nobody can see it"
        report = files.audit.verify(checkpoints=tmp_path / "kept")
        assert not report.is_intact
        assert report.findings[0].seq == 3
        with pytest.raises(exai_files.InvalidRequestError):
            files.audit.verify(checkpoints=tmp_path / "key")
        with pytest.raises(exai_files.NotFoundError):
            files.audit.prove(99)
        for impossible in (-1, 2**63, 2**70, True, "1"):
            with pytest.raises(exai_files.InvalidRequestError, match="from 0 to 9223372036854775807"):
                files.audit.prove(impossible)


def test_records_are_asked_for_by_file_and_action_waiting_or_awaited(sim, place):
    with sim.client(registry=place, settings=KEEPS) as files:
        one, _two = (files.upload(name.encode(), name=f"{name}.txt", to="zai") for name in ("one", "two"))
        (record,) = files.audit.query(file=one)
        assert (record.action, f"sha256:{record.digest}") == ("upload", one.digest)
        assert [each.seq for each in files.audit.query(action="upload")] == [1, 2]
        assert [each.seq for each in files.audit.query(after=0, limit=1)] == [1]
        assert files.audit.query(since=3600) == files.audit.query()
        assert files.audit.query(until=3600) == []
        assert files.audit.query(limit=0) == []
        for digest in (one.digest, one.digest.upper(), one.digest[7:], one.digest[7:].upper()):
            assert files.audit.query(file=digest) == [record]
        for unknown in (one.replicas[0], one.name, one.digest[:20], one.digest + "0", one.replicas[0].remote_id, 7):
            with pytest.raises(exai_files.InvalidRequestError, match="pass the file's record, or its whole digest"):
                files.audit.query(file=unknown)

    async def awaited():
        async with sim.async_client(registry=place, settings=KEEPS) as files:
            assert len(await files.audit.query(file=one)) == 1
            assert (await files.audit.verify()).is_intact
            assert (await files.audit.checkpoint()).size == 3
            assert (await files.audit.prove(1))["index"] == 1
            assert await files.recovery.list() == await files.recovery.run() == []

    asyncio.run(awaited())


def test_a_record_that_is_no_json_is_shown_as_it_is(sim, tmp_path, place):
    (tmp_path / "a.txt").write_text("a")
    assert shell(tmp_path, sim, place, "upload", "a.txt", "--to", "zai")[0] == 0
    assert shell(tmp_path, sim, place, "audit", "tail")[0] == 0, "each record has its place from now on"
    for seq, text in ((1, "{no json"), (2, "[2]")):
        databases.query(place, f"UPDATE audit_log SET record = '{text}' WHERE seq = {seq}")
    for command in ("tail", "query"):
        code, said, complained = shell(tmp_path, sim, place, "audit", command)
        assert (code, complained) == (0, "")
        assert [line.split("  ")[-1].strip() for line in said.splitlines()[1:]] == ["{no json", "[2]"]
        _, said, _ = shell(tmp_path, sim, place, "audit", command, "--json")
        assert [json.loads(line)["record"] for line in said.splitlines()[1:]] == ["{no json", "[2]"]


def test_a_dead_process_leaves_work_that_the_next_client_finishes(sim, tmp_path, place):
    path = tmp_path / "report.txt"
    path.write_text("a report")
    sim.moonshot.fault({"kind": "delay", "before_ms": 60_000}, when={"next": 1}, operation="upload")
    code = f"""
import json, sys, exai_files
with exai_files.Client(registry=sys.argv[2], platforms=json.loads(sys.argv[1]), environment={{}}) as files:
    files.upload({str(path)!r}, to="moonshot")
"""
    process = subprocess.Popen([sys.executable, "-c", code, json.dumps(sim.platforms()), place])
    in_time = deadline()
    while databases.query(place, "SELECT 1 FROM upload_intents WHERE phase = 'sending'") != "1":
        assert process.poll() is None
        in_time()
    process.kill()
    process.wait()
    sim.admin("DELETE", "/faults")
    long_ago = "'epoch'" if databases.IS_POSTGRES else "0"
    databases.query(place, f"UPDATE upload_intents SET lease_until = {long_ago}")
    with sim.client(registry=place, settings={**KEEPS, "retry": {"commit_horizon": 0.2}}) as files:
        (unfinished,) = files.recovery.list()
        assert (unfinished.kind, unfinished.name, unfinished.is_dead) == ("upload", "report.txt", False)
        (step,) = files.recovery.run()
        assert step.result == "finished", step
        assert files.recovery.list() == []
        assert len(sim.moonshot.files) == 1
        assert files.get("report.txt").replicas[0].remote_id == sim.moonshot.files[0].id
        with pytest.raises(exai_files.NotFoundError):
            files.recovery.explain("0000")


def test_every_client_recovers_by_itself(sim, tmp_path, place):
    with sim.client(registry=place, settings=KEEPS) as files:
        files.upload(b"x", name="x.txt", to="moonshot")
    stale = "updated_at = 'epoch'" if databases.IS_POSTGRES else "updated_at = 0"
    databases.query(place, f"UPDATE platform_file_registry SET status = 'deleting', {stale}")
    with sim.client(registry=place) as files:
        in_time = deadline()
        while sim.moonshot.files:
            files.recovery.list()
            in_time()
        assert files.get("x.txt").replicas == ()


def test_lost_files_come_back_from_kept_copies(sim, tmp_path):
    copies = {"copies": {"place": str(tmp_path / "copies")}, **KEEPS}
    with sim.client(settings=copies) as files:
        first = files.upload(b"precious", name="p.txt", to="moonshot").replicas[0]
        sim.admin("DELETE", f"/files/moonshot/{first.remote_id}")
        assert files.ensure("p.txt", platform="moonshot", max_age=0).remote_id != first.remote_id
        assert files.copies.check(read=1.0).is_whole
        for impossible in (-0.1, 1.1, float("nan"), float("inf"), "1", None, True):
            with pytest.raises(exai_files.InvalidRequestError, match="from 0 to 1"):
                files.copies.check(read=impossible)
        assert files.copies.collect(dry_run=True).removed == ()
        (kept,) = [path for path in Path(tmp_path / "copies").rglob("*") if path.is_file()]
        kept.unlink()
        assert len(files.copies.check().missing) == 1
    with sim.client(settings=KEEPS) as files, pytest.raises(exai_files.ConfigError, match=r"copies\.place"):
        files.copies.check()


def test_what_a_writer_that_died_left_beside_the_copies_goes_once_it_is_old(sim, tmp_path):
    with sim.client(settings={"copies": {"place": str(tmp_path)}, **KEEPS}) as files:
        files.upload(b"hello", name="hello.txt", to="moonshot")
        (kept,) = (path for path in tmp_path.rglob("*") if path.is_file())
        old, young, another = (kept.with_name(name) for name in (f"{kept.name}#1", f"{kept.name}#2", "theirs#1"))
        for path in (old, young, another):
            path.write_bytes(b"hel")
        for path in (old, another):
            os.utime(path, (0, 0))
        assert files.copies.collect(dry_run=True).bytes == 3
        assert old.exists()
        assert files.copies.collect() == exai_files.CopyCollection(removed=(), bytes=3)
        assert {path for path in tmp_path.rglob("*") if path.is_file()} == {kept, young, another}


def test_a_file_moves_from_one_platform_to_another(sim, tmp_path, place):
    (tmp_path / "a.txt").write_text("a")
    with sim.client(registry=place, settings=KEEPS) as files:
        files.upload(tmp_path / "a.txt", to="moonshot")
        moved = files.move("a.txt", from_="moonshot", to="zai")
        assert [replica.platform for replica in moved.replicas] == ["zai"]
        assert (sim.moonshot.files, len(sim.zai.files)) == ([], 1)
        (note,) = files.audit.query(action="move")
        assert note.action == "move"
        with files.lease("a.txt", platform="zai", for_=60), pytest.raises(exai_files.ConflictError, match="leased"):
            files.move("a.txt", from_="zai", to="moonshot")
        with pytest.raises(exai_files.NotFoundError, match="not on moonshot"):
            files.move("a.txt", from_="moonshot", to="zai")

    async def back():
        async with sim.async_client(registry=place, settings=KEEPS) as files:
            return await files.move("a.txt", from_="zai", to="moonshot")

    assert [replica.platform for replica in asyncio.run(back()).replicas] == ["moonshot"]
    code, said, _ = shell(tmp_path, sim, place, "mv", "a.txt", "--from", "moonshot", "--to", "zai")
    assert (code, said) == (0, f"a.txt: moonshot -> zai {sim.zai.files[0].id}\n")
    assert shell(tmp_path, sim, place, "mv", "a.txt", "--from", "moonshot", "--to", "zai")[0] == 4


def test_copies_are_checked_in_the_shell(sim, tmp_path, place):
    (tmp_path / "a.txt").write_text("a")
    assert shell(tmp_path, sim, place, "upload", "a.txt", "--to", "zai")[0] == 0
    code, said, _ = shell(tmp_path, sim, place, "copies", "check", "--read-data-subset", "100%")
    assert (code, said) == (0, "1 copies, 1 of them read (1 B)\n")
    next(path for path in (tmp_path / "copies").rglob("*") if path.is_file()).write_text("b")
    assert shell(tmp_path, sim, place, "copies", "check", "--read-data-subset", "100%")[0] == 12
    assert shell(tmp_path, sim, place, "copies", "gc", "--dry-run")[:2] == (0, "0 copies (0 B) would be removed\n")
    assert shell(tmp_path, sim, place, "recover")[:2] == (0, "")
    assert shell(tmp_path, sim, place, "recover", "list", "--json")[:2] == (0, "")
    assert shell(tmp_path, sim, place, "recover", "explain", "nothing")[0] == 4
