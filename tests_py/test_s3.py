"""Copies kept in a bucket of a real S3 server: written, healed from, checked, tidied up, and refused."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import random
import re
import socket
import subprocess
import sys
import threading
import traceback
import uuid

import databases
import pytest
import s3_server
from s3_server import BUCKET, KEY, READER, READER_SECRET, SECRET
from test_secrets import assert_absent

import exai_files
from exai_files.errors import ConfigError, NotFoundError, PlatformTimeoutError, RegistryError, SourceChangedError

pytestmark = pytest.mark.once

s3 = s3_server.s3

LONG_AGO = "'epoch'" if databases.IS_POSTGRES else "0"
SMALL = b"precious"
LARGE = random.Random(7).randbytes(10 << 20).hex().encode()
PARTS_OF_LARGE = 4  # of 5 MiB


def unique():
    """32 bytes that no other test has: paths that hold the same bytes would heal each other's files."""
    return uuid.uuid4().hex.encode()


def digest_of(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Kept:
    """A prefix of the bucket, a client's settings for it, and what lies there."""

    def __init__(self, s3, sim, registry):
        self.prefix = f"test-{uuid.uuid4().hex}/of/copies"
        self._s3, self._sim, self._registry = s3, sim, registry

    def options(self, **changes):
        """`Client`'s, for these copies; changed are any of the setting names `copies` has, and the key."""
        place = changes.pop("place", f"s3://{BUCKET}/{self.prefix}")
        key, secret = changes.pop("key", KEY), changes.pop("secret", SECRET)
        copies = {"place": place, "endpoint": self._s3.endpoint, **changes}
        return {
            "registry": self._registry,
            "settings": {"recovery": {"every": 0}, "copies": copies},
            "environment": {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret},
        }

    def client(self, **changes):
        return self._sim.client(**self.options(**changes))

    def key(self, digest):
        hex = digest.removeprefix("sha256:")
        return f"{self.prefix}/sha256/{hex[:2]}/{hex}"

    @property
    def keys(self):
        return self._s3.keys(self.prefix)

    def lose(self, record, platform="moonshot"):
        self._sim.admin("DELETE", f"/files/{platform}/{record.on(platform).remote_id}")


@pytest.fixture
def registry(tmp_path):
    return databases.place(tmp_path / "registry.db")


@pytest.fixture
def kept(s3, sim, registry):
    return Kept(s3, sim, registry)


@pytest.fixture
def spool(tmp_path, monkeypatch):
    """Where fetched copies are put for as long as they are needed."""
    directory = tmp_path / "spool"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


# ===== written and healed from =====


def test_a_file_is_kept_once_in_the_bucket_under_its_digest(s3, kept):
    with kept.client() as files:
        record = files.upload(SMALL, name="p.txt", to=["moonshot", "zai"])
        files.upload(SMALL, name="again.txt", to="moonshot")
        assert kept.keys == [kept.key(record.digest)]
        assert s3.get(kept.key(record.digest)) == SMALL
        assert [each.digest for each in files.audit.query(action="copy.keep")] == [record.digest[7:]]


@pytest.mark.parametrize("prefix", ["", "/", "/a b/ü"], ids=["none", "slash", "to-be-escaped"])
def test_any_prefix_of_a_bucket_will_do(s3, kept, prefix):
    content = unique()
    with kept.client(place=f"s3://{BUCKET}{prefix}") as files:
        files.upload(content, name="p.txt", to="zai")
        assert files.copies.check(read=1.0).read == 1
        assert files.copies.collect().removed == ()


@pytest.mark.parametrize(
    ("content", "parts"), [pytest.param(SMALL, 0, id="at-once"), pytest.param(LARGE, PARTS_OF_LARGE, id="in-parts")]
)
def test_a_lost_file_is_made_anew_from_the_bucket_when_its_path_is_gone(s3, sim, kept, tmp_path, spool, content, parts):
    path = tmp_path / "report.txt"
    path.write_bytes(content)
    with kept.client() as files:
        record = files.upload(path, to="moonshot")
        assert (s3.parts(kept.key(record.digest)), s3.unfinished()) == (parts, "")
        path.unlink()
        kept.lose(record)
        healed = files.ensure(record, platform="moonshot", max_age=0)
        (stored,) = sim.moonshot.files
        assert (stored.id, f"sha256:{stored.sha256}") == (healed.remote_id, record.digest)
        assert stored.id != record.on("moonshot").remote_id
        assert s3.get(kept.key(record.digest)) == content
    assert list(spool.iterdir()) == []


def test_a_lost_file_is_made_anew_by_another_client_that_awaits(sim, kept):
    with kept.client() as files:
        record = files.upload(SMALL, name="p.txt", to="moonshot")
    kept.lose(record)

    async def heal():
        async with sim.async_client(**kept.options()) as files:
            assert (await files.copies.check(read=1.0)).read == 1
            return await files.ensure(record, platform="moonshot", max_age=0)

    assert asyncio.run(heal()).remote_id == sim.moonshot.files[0].id


def test_other_bytes_in_the_bucket_are_not_put_on_a_platform(s3, sim, kept, spool):
    with kept.client() as files:
        record = files.upload(SMALL, name="p.txt", to="moonshot")
        s3.put(kept.key(record.digest), b"precioux")
        kept.lose(record)
        with pytest.raises(NotFoundError):
            files.ensure(record, platform="moonshot", max_age=0)
    assert sim.moonshot.files == []
    assert list(spool.iterdir()) == []


def test_a_file_that_changes_while_it_is_copied_leaves_no_parts_in_the_bucket(s3, sim, kept, tmp_path):
    path, is_over = tmp_path / "changing.txt", threading.Event()
    path.write_bytes(LARGE)

    def change():
        with path.open("r+b", buffering=0) as file:
            while not is_over.is_set():
                os.pwrite(file.fileno(), random.randbytes(8).hex().encode(), len(LARGE) - 16)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        with kept.client() as files, pytest.raises(SourceChangedError):
            files.upload(path, to="moonshot")
    finally:
        is_over.set()
        changing.join()
    assert (kept.keys, s3.unfinished(), sim.moonshot.files) == ([], "", [])


# ===== checked and tidied up =====

DAMAGE = {
    "removed": lambda s3, key: s3.delete(key),
    "cut-short": lambda s3, key: s3.put(key, SMALL[:-1]),
    "altered": lambda s3, key: s3.put(key, SMALL.upper()),
}


@pytest.mark.parametrize(
    ("damage", "read", "missing", "damaged"),
    [
        pytest.param("removed", 0.0, 1, 0, id="removed"),
        pytest.param("cut-short", 0.0, 0, 1, id="cut-short"),
        pytest.param("altered", 0.0, 0, 0, id="altered-and-not-read"),
        pytest.param("altered", 1.0, 0, 1, id="altered-and-read"),
    ],
)
def test_a_check_finds_what_was_done_to_a_copy(s3, kept, damage, read, missing, damaged):
    with kept.client() as files:
        record = files.upload(SMALL, name="p.txt", to="moonshot")
        files.upload(b"another one", name="other.txt", to="moonshot")
        assert files.copies.check(read=1.0).is_whole
        DAMAGE[damage](s3, kept.key(record.digest))
        found = files.copies.check(read=read)
        assert (found.checked, found.is_whole) == (2, not missing + damaged)
        assert found.missing == (record.digest,) * missing
        assert found.damaged == (record.digest,) * damaged
        assert len(files.audit.query(action="copy.drop")) == missing + damaged


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_copy_that_is_none_any_more_is_made_anew_by_the_next_upload(s3, kept, damage):
    with kept.client() as files:
        record = files.upload(SMALL, name="p.txt", to="moonshot")
        DAMAGE[damage](s3, kept.key(record.digest))
        assert not files.copies.check(read=1.0).is_whole
        files.upload(SMALL, name="p.txt", to="zai")
        found = files.copies.check(read=1.0)
        assert (found.read, found.is_whole) == (1, True)
        assert s3.get(kept.key(record.digest)) == SMALL


def test_gc_removes_what_this_registry_left_there_and_that_is_not_young(s3, kept, registry):
    with kept.client() as files:
        needed = files.upload(SMALL, name="p.txt", to="moonshot")
        left, another = digest_of(b"left by a process that died"), digest_of(b"of another registry")
        leave(s3, kept, registry, b"left by a process that died")
        s3.put(kept.key(another), b"of another registry")
        s3.put(f"{kept.prefix}/sha256/notes.txt", b"not ours")
        s3.put(f"{kept.prefix}/elsewhere/{left[7:]}", b"not ours")
        databases.query(registry, f"UPDATE kept_copies SET kept_at = {LONG_AGO}")
        leave(s3, kept, registry, b"young", noted="strftime('%s', 'now') * 1000000", noted_there="now()")
        before = kept.keys
        assert files.copies.collect(dry_run=True) == exai_files.CopyCollection((left,), 27)
        assert kept.keys == before
        assert files.copies.collect().removed == (left,)
        assert set(before) - set(kept.keys) == {kept.key(left)}
        assert files.copies.collect().removed == ()
        assert s3.get(kept.key(needed.digest)) == SMALL


def leave(s3, kept, registry, content, noted=None, noted_there=None):
    """A copy whose writer died before it was done."""
    at = (noted_there if databases.IS_POSTGRES else noted) or LONG_AGO
    row = f"('{digest_of(content)[7:]}', {len(content)}, {at}, 'begun')"
    databases.query(registry, f"INSERT INTO kept_copies (file_hash, file_size, kept_at, gone) VALUES {row}")
    s3.put(kept.key(digest_of(content)), content)


def test_gc_removes_the_copy_of_a_file_that_was_deleted_everywhere(kept, registry):
    with kept.client() as files:
        stays, deleted = (files.upload(each, name="p.txt", to=["moonshot", "zai"]) for each in (SMALL, b"unwanted"))
        files.delete(stays, platform="moonshot")
        files.delete(deleted)
        databases.query(registry, f"UPDATE kept_copies SET kept_at = {LONG_AGO}")
        assert files.copies.collect().removed == (deleted.digest,)
        assert kept.keys == [kept.key(stays.digest)]
        assert files.copies.check(read=1.0).is_whole


def test_gc_removes_the_copy_of_a_file_that_no_platform_took(sim, kept, registry):
    with kept.client() as files:
        sim.zai.fail_next(status=400)
        with pytest.raises(exai_files.Error):
            files.upload(SMALL, name="p.txt", to="zai")
        assert kept.keys == [kept.key(digest_of(SMALL))]
        assert files.copies.collect().removed == (), "it was noted a moment ago: its upload may be to come"
        databases.query(registry, f"UPDATE kept_copies SET kept_at = {LONG_AGO}")
        assert files.copies.collect().removed == (digest_of(SMALL),)
        assert (kept.keys, files.copies.check().checked) == ([], 0)


def test_gc_leaves_the_copies_of_files_that_a_check_looked_for_elsewhere(s3, kept):
    with kept.client() as files:
        record = files.upload(SMALL, name="p.txt", to="moonshot")
    with kept.client(place=f"s3://{BUCKET}/{kept.prefix}/empty") as files:
        assert files.copies.check().missing == (record.digest,)
    s3.age(kept.prefix, 2 * 3600)
    with kept.client() as files:
        assert files.copies.collect().removed == ()
        assert kept.keys == [kept.key(record.digest)]


def test_copies_in_a_bucket_are_checked_and_tidied_up_in_the_shell(s3, sim, kept, registry, tmp_path):
    where = {"EXAI_FILES_REGISTRY__URL" if "://" in registry else "EXAI_FILES_REGISTRY__PATH": registry}
    environment = {
        **os.environ,
        **where,
        "MOONSHOT_BASE_URL": sim.moonshot.base_url,
        "MOONSHOT_API_KEY": sim.moonshot.api_key,
        "EXAI_FILES_COPIES__PLACE": f"s3://{BUCKET}/{kept.prefix}",
        "EXAI_FILES_COPIES__ENDPOINT": s3.endpoint,
        "EXAI_FILES_COPIES__REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }

    def run(*args):
        command = [sys.executable, "-m", "exai_files", *args]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=30, check=False
        )
        assert_absent(SECRET, (done.stdout + done.stderr).encode(), " ".join(args))
        return done.returncode, done.stdout

    content = unique()
    (tmp_path / "p.txt").write_bytes(content)
    assert run("upload", "p.txt", "--to", "moonshot")[0] == 0
    assert run("copies", "check", "--read-data-subset", "100%") == (0, "1 copies, 1 of them read (32 B)\n")
    leave(s3, kept, registry, b"left")
    assert run("copies", "gc", "--dry-run") == (0, "1 copies (4 B) would be removed\n")
    assert run("copies", "gc", "--yes") == (0, "1 copies (4 B) removed\n")
    assert kept.keys == [kept.key(digest_of(content))]
    s3.put(kept.keys[0], content[::-1])
    assert run("copies", "check")[0] == 0, "nothing was read"
    code, said = run("copies", "check", "--read-data-subset", "100%", "--json")
    assert (code, json.loads(said)["damaged"]) == (12, [digest_of(content)])
    environment["AWS_SECRET_ACCESS_KEY"] = "wrong"
    assert run("copies", "check") == (1, "")


# ===== refused =====


def url_of(bound):
    return f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def closed_port():
    """The URL of a port where nobody listens, and nobody else will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield url_of(taken)


@pytest.fixture
def silent():
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


REFUSED = [
    pytest.param({"secret": "wrong-canary-4be9d2c7"}, id="wrong-secret"),
    pytest.param({"key": "AKIANOBODY"}, id="unknown-key"),
    pytest.param({"place": "s3://nowhere/copies"}, id="no-such-bucket"),
    pytest.param({"endpoint": "down"}, id="server-down"),
]


def refused(call, *secrets):
    """What an error of the store says, which is no secret."""
    with pytest.raises(RegistryError) as raised:
        call()
    error = raised.value
    shown = [str(error), repr(error), repr(vars(error)), *traceback.format_exception(raised.type, error, raised.tb)]
    for secret in (SECRET, *secrets):
        assert_absent(secret, "".join(shown).encode(), "said")
    return error


@pytest.fixture
def changes(request, closed_port):
    """Those of a client's settings that make its store refuse."""
    return {**request.param, **({"endpoint": closed_port} if "endpoint" in request.param else {})}


@pytest.mark.parametrize("changes", REFUSED, indirect=True)
def test_where_no_copy_can_be_kept_nothing_is_sent(sim, kept, registry, changes):
    with kept.client(**changes) as files:
        refused(lambda: files.upload(SMALL, name="p.txt", to=["moonshot", "zai"]), changes.get("secret", SECRET))
        assert (sim.moonshot.requests, sim.zai.requests, kept.keys) == ([], [], [])
        assert (list(files.list()), files.recovery.list()) == ([], [])
        assert [each.action for each in files.audit.query()] in ([], ["audit.begin"])
    for table in ("kept_copies", "upload_intents", "file_uploads", "file_hashes", "platform_file_registry"):
        assert databases.query(registry, f"SELECT count(*) FROM {table}") == "0", table
    with kept.client() as files:
        assert files.upload(SMALL, name="p.txt", to="moonshot").on("moonshot").origin == "sent"
        assert kept.keys == [kept.key(digest_of(SMALL))]


@pytest.mark.parametrize("changes", REFUSED, indirect=True)
def test_where_copies_cannot_be_looked_at_none_is_given_up(kept, changes):
    with kept.client() as files:
        record = files.upload(SMALL, name="p.txt", to="moonshot")
    with kept.client(**changes) as files:
        refused(files.copies.check, changes.get("secret", SECRET))
    with kept.client() as files:
        assert files.audit.query(action="copy.drop") == []
        assert files.copies.check(read=1.0).read == 1
        assert kept.keys == [kept.key(record.digest)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param(*REFUSED[0].values, "AWS_SECRET_ACCESS_KEY", id="wrong-secret"),
        pytest.param(*REFUSED[1].values, "AWS_ACCESS_KEY_ID", id="unknown-key"),
        pytest.param(*REFUSED[2].values, "no bucket nowhere", id="no-such-bucket"),
    ],
    indirect=["changes"],
)
def test_a_refusal_says_in_a_line_what_to_mend(kept, changes, said):
    with kept.client(**changes) as files:
        for call in (lambda: files.upload(SMALL, name="p.txt", to="zai"), files.copies.check):
            error = refused(call, changes.get("secret", SECRET))
            assert said in str(error)
            assert "copies.place" in error.hint
            assert not re.search(r"[\n<>]", str(error)), "a server's page is no message"


