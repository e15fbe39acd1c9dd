"""Keys: where they come from, how they are replaced while the client runs, and that nobody sees them."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import subprocess
import sys
import threading

import pytest

import exai_files

pytestmark = pytest.mark.once

OLD, NEW = "sk-old-0123456789abcdef", "sk-new-fedcba9876543210"


def put(path, key):
    """As a key manager does it: the new file takes the place of the old one at once."""
    draft = path.with_name("draft")
    draft.touch(mode=0o600)
    draft.write_text(f"{key}\n")
    draft.replace(path)


def accept(sim, *keys):
    sim.admin("POST", "/settings/moonshot", {"keys": list(keys)})


def client(sim, **where):
    moonshot = {"base_url": sim.moonshot.base_url, **where}
    return exai_files.Client(registry=":memory:", environment={}, platforms={"moonshot": moonshot})


@pytest.fixture
def key_file(tmp_path):
    put(tmp_path / "key", OLD)
    return tmp_path / "key"


def test_a_key_is_replaced_without_a_failed_request(sim, key_file):
    accept(sim, OLD, NEW)
    is_over, failures = threading.Event(), []

    def upload(files, name):
        for number in itertools.count():
            if is_over.is_set():
                return
            try:
                files.upload(f"{name} {number}".encode(), name=f"{name}-{number}.txt", to="moonshot")
            except exai_files.Error as error:
                failures.append(error)

    with client(sim, api_key_file=str(key_file)) as files:
        uploading = [threading.Thread(target=upload, args=(files, f"task-{task}")) for task in range(4)]
        for thread in uploading:
            thread.start()
        files.upload(b"before", name="before.txt", to="moonshot")
        put(key_file, NEW)
        files.upload(b"after", name="after.txt", to="moonshot")
        is_over.set()
        for thread in uploading:
            thread.join()
        accept(sim, NEW)
        files.upload(b"the old one is gone", name="gone.txt", to="moonshot")
    assert failures == []


def test_a_revoked_key_costs_one_request_and_the_next_one_is_used_once_it_is_there(sim, key_file):
    accept(sim, NEW)
    with client(sim, api_key_file=str(key_file)) as files:
        before = len(sim.moonshot.requests)
        for _ in range(3):
            with pytest.raises(exai_files.AuthenticationError) as refused:
                files.upload(b"hello", name="a.txt", to="moonshot")
            assert OLD not in str(refused.value) + refused.value.hint
        assert len(sim.moonshot.requests) == before + 1, "it is not sent again while there is no other"
        put(key_file, NEW)
        files.upload(b"hello", name="a.txt", to="moonshot")
    assert len(sim.moonshot.files) == 1


def test_a_command_gives_the_key_and_another_one_when_that_is_refused(sim, tmp_path):
    accept(sim, OLD)
    keys = tmp_path / "keys"
    keys.write_text(OLD)
    with client(sim, api_key_command=["cat", str(keys)]) as files:
        files.upload(b"one", name="one.txt", to="moonshot")
        keys.write_text(NEW)
        accept(sim, NEW)
        files.upload(b"two", name="two.txt", to="moonshot")
        assert [setting.value for setting in files.settings() if setting.path.endswith("api_key_command")] == [
            ["cat", "…"]
        ]
    assert len(sim.moonshot.files) == 2


@pytest.mark.parametrize("is_async", [False, True])
def test_a_function_gives_the_key_and_another_one_when_that_is_refused(sim, is_async):
    accept(sim, OLD)
    keys = iter([OLD, NEW, NEW])

    def current():
        return next(keys)

    async def soon():
        await asyncio.sleep(0)
        return next(keys)

    with client(sim, api_key=soon if is_async else current) as files:
        files.upload(b"one", name="one.txt", to="moonshot")
        accept(sim, NEW)
        files.upload(b"two", name="two.txt", to="moonshot")
        (moonshot,) = (status for status in files.auth.status() if status.account)
        assert moonshot.source.startswith("function test_a_function_gives")
    assert len(sim.moonshot.files) == 2


def test_a_function_that_gives_no_key_says_why_and_nothing_it_knows(sim):
    def broken():
        raise ValueError(OLD)

    for function, said in ((broken, "raised ValueError"), (lambda: None, "gives no text"), (lambda: " ", "is empty")):
        with client(sim, api_key=function) as files, pytest.raises(exai_files.ConfigError, match=said) as failed:
            files.upload(b"one", name="one.txt", to="moonshot")
        assert OLD not in str(failed.value)
    accept(sim, OLD)
    accounts = {"team": {"api_key": lambda: OLD}}
    with client(sim, accounts=accounts) as files:
        assert files.upload(b"one", name="one.txt", to="moonshot").replicas[0].account == "team"


def test_a_command_sees_none_of_our_secrets(sim, tmp_path, monkeypatch):
    seen = tmp_path / "seen"
    for name in ("ZAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "EXAI_DATABASE_URL", "MY_OWN"):
        monkeypatch.setenv(name, "a-canary")
    accept(sim, OLD)
    with client(sim, api_key_command=["sh", "-c", f"env > {seen}; echo {OLD}"]) as files:
        files.upload(b"one", name="one.txt", to="moonshot")
    assert [line for line in seen.read_text().splitlines() if "a-canary" in line] == ["MY_OWN=a-canary"]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"api_key_command": ["false"]}, "command false cannot be had: it ended with"),
        ({"api_key_command": ["/no/such/program"]}, "cannot be run"),
        ({"api_key_command": []}, "must be a program and its arguments"),
        ({"api_key_file": "/no/such/file"}, "cannot be read"),
    ],
)
def test_a_key_that_cannot_be_had_says_why_and_nothing_is_sent(sim, where, said):
    with pytest.raises(exai_files.ConfigError, match=said), client(sim, **where) as files:
        files.upload(b"one", name="one.txt", to="moonshot")
    assert sim.moonshot.requests == []


def test_the_status_says_where_keys_come_from_and_never_shows_one(sim, key_file, tmp_path):
    config = tmp_path / "exai-files.toml"
    (tmp_path / "prints").write_text(NEW)
    config.write_text(
        f"[platforms.moonshot]\napi_key_file = {json.dumps(str(key_file))}\n"
        f"[platforms.moonshot.accounts.team_b]\napi_key_command = ['cat', '{tmp_path / 'prints'}']\n"
    )
    environment = {**os.environ, "ZAI_API_KEY": "id.secret-canary", "EXAI_FILES_REGISTRY__PATH": ":memory:"}
    for name in ("MOONSHOT_API_KEY", "KIMI_API_KEY", "GLM_API_KEY", "ZHIPUAI_API_KEY"):
        environment.pop(name, None)

    def run(*args):
        command = [sys.executable, "-m", "exai_files", "--config", str(config), "auth", "status", *args]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
        for secret in (OLD, NEW, "secret-canary"):
            encoded = base64.b64encode(secret.encode()).decode()
            assert secret not in done.stdout + done.stderr
            assert encoded not in done.stdout + done.stderr
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    code, rows = run("--json")
    shown = {(row["platform"], row["account"]): (row["source"], bool(row["fingerprint"])) for row in rows}
    assert code == 0
    assert shown == {
        ("moonshot", "default"): (f"file {key_file}", True),
        ("moonshot", "team_b"): ("command cat", False),
        ("zai", "default"): ("variable ZAI_API_KEY", True),
        ("zhipu", None): (None, False),
        ("kimi-code", None): (None, False),
    }
    assert [row["problem"] for row in rows if not row["source"]] == [
        "no key: log in: `exai-files auth login kimi-code`",
        "no key: set ZHIPUAI_API_KEY, name an api_key_file or api_key_command, or use `exai-files auth login zhipu`",
    ]
    code, rows = run("--json", "--check")
    assert code == 0
    assert all(row["fingerprint"] for row in rows if row["source"])
    (tmp_path / "prints").unlink()
    code, rows = run("--json", "--check")
    assert code == 6
    assert [row["account"] for row in rows if row["source"] and row["problem"]] == ["team_b"]


def test_the_doctor_says_what_is_wrong_and_shows_no_secret(sim, key_file, tmp_path):
    config = tmp_path / "exai-files.toml"
    proxy = "[http]\nproxy = 'http://somebody:a-password@proxy.example:3128'\n"
    moonshot = f"[platforms.moonshot]\napi_key_file = '{key_file}'\nbase_url = '{sim.moonshot.base_url}'\n"
    config.write_text(proxy + moonshot)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "EXAI_FILES_REGISTRY__PATH": ":memory:"}

    def run(*args, **more):
        command = [sys.executable, "-m", "exai_files", "--config", str(config), "doctor", "--json", *args]
        told = {**environment, **more}
        done = subprocess.run(command, capture_output=True, text=True, env=told, timeout=60, check=False)
        assert OLD not in done.stdout + done.stderr
        assert "a-password" not in done.stdout + done.stderr
        return done.returncode, {row["what"]: row for row in map(json.loads, done.stdout.splitlines())}

    code, found = run()
    assert code == 0
    assert found["configuration"]["detail"] == str(config)
    assert found["proxy"]["detail"] == "proxy.example:3128 (http.proxy)"
    assert found["key of moonshot (default)"]["detail"].startswith(f"file {key_file}, ")
    assert found["key of zai"]["state"] == "off"

    config.write_text(moonshot)
    accept(sim, OLD)
    code, found = run("--online", HTTPS_PROXY="http://u:a-password@other.example:1")
    assert (code, found["moonshot"]["state"]) == (0, "ok")
    assert found["proxy"]["detail"] == "other.example:1 (HTTPS_PROXY)"
    accept(sim, NEW)
    code, found = run("--online")
    assert (code, found["moonshot"]["state"]) == (6, "wrong")
    accept(sim, OLD)
    sim.moonshot.fail_next(status=503)
    code, found = run("--online", EXAI_FILES_RETRY__MAX_ATTEMPTS="1")
    assert (code, found["moonshot"]["state"]) == (1, "wrong")
