"""A canary key, looked for everywhere it must not be."""

from __future__ import annotations

import base64
import json
import logging
import os
import pickle
import subprocess
import sys
import traceback
import urllib.parse
from pathlib import Path

import canaries
import pytest

import exai_files

pytestmark = pytest.mark.once

CANARY = "sk-canary-3f9d2c71aa5b"
JWT_CANARY = "canaryid7261.canarysecret9f04be"


def spellings(secret: str) -> list[bytes]:
    raw = secret.encode()
    return [raw, base64.b64encode(raw)[:-4], raw.hex().encode(), raw[::-1], raw[3 : len(raw) // 2 + 6]]


def assert_absent(secret: str, haystack: bytes, where: str) -> None:
    for spelling in spellings(secret):
        assert spelling not in haystack, where


@pytest.mark.parametrize(
    ("platform", "secret", "settings"),
    [
        pytest.param("moonshot", CANARY, {}, id="key"),
        pytest.param("zai", JWT_CANARY, {"auth": "key"}, id="id.secret"),
        pytest.param("zai", JWT_CANARY, {"auth": "jwt"}, id="jwt"),
    ],
)
def test_a_key_is_nowhere_but_in_its_header(sim, tmp_path, caplog, capfd, platform, secret, settings):
    simulated = getattr(sim, platform)
    simulated.set(keys=[secret])
    logging.getLogger().setLevel(1)
    exai_files._core.reset_logging()
    registry = tmp_path / "registry.db"
    platforms = {platform: {"api_key": secret, **settings}}
    seen: list[str] = []
    with caplog.at_level(1), sim.client(registry=registry, platforms=platforms) as files:
        record = files.upload(b"hello", name="a.txt", to=platform)
        seen += [repr(files), repr(vars(files)), repr(record), repr(files.settings()), repr(files.platforms())]
        for fault in (
            "stall",
            "lost_request",
            {"kind": "html"},
            {"kind": "error", "code": "1000"},
            {"kind": "status", "status": 401, "body": {}},
        ):
            sim.admin("DELETE", "/faults")
            simulated.fault(fault)
            with pytest.raises(exai_files.Error) as raised:
                files.list_remote(platform, timeout=0.3)
            seen += [str(raised.value), repr(raised.value), repr(vars(raised.value)), pickle.dumps(raised.value).hex()]
            seen += traceback.format_exception(raised.type, raised.value, raised.tb)
    sim.admin("DELETE", "/faults")
    seen += [record.getMessage() + repr(record.args) + record.name for record in caplog.records]
    assert len(caplog.records) > 20, "the trace level was really on"
    seen += [str(sim.truth())]
    assert_absent(secret, "\n".join(seen).encode(), "said")
    assert_absent(secret, "".join(capfd.readouterr()).encode(), "printed")
    for file in tmp_path.iterdir():
        assert_absent(secret, file.read_bytes(), file.name)
    assert any(entry["authenticated"] for entry in sim.truth()), "it was really used"


def test_settings_say_only_that_a_key_is_set(sim):
    with sim.client(platforms={"moonshot": {"api_key": CANARY}}) as files:
        values = {setting.path: setting.value for setting in files.settings()}
    assert values["platforms.moonshot.api_key"] == "set"
    assert CANARY not in repr(values)


def test_a_jwt_is_renewed_with_the_platforms_clock_after_a_refusal(sim):
    sim.zai.set(keys=[JWT_CANARY])
    sim.clock.advance(3600)
    with sim.client(platforms={"zai": {"api_key": JWT_CANARY, "auth": "jwt"}}) as files:
        files.upload(b"hello", name="a.txt", to="zai")
    statuses = [entry["status"] for entry in sim.truth(platform="zai")]
    assert statuses == [401, 200]


# ===== that the watch over the whole run would cry out =====


@pytest.mark.parametrize("around", ["{}", "Bearer {}", "a{}b", "xy{}z"])
def test_a_canary_is_found_however_it_is_spelt(around):
    name, secret = next(iter(canaries.CANARIES.items()))
    text = around.format(secret)
    spelt = [text, text[::-1], text.encode().hex(), text.encode().hex().upper(), json.dumps(text)]
    spelt += [urllib.parse.quote(text, safe=""), base64.b64encode(text.encode()).decode()]
    for each in spelt:
        assert canaries.found_in(f"before {each} after".encode()) == [name]
    assert canaries.found_in(b"nothing of the kind") == []
    assert canaries.found_in(b"sim-refresh-0123") == ["a token (sim-refresh-…)"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        pytest.param("print(KEY)", "output", id="output"),
        pytest.param("logging.getLogger('anybody').debug('it is %s', KEY)", "log records", id="log"),
        pytest.param("exai_files.ConfigError(f'the key {KEY} is wrong')", "errors", id="error"),
        pytest.param("(tmp_path / 'left').write_text(KEY)", "files", id="file"),
        pytest.param(
            "subprocess.run([sys.executable, '-m', 'exai_files', 'sim', 'serve', '--port', KEY], capture_output=True)",
            "command lines",
            id="command line",
        ),
    ],
)
def test_a_secret_that_gets_out_fails_the_run(tmp_path, code, kind):
    test = tmp_path / "test_leak.py"
    test.write_text(
        "import logging, subprocess, sys, canaries, exai_files\n"
        "KEY = canaries.CANARIES['the key of moonshot']\n"
        f"def test_it(tmp_path):\n    {code}\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "--basetemp", str(tmp_path / "base"), str(test)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"FOUND in {kind}" in done.stdout
    assert "1 passed" in done.stdout