def test_a_key_that_may_only_look_keeps_no_copies_and_checks_them(sim, kept):
    with kept.client() as files:
        record = files.upload(SMALL, name="p.txt", to="moonshot")
    with kept.client(key=READER, secret=READER_SECRET) as files:
        assert files.copies.check(read=1.0).read == 1
        with pytest.raises(RegistryError):
            files.upload(b"another one", name="other.txt", to="zai")
        with pytest.raises(RegistryError):
            files.upload(LARGE, name="large.txt", to="zai")
    assert sim.zai.files == []
    assert kept.keys == [kept.key(record.digest)]


def test_a_file_whose_copy_cannot_be_had_now_is_not_called_lost(sim, kept, closed_port, tmp_path):
    path = tmp_path / "p.txt"
    path.write_bytes(unique())
    with kept.client() as files:
        record = files.upload(path, to="moonshot")
    kept.lose(record)
    with kept.client(endpoint=closed_port) as files:
        path.rename(tmp_path / "moved.txt")
        with pytest.raises(RegistryError):
            files.ensure(record, platform="moonshot", max_age=0)
        assert sim.moonshot.files == []
        (tmp_path / "moved.txt").rename(path)
        assert files.ensure(record, platform="moonshot", max_age=0).remote_id == sim.moonshot.files[0].id


