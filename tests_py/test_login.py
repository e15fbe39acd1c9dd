"""Logging in: keys and tokens are kept where the settings say, sealed, and used by whoever opens a client there."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import canaries
import databases
import pytest

import exai_files

pytestmark = pytest.mark.once

KEY, NEXT = "sk-kept-0123456789abcdef", "sk-next-fedcba9876543210"

STORES = ["database", "file", "keyring"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The system's keyring of these tests is a file of theirs."""
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyrings.alt.file.PlaintextKeyring")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    import keyring
    from keyrings.alt.file import PlaintextKeyring

    backend = PlaintextKeyring()
    backend.file_path = str(canaries.holds(tmp_path / "data" / "python_keyring" / "keyring_pass.cfg"))
    before = keyring.get_keyring()
    keyring.set_keyring(backend)
    yield tmp_path
    keyring.set_keyring(before)


def client(sim, folder, store="database", kind=exai_files.Client, **settings):
    return kind(
        registry=databases.place(folder / "registry.db"),
        environment={},
        platforms={
            "moonshot": {"base_url": sim.moonshot.base_url},
            "kimi-code": {**sim.logins.settings, **settings.pop("kimi_code", {})},
        },
        settings={"credentials": {"store": store, **settings}},
    )


def log_in(sim, files):
    sim.kimi_code.set(poll_seconds=1)
    return files.auth.login("kimi-code", prompt=lambda code: sim.logins.approve(code.user_code))


@pytest.mark.parametrize("store", STORES)
def test_a_key_that_is_kept_is_used_by_every_client_from_then_on(sim, folder, store):
    sim.moonshot.set(keys=[KEY, NEXT])
    with client(sim, folder, store) as files:
        with pytest.raises(exai_files.ConfigError, match="exai-files auth login moonshot"):
            files.upload(b"hello", name="a.txt", to="moonshot")
        status = files.auth.keep_key("moonshot", KEY)
        assert (status.platform, status.account, status.problem) == ("moonshot", "default", None)
    with client(sim, folder, store) as files:
        files.upload(b"hello", name="a.txt", to="moonshot")
        assert files.auth.keep_key("moonshot", NEXT).fingerprint != status.fingerprint
        files.upload(b"the old key is used while it is good", name="b.txt", to="moonshot")
        sim.moonshot.set(keys=[NEXT])
        files.upload(b"and the new one then", name="c.txt", to="moonshot")
        assert files.auth.logout("moonshot")
        assert not files.auth.logout("moonshot")
    with client(sim, folder, store) as files, pytest.raises(exai_files.ConfigError, match="no key"):
        files.upload(b"hello", name="a.txt", to="moonshot")


@pytest.mark.parametrize("store", STORES)
def test_a_device_login_is_kept_and_its_tokens_are_renewed(sim, folder, store):
    with client(sim, folder, store) as files:
        status = log_in(sim, files)
        assert (status.account, status.method, status.problem) == ("default", "oauth", None)
        assert status.expires_at > sim.clock.now()
    with client(sim, folder, store) as files:
        files.upload(b"hello", name="a.txt", to="kimi-code")
        sim.logins.expire()
        files.upload(b"after the token was revoked", name="b.txt", to="kimi-code")
        renewed = files.auth.renew("kimi-code")
        assert renewed.fingerprint != status.fingerprint
        files.upload(b"and after it was renewed", name="c.txt", to="kimi-code")
    assert len(sim.kimi_code.files) == 3
    (login,) = sim.logins.state["logins"]
    assert (login["refreshes"], login["is_revoked"]) == (2, False)


def test_a_login_whose_account_is_over_says_what_to_do_and_asks_once(sim, folder):
    with client(sim, folder) as files:
        log_in(sim, files)
    with client(sim, folder) as files:
        sim.logins.revoke()
        before = len(sim.truth(operation="token"))
        for _ in range(3):
            with pytest.raises(exai_files.ReauthRequiredError, match="exai-files auth login kimi-code") as raised:
                files.upload(b"hello", name="a.txt", to="kimi-code", timeout=20)
            assert isinstance(raised.value, exai_files.AuthenticationError)
        assert len(sim.truth(operation="token")) == before + 1
        log_in(sim, files)
        files.upload(b"hello", name="a.txt", to="kimi-code")


