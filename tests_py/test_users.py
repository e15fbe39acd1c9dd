"""On whose behalf: in the audit log by pseudonym, by the existing tool's tokens, and within their quota."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time

import databases
import jwt
import pytest

import exai_files

pytestmark = pytest.mark.once

SECRET = "a secret of the existing tool, 32 characters"


def client(sim, registry=":memory:", environment=None, **settings):
    return sim.client(registry=registry, environment=environment or {}, settings=settings)


# ===== in the log =====


def test_what_is_done_on_somebodys_behalf_is_in_the_log_by_pseudonym(sim, tmp_path):
    with client(sim, tmp_path / "registry.db") as files:
        alice = files.acting_as(exai_files.Actor("alice@example.com", ["editor", "admin"], "session-7", "203.0.113.7"))
        record = alice.upload(b"hello", name="a.txt", to="moonshot")
        bob = files.acting_as("bob")
        bob.delete(record)
        nobody = files.upload(b"other", name="b.txt", to="moonshot")
        upload, delete, other = (
            json.loads(each.record) for each in files.audit.query() if each.action != "audit.begin"
        )
        assert (upload["action"], upload["roles"], len(upload["actor"])) == ("upload", "editor admin", 32)
        assert len({upload["actor"], upload["session"], upload["address"], delete["actor"]}) == 4
        assert not {"roles", "session", "address"} & delete.keys()
        assert "actor" not in other
        assert [each.action for each in files.audit.query(user="alice@example.com")] == ["upload"]
        assert [each.digest for each in files.audit.query(user="bob", file=nobody)] == []
        assert files.audit.verify().is_intact
        log = "".join(each.record for each in files.audit.query())
    for name in ("alice", "example.com", "session-7", "203.0.113.7", "bob"):
        assert name not in log


def test_every_part_of_a_client_acts_on_behalf(sim):
    with client(sim) as files:
        alice = files.acting_as("alice")
        record = alice.upload(b"hello", name="a.txt", to="moonshot")
        alice.hold(record)
        alice.lifecycle.keep(record, for_=3600)
        alice.trash(record)
        alice.restore(record)
        actions = [each.action for each in files.audit.query(user="alice")]
        everything = [each.action for each in files.audit.query() if each.action != "audit.begin"]
        assert actions == everything
        assert len(actions) >= 4


def test_awaited_clients_act_on_behalf_too(sim):
    async def use():
        async with sim.async_client() as files:
            await files.acting_as("alice").upload(b"hello", name="a.txt", to="moonshot")
            assert (await files.quota("alice")).files == 0, "without quotas nobody counts"
            return await files.audit.query(user="alice")

    assert [record.action for record in asyncio.run(use())] == ["upload"]


@pytest.mark.parametrize("user", ["", " ", "a\nb", "a\x00b", "x" * 257])
def test_nobody_is_called_so(sim, user):
    with client(sim) as files, pytest.raises(exai_files.InvalidRequestError, match="unprintable"):
        files.acting_as(user)


# ===== by a token =====


def token(**claims):
    now = int(time.time())
    return jwt.encode({"sub": "alice", "exp": now + 300, "iat": now, **claims}, SECRET, "HS256")


def test_a_token_of_the_existing_tool_names_its_user(sim):
    environment = {"JWT_SECRET_KEY": SECRET, "JWT_ISSUER": "exai"}
    with client(sim, environment=environment) as files:
        actor = files.actor(token(iss="exai", aud="authenticated", role="editor", session_id="s-1"))
        assert actor == exai_files.Actor("alice", ("editor",), "s-1")
        files.acting_as(actor).upload(b"hello", name="a.txt", to="moonshot")
        for bad, why in [
            (token(iss="evil"), "issuer"),
            (token(iss="exai", exp=1), "expired"),
            (jwt.encode({"sub": "alice", "iss": "exai"}, SECRET, "HS256"), "when it ends"),
            (jwt.encode({"sub": "alice"}, SECRET, "HS256"), "who issued it"),
            (jwt.encode({"sub": "alice"}, "another secret of at least 32 characters", "HS256"), "not signed with our"),
            (jwt.encode({"sub": "alice"}, None, "none"), "no token"),
            ("", "there is no token"),
            (None, "there is no token"),
        ]:
            with pytest.raises(exai_files.InvalidTokenError, match=why) as raised:
                files.actor(bad)
            assert not bad or bad not in str(raised.value)
        assert SECRET not in repr(files.settings())


def test_a_grace_period_is_a_moment_and_not_a_length_of_time(sim):
    later, before = "2100-01-01T00:00:00Z", "2000-01-01T00:00:00Z"
    with client(sim, environment={"JWT_SECRET": SECRET}, access={"grace_until": later}) as files:
        assert files.actor(None).user == "anonymous"
        assert files.actor(token()).user == "alice"
    with (
        client(sim, environment={"JWT_SECRET": SECRET}, access={"grace_until": before}) as files,
        pytest.raises(exai_files.InvalidTokenError),
    ):
        files.actor(None)


def test_without_a_good_secret_nobody_is_let_in(sim):
    with client(sim) as files, pytest.raises(exai_files.ConfigError, match="no secret"):
        files.actor(token())
    with pytest.raises(exai_files.ConfigError, match="at least 32 characters") as raised:
        client(sim, environment={"JWT_SECRET_KEY": "short-secret"})
    assert "short-secret" not in str(raised.value)
    with pytest.raises(exai_files.ConfigError, match="grace_until: must be a moment"):
        client(sim, access={"grace_until": "14 days"})


# ===== within a quota =====


def test_a_user_may_have_so_much_and_no_more(sim, tmp_path):
    quotas = {"max_files": 2, "max_file_bytes": 100, "users": {"alice@example.com": {"max_files": 3, "max_bytes": 20}}}
    with client(sim, tmp_path / "registry.db", quotas=quotas) as files:
        with pytest.raises(exai_files.InvalidRequestError, match="nobody says who calls"):
            files.upload(b"hello", name="a.txt", to="moonshot")
        bob, alice = files.acting_as("bob"), files.acting_as("alice@example.com")
        with pytest.raises(exai_files.FileTooLargeError, match="bob may upload at once") as raised:
            bob.upload(b"x" * 101, name="large.txt", to="moonshot")
        assert (raised.value.size, raised.value.limit) == (101, 100)
        first = bob.upload(b"one", name="1.txt", to="moonshot")
        bob.upload(b"two", name="2.txt", to="moonshot")
        bob.upload(b"two", name="the same again.txt", to=["moonshot", "zai"])
        with pytest.raises(exai_files.QuotaExceededError, match="2 of 2 files"):
            bob.upload(b"three", name="3.txt", to="moonshot")
        alice.upload(b"two", name="the same of another.txt", to="moonshot")
        alice.upload(b"x" * 17, name="x.txt", to="moonshot")
        with pytest.raises(exai_files.QuotaExceededError, match="20 of 20 bytes"):
            alice.upload(b"y", name="y.txt", to="moonshot")
        assert bob.quota() == exai_files.UserQuota("bob", 2, 6, 2, None, 100)
        bob.delete(first)
        assert bob.quota().files == 1
        bob.upload(b"three", name="3.txt", to="moonshot")
        assert files.quota("alice@example.com").files == 2
    assert len(sim.moonshot.files) == 3


def test_what_no_platform_has_taken_does_not_count(sim):
    with client(sim, quotas={"max_files": 1}) as files:
        alice = files.acting_as("alice")
        sim.moonshot.fail_next(status=400, times=1, operation="upload")
        with pytest.raises(exai_files.Error):
            alice.upload(b"one", name="1.txt", to="moonshot")
        assert alice.quota().files == 0
        alice.upload(b"two", name="2.txt", to="moonshot")


def test_many_at_once_get_no_more_than_one_after_the_other(sim, tmp_path):
    registry = tmp_path / "registry.db"
    refused, stored = [], []

    def upload(files, number):
        try:
            stored.append(files.upload(f"content {number}".encode(), name=f"{number}.txt", to="moonshot"))
        except exai_files.QuotaExceededError as error:
            refused.append(error)

    with client(sim, registry, quotas={"max_files": 5}) as one, client(sim, registry, quotas={"max_files": 5}) as other:
        clients = [one.acting_as("alice"), other.acting_as("alice")]
        uploading = [threading.Thread(target=upload, args=(clients[number % 2], number)) for number in range(24)]
        for thread in uploading:
            thread.start()
        for thread in uploading:
            thread.join()
    assert (len(stored), len(refused), len(sim.moonshot.files)) == (5, 19, 5)


def test_a_registry_that_is_gone_lets_nobody_upload(sim, tmp_path):
    with client(sim, tmp_path / "registry.db", quotas={"max_files": 5}) as files:
        alice = files.acting_as("alice")
        databases.query(databases.place(tmp_path / "registry.db"), "DROP TABLE user_files")
        with pytest.raises(exai_files.RegistryError):
            alice.upload(b"hello", name="a.txt", to="moonshot")
    assert sim.moonshot.files == []


def test_the_command_shows_a_quota(sim, tmp_path):
    (tmp_path / "exai-files.toml").write_text(
        '[quotas]\nmax_files = 7\n[quotas.users."a.b@example.com"]\nmax_bytes = "1 KiB"\n'
    )
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LD_LIBRARY_PATH")}
    place = {"EXAI_FILES_REGISTRY__PATH": ":memory:", "USER": "carol"}
    for user, shown in (("a.b@example.com", "a.b@example.com  0 of 7  0 B of 1.0 kB"), ("", "carol  0 of 7  0 B")):
        done = subprocess.run(
            [sys.executable, "-m", "exai_files", "quota", *([user] if user else [])],
            capture_output=True,
            text=True,
            env={**environment, **place},
            cwd=tmp_path,
            timeout=60,
            check=False,
        )
        assert (done.stdout.strip(), done.returncode) == (shown, 0), done.stderr