@pytest.mark.parametrize("verb", ["upload", "check"])
def test_a_server_that_never_answers_is_waited_for_as_long_as_was_said(sim, kept, silent, verb):
    with kept.client() as files:
        files.upload(SMALL, name="p.txt", to="moonshot")

    async def call():
        async with sim.async_client(**kept.options(endpoint=url_of(silent), region="eu-central-1")) as files:
            if verb == "upload":
                awaited = files.upload(b"another one", name="other.txt", to="zai", timeout=0.5)
            else:
                awaited = files.copies.check(timeout=0.5)
            with pytest.raises(PlatformTimeoutError):
                await asyncio.wait_for(awaited, 2)

    asyncio.run(call())
    assert sim.zai.files == []
    connection, _ = silent.accept()
    with connection:
        request = connection.recv(1 << 16)
    assert re.search(rb"Credential=%s/\d{8}/eu-central-1/s3/aws4_request" % KEY.encode(), request)
    assert_absent(SECRET, request, "sent")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"place": "s3://"}, "bucket", id="no-bucket"),
        pytest.param({"place": "s3:///copies"}, "bucket", id="no-bucket-but-a-prefix"),
        pytest.param({"key": ""}, "AWS_ACCESS_KEY_ID", id="no-key"),
        pytest.param({"secret": ""}, "AWS_SECRET_ACCESS_KEY", id="no-secret"),
        pytest.param({"endpoint": "somewhere"}, r"copies\.endpoint", id="no-url"),
    ],
)
def test_settings_that_name_no_bucket_are_refused_before_anything_is_done(kept, changes, said):
    with pytest.raises(ConfigError, match=said) as raised:
        kept.client(**changes)
    assert_absent(SECRET, repr(vars(raised.value)).encode(), "said")