def test_a_login_that_is_declined_or_cut_short_keeps_nothing(sim, folder):
    sim.kimi_code.set(poll_seconds=1)
    with client(sim, folder) as files:
        with pytest.raises(exai_files.PermissionDeniedError, match="declined"):
            files.auth.login("kimi-code", prompt=lambda code: sim.logins.deny(code.user_code))
        with pytest.raises(exai_files.CancelledError, match="prompt"):
            files.auth.login("kimi-code", prompt=lambda code: 1 / 0)
        with pytest.raises(exai_files.ConfigError, match="used with a key"):
            files.auth.login("moonshot", prompt=print)
        with pytest.raises(exai_files.ConfigError, match="used with a login"):
            files.auth.keep_key("kimi-code", KEY)
        with pytest.raises(exai_files.ConfigError, match="no platform"):
            files.auth.logout("mars")
        assert [status.source for status in files.auth.status()] == [None] * 4


def test_what_is_kept_is_sealed_and_for_this_user_alone(sim, folder):
    for store in ("database", "file"):
        with client(sim, folder, store) as files:
            files.auth.keep_key("moonshot", KEY)
            log_in(sim, files)
    kept = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in kept} >= {"credentials.json", "registry.master-key", "registry.db"} - (
        {"registry.db"} if databases.IS_POSTGRES else set()
    )
    for path in kept:
        content = path.read_bytes()
        assert KEY.encode() not in content
        assert b"sim-access" not in content
        assert b"sim-refresh" not in content
        if path.name in ("credentials.json", "registry.master-key"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_another_master_key_opens_nothing_until_all_is_sealed_with_it(sim, folder):
    for name, text in (("one", "a passphrase of a person\n"), ("two", "another passphrase\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    with client(sim, folder, master_key_file=str(folder / "one")) as files:
        files.auth.keep_key("moonshot", KEY)
    with client(sim, folder, master_key_file=str(folder / "two")) as files:
        (moonshot,) = (status for status in files.auth.status() if status.platform == "moonshot")
        assert "another master key" in moonshot.problem
        with pytest.raises(exai_files.ConfigError, match="another master key"):
            files.upload(b"hello", name="a.txt", to="moonshot")
    with client(sim, folder, master_key_file=str(folder / "one")) as files:
        (folder / "two").chmod(0o644)
        with pytest.raises(exai_files.ConfigError, match="chmod 600"):
            files.auth.reseal(folder / "two")
        (folder / "two").chmod(0o600)
        assert files.auth.reseal(folder / "two") == 1
    sim.moonshot.set(keys=[KEY])
    with client(sim, folder, master_key_file=str(folder / "two")) as files:
        files.upload(b"hello", name="a.txt", to="moonshot")


def test_a_variable_becomes_a_kept_key(sim, folder):
    sim.moonshot.set(keys=[KEY])
    where = {"registry": databases.place(folder / "registry.db")}
    platforms = {"moonshot": {"base_url": sim.moonshot.base_url}}
    with exai_files.Client(**where, environment={"MOONSHOT_API_KEY": KEY}, platforms=platforms) as files:
        with pytest.raises(exai_files.ConfigError, match="comes from variable MOONSHOT_API_KEY"):
            files.auth.keep_key("moonshot", NEXT)
        files.auth.take_over("moonshot")
        assert files.auth.order[-2:] == ["variables", "the registry"]
    with exai_files.Client(**where, environment={}, platforms=platforms) as files:
        files.upload(b"hello", name="a.txt", to="moonshot")


def test_the_tokens_of_kimi_cli_are_taken_over(sim, folder):
    with client(sim, folder / "other") as files:
        log_in(sim, files)
    refresh = issue(sim)
    file = canaries.holds(folder / "kimi-code.json")
    file.write_text(json.dumps({**refresh, "expires_at": 0.0, "token_type": "Bearer", "scope": "kimi-code"}))
    file.chmod(0o600)
    with client(sim, folder) as files:
        files.auth.import_tokens("kimi-code", file)
    with client(sim, folder) as files:
        files.upload(b"hello", name="a.txt", to="kimi-code")
        file.write_text("{}")
        with pytest.raises(exai_files.InvalidRequestError, match="no tokens"):
            files.auth.import_tokens("kimi-code", file)


def issue(sim):
    """Tokens as another program has them."""
    import urllib.parse
    import urllib.request

    def post(url, **fields):
        form = urllib.parse.urlencode({"client_id": "17e5f671-d194-4dfb-9706-5516cb48c098", **fields}).encode()
        with urllib.request.urlopen(url, form) as reply:
            return json.load(reply)

    settings = sim.logins.settings
    code = post(settings["oauth_device_url"])
    sim.logins.approve(code["user_code"])
    grant = "urn:ietf:params:oauth:grant-type:device_code"
    return post(settings["oauth_token_url"], grant_type=grant, device_code=code["device_code"])


def test_kimi_is_told_what_its_own_clients_tell_it(sim, folder):
    with client(sim, folder) as files:
        log_in(sim, files)
        files.auth.renew("kimi-code")
    calls = sim.truth(operation="device") + sim.truth(operation="token")
    ids = {call["request_headers"]["x-msh-device-id"] for call in calls}
    assert len(ids) == 1
    assert len(ids.pop()) == 32
    for call in calls:
        headers = call["request_headers"]
        assert headers["x-msh-platform"] == "kimi_cli"
        assert {"x-msh-version", "x-msh-device-name", "x-msh-device-model", "x-msh-os-version"} <= headers.keys()
        assert headers["content-type"] == "application/x-www-form-urlencoded"
    if not databases.IS_POSTGRES:
        assert stat.S_IMODE((folder / "device-id").stat().st_mode) == 0o600


def test_a_client_with_a_secret_of_its_own(sim, folder):
    platforms = {
        "service": {
            "kind": "openai-compatible",
            "base_url": sim.urls["kimi_code"],
            "purposes": [{"name": "file-extract"}],
            "auth": "client-credentials",
            "oauth_token_url": sim.logins.settings["oauth_token_url"],
            "oauth_client_id": "simulator-service",
            "api_key": "simulator-service-secret",
        }
    }
    with exai_files.Client(registry=":memory:", environment={}, platforms=platforms) as files:
        files.upload(b"hello", name="a.txt", to="service", purpose="file-extract")
        sim.logins.expire()
        files.upload(b"again", name="b.txt", to="service", purpose="file-extract")
    assert len(sim.truth(operation="token")) == 2
    platforms["service"]["api_key"] = "wrong-secret"
    with exai_files.Client(registry=":memory:", environment={}, platforms=platforms) as files:
        with pytest.raises(exai_files.AuthenticationError, match="invalid_client") as raised:
            files.upload(b"hello", name="a.txt", to="service", purpose="file-extract")
        assert "wrong-secret" not in str(raised.value)


def test_a_key_in_supabase_vault_is_used_by_its_name(sim):
    sim.moonshot.set(keys=[KEY])
    url = databases.new_database()
    direct = databases.made[-1]
    moonshot = {"base_url": sim.moonshot.base_url, "api_key_vault": "moonshot"}
    with exai_files.Client(registry=url, environment={}, platforms={"moonshot": moonshot}) as files:
        (status,) = (s for s in files.auth.status(check=True) if s.platform == "moonshot")
        assert "no Supabase Vault" in status.problem
    databases.psql(
        direct,
        "CREATE SCHEMA vault; CREATE TABLE vault.secrets (name text, decrypted_secret text, created_at timestamptz);"
        "CREATE VIEW vault.decrypted_secrets AS SELECT * FROM vault.secrets;"
        f"INSERT INTO vault.secrets VALUES ('moonshot', '{KEY}', now())",
    )
    with exai_files.Client(registry=url, environment={}, platforms={"moonshot": moonshot}) as files:
        files.upload(b"hello", name="a.txt", to="moonshot")
        (status,) = (s for s in files.auth.status() if s.platform == "moonshot")
        assert status.source == "vault secret moonshot"


def line_of(process, stream, within=120):
    """What a process says next; one that says nothing is killed."""
    patience = threading.Timer(within, process.kill)
    patience.start()
    try:
        return stream.readline()
    finally:
        patience.cancel()


# ===== the command =====


@pytest.fixture
def run(sim, folder):
    """`exai-files ARGS` with a configuration that leads to the simulator."""
    kimi = "\n".join(f'{name} = "{value}"' for name, value in sim.logins.settings.items())
    (folder / "exai-files.toml").write_text(
        f'[platforms.moonshot]\nbase_url = "{sim.moonshot.base_url}"\n[platforms.kimi-code]\n{kimi}\n'
    )
    kept = ("PATH", "LANG", "PYTHONPATH", "LD_LIBRARY_PATH", "XDG_DATA_HOME", "PYTHON_KEYRING_BACKEND")
    environment = {name: value for name, value in os.environ.items() if name in kept}
    environment["HOME"] = str(folder / "home")
    if databases.IS_POSTGRES:
        environment["EXAI_FILES_REGISTRY__URL"] = databases.place(folder)

    def run(*args, stdin="", **more):
        command = [sys.executable, "-m", "exai_files", *args]
        return subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            env={**environment, **more},
            cwd=folder,
            timeout=60,
            check=False,
        )

    run.environment = environment
    return run


def test_the_command_logs_in_with_a_key_and_out(sim, run, folder):
    sim.moonshot.set(keys=[KEY, NEXT])
    (folder / "a.txt").write_text("hello")
    done = run("auth", "login", "moonshot", stdin=f"{KEY}\n")
    assert done.returncode == 0, done.stderr
    assert KEY not in done.stdout + done.stderr
    assert run("upload", "a.txt", "--to", "moonshot").returncode == 0
    rotated = run("auth", "rotate", "moonshot", stdin=f"{NEXT}\n")
    assert (rotated.returncode, "replaced" in rotated.stderr) == (0, True), rotated.stderr
    status = run("auth", "status")
    assert "the registry" in status.stdout
    assert "looked for in this order: the call, api_key_command, api_key_file, api_key_vault" in status.stderr
    assert run("auth", "logout", "moonshot").returncode == 0
    assert run("upload", "a.txt", "--to", "moonshot").returncode == 2
    assert run("auth", "login", "moonshot", stdin="\n").returncode == 2
    assert run("auth", "rotate").returncode == 2


def test_the_command_imports_and_seals_anew(sim, run, folder):
    assert run("auth", "import", "moonshot", MOONSHOT_API_KEY=KEY).returncode == 0
    (folder / "new-key").write_text("a new passphrase")
    (folder / "new-key").chmod(0o600)
    done = run("auth", "rotate", "--master-key-file", "new-key")
    assert (done.returncode, "sealed 1 anew" in done.stderr) == (0, True), done.stderr
    assert run("auth", "status").returncode == 6, "the old key opens nothing any more"
    moved = {"EXAI_FILES_CREDENTIALS__MASTER_KEY_FILE": "new-key"}
    assert run("auth", "status", **moved).returncode == 0
    assert run("auth", "import", "zai").returncode == 2


def test_the_command_shows_a_code_and_waits_until_it_was_entered(sim, run, folder):
    sim.kimi_code.set(poll_seconds=1)
    (folder / "a.txt").write_text("hello")
    command = [sys.executable, "-m", "exai_files", "auth", "login", "kimi-code"]
    logging_in = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=run.environment, cwd=folder)
    shown = line_of(logging_in, logging_in.stderr)
    code = shown.split()[-1]
    assert code in sim.logins.state["waiting"]
    sim.logins.approve(code)
    assert "logged in" in logging_in.communicate(timeout=60)[1]
    assert logging_in.returncode == 0
    assert run("upload", "a.txt", "--to", "kimi-code").returncode == 0
    renewed = run("auth", "rotate", "kimi-code")
    assert (renewed.returncode, "renewed" in renewed.stderr) == (0, True), renewed.stderr
    assert "sim-" not in renewed.stderr + shown
    sim.logins.revoke()
    over = run("auth", "rotate", "kimi-code")
    assert (over.returncode, "exai-files auth login kimi-code" in over.stderr) == (6, True)


# ===== many processes =====

WORKER = """if True:
    import json, sys
    import exai_files

    told = json.loads(sys.stdin.readline())
    settings = {"registry": {"connections": 1}, "recovery": {"every": 0}}
    with exai_files.Client(registry=told["registry"], environment={}, platforms=told["platforms"], settings=settings) as files:
        print("ready", flush=True)
        for line in sys.stdin:
            try:
                files.upload(f"{told['name']} {line}".encode(), name=f"{told['name']}.txt", to="kimi-code", timeout=300)
                print("done", flush=True)
            except exai_files.Error as error:
                print(f"failed: {error!r}", flush=True)
"""


def test_a_hundred_processes_and_fifty_expiries_are_fifty_token_calls(sim, folder):
    """In full with EXAI_TEST_PROCESSES=100 EXAI_TEST_EXPIRIES=50."""
    processes = int(os.environ.get("EXAI_TEST_PROCESSES", "6"))
    expiries = int(os.environ.get("EXAI_TEST_EXPIRIES", "5"))
    registry = databases.new_database()
    room = {"max_files": 1_000_000}
    sim.kimi_code.set(**room)
    platforms = {"kimi-code": {**sim.logins.settings, **room}}
    with exai_files.Client(registry=registry, environment={}, platforms=platforms) as files:
        log_in(sim, files)
    key = Path(os.environ["XDG_DATA_HOME"]) / "exai-files" / "registry.master-key"
    assert key.exists()

    def start(number):
        told = {"name": f"process-{number}", "registry": registry, "platforms": platforms}
        command = [sys.executable, "-c", WORKER]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        worker.stdin.write(f"{json.dumps(told)}\n")
        return worker

    workers = [start(number) for number in range(processes)]
    try:
        assert [line_of(worker, worker.stdout) for worker in workers] == ["ready\n"] * processes
        before = len(sim.truth(operation="token"))
        for expiry in range(expiries):
            sim.logins.expire()
            for worker in workers:
                worker.stdin.write(f"{expiry}\n")
            assert [line_of(worker, worker.stdout) for worker in workers] == ["done\n"] * processes
    finally:
        for worker in workers:
            worker.stdin.close()
            worker.wait(60)
            worker.stdout.close()
    assert len(sim.truth(operation="token")) - before == expiries
    (login,) = sim.logins.state["logins"]
    assert (login["refreshes"], login["is_revoked"]) == (expiries, False)
    assert len(sim.kimi_code.files) == processes * expiries


def test_threads_and_tasks_share_one_refresh(sim, folder):
    with client(sim, folder) as files:
        log_in(sim, files)
    with client(sim, folder, kimi_code={"concurrency": 32}) as files:
        files.upload(b"first", name="first.txt", to="kimi-code")
        for round_ in range(3):
            sim.logins.expire()
            names = [f"{round_}-{number}.txt" for number in range(16)]
            uploading = [
                threading.Thread(target=files.upload, args=(name.encode(),), kwargs={"name": name, "to": "kimi-code"})
                for name in names
            ]
            for thread in uploading:
                thread.start()
            for thread in uploading:
                thread.join()
    (login,) = sim.logins.state["logins"]
    assert (login["refreshes"], login["is_revoked"]) == (3, False)
    assert len(sim.kimi_code.files) == 1 + 3 * 16