def test_the_secret_is_nowhere_but_in_signatures(s3, sim, kept, tmp_path, caplog, capfd):
    logging.getLogger().setLevel(1)
    exai_files._core.reset_logging()
    seen = []
    with caplog.at_level(1):
        with kept.client() as files:
            record = files.upload(SMALL, name="p.txt", to="moonshot")
            kept.lose(record)
            files.ensure(record, platform="moonshot", max_age=0)
            files.copies.check(read=1.0)
            files.copies.collect()
            seen += [repr(files), repr(vars(files)), repr(files.copies), repr(vars(files.copies))]
            seen += [repr(record), repr(files.settings()), repr(files.audit.query())]
        with kept.client(place="s3://nowhere/copies") as files:
            for call in (lambda: files.upload(b"another one", name="other.txt", to="zai"), files.copies.check):
                with pytest.raises(RegistryError) as raised:
                    call()
                seen += [str(raised.value), repr(vars(raised.value))]
    seen += [record.getMessage() + repr(record.args) + record.name for record in caplog.records]
    assert len(caplog.records) > 20, "the trace level was really on"
    assert_absent(SECRET, "\n".join(seen).encode(), "said")
    assert_absent(SECRET, "".join(capfd.readouterr()).encode(), "printed")
    for file in tmp_path.iterdir():
        assert_absent(SECRET, file.read_bytes(), file.name)
