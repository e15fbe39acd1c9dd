"""Bad input: a typed error, its exit code, a sentence a person can act on, and nothing left behind."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

import exai_files
from exai_files import errors
from exai_files.cli.output import exit_code

MB = 1_000_000


def fifo(path: Path) -> Path:
    os.mkfifo(path / "pipe")
    return path / "pipe"


def unix_socket(path: Path) -> Path:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path / "socket"))
    server.close()
    return path / "socket"


def loop(path: Path) -> Path:
    (path / "loop").symlink_to(path / "loop")
    return path / "loop"


def dangling(path: Path) -> Path:
    (path / "dangling").symlink_to(path / "nowhere")
    return path / "dangling"


def empty(path: Path) -> Path:
    (path / "empty.txt").touch()
    return path / "empty.txt"


def sparse(path: Path, size: int, name: str = "big.bin") -> Path:
    with (path / name).open("wb") as file:
        file.truncate(size)
    return path / name


def invalid_utf8(path: Path) -> bytes:
    name = os.fsencode(path) + b"/\xff.txt"
    with open(name, "wb") as file:  # noqa: PTH123  (a name no Path of ours makes)
        file.write(b"x")
    return os.fsdecode(name)  # type: ignore[return-value]


# id, what is uploaded (from a directory), other arguments, the error, its exit code, part of its sentence
INPUTS = [
    # paths
    ("missing", lambda d: d / "missing.txt", {}, errors.SourceNotFoundError, 4, "no such file"),
    ("file as directory", lambda d: empty(d) / "x", {}, errors.SourceNotFoundError, 4, "no such file"),
    ("directory", lambda d: d, {}, errors.InvalidRequestError, 2, "is a directory"),
    ("FIFO", fifo, {}, errors.InvalidRequestError, 2, "is a FIFO"),
    ("device", lambda _: "/dev/null", {}, errors.InvalidRequestError, 2, "is a device"),
    ("socket", unix_socket, {}, errors.InvalidRequestError, 2, "a socket"),
    ("link in a circle", loop, {}, errors.InvalidRequestError, 2, "in a circle"),
    ("dangling link", dangling, {}, errors.SourceNotFoundError, 4, "no such file"),
    ("empty path", lambda _: "", {}, errors.InvalidRequestError, 2, "names no file"),
    ("root", lambda _: "/", {}, errors.InvalidRequestError, 2, "names no file"),
    ("NUL in path", lambda _: "a\0b", {}, errors.InvalidRequestError, 2, "control character"),
    ("name not UTF-8", invalid_utf8, {}, errors.InvalidRequestError, 2, "not UTF-8"),
    ("process memory", lambda _: "/proc/self/mem", {}, errors.InvalidRequestError, 2, "empty"),
    # names
    ("bytes without a name", lambda _: b"x", {}, errors.InvalidRequestError, 2, "without a name"),
    ("empty name", lambda _: b"x", {"name": ""}, errors.InvalidRequestError, 2, "names no file"),
    ("dot", lambda _: b"x", {"name": "."}, errors.InvalidRequestError, 2, "names no file"),
    ("parent", lambda _: b"x", {"name": ".."}, errors.InvalidRequestError, 2, "names no file"),
    ("slash", lambda _: b"x", {"name": "a/b"}, errors.InvalidRequestError, 2, "'/'"),
    ("backslash", lambda _: b"x", {"name": "a\\b"}, errors.InvalidRequestError, 2, "contains"),
    ("line break", lambda _: b"x", {"name": "a\r\nX-Evil: 1"}, errors.InvalidRequestError, 2, "control character"),
    ("C1 control", lambda _: b"x", {"name": "a\x85b"}, errors.InvalidRequestError, 2, "control character"),
    ("right to left", lambda _: b"x", {"name": "a\u202efdp.exe"}, errors.InvalidRequestError, 2, "reading direction"),
    ("too long", lambda _: b"x", {"name": "文" * 86}, errors.InvalidRequestError, 2, "too long"),
    # sizes
    ("empty file", empty, {}, errors.InvalidRequestError, 2, "is empty"),
    ("no bytes", lambda _: b"", {"name": "a.txt"}, errors.InvalidRequestError, 2, "is empty"),
    ("over 100 MiB", lambda d: sparse(d, 105 * MB), {}, errors.FileTooLargeError, 7, "at most 104857600 bytes"),
    ("over 4 GiB", lambda d: sparse(d, 4_300 * MB), {}, errors.FileTooLargeError, 7, "at most"),
    (
        "over 20 MiB in China",
        lambda d: sparse(d, 21 << 20),
        {"to": "zhipu"},
        errors.FileTooLargeError,
        7,
        "at most 20971520",
    ),
    (
        "image over 5 MiB in China",
        lambda _: b"\x89PNG\r\n\x1a\n" + b"\0" * (6 << 20),
        {"to": "zhipu", "name": "a.png"},
        errors.FileTooLargeError,
        7,
        "5242880",
    ),
    # types and purposes
    ("not a path", lambda _: 42, {}, errors.InvalidRequestError, 2, "cannot be uploaded"),
    ("nothing", lambda _: None, {}, errors.InvalidRequestError, 2, "cannot be uploaded"),
    (
        "batch of text",
        lambda _: b"x",
        {"name": "a.txt", "purpose": "batch"},
        errors.UnsupportedError,
        7,
        "only as .jsonl",
    ),
    (
        "voice of text",
        lambda _: b"x",
        {"name": "a.txt", "purpose": "voice-clone-input", "to": "zai"},
        errors.UnsupportedError,
        7,
        ".mp3, .wav",
    ),
    (
        "unknown purpose",
        lambda _: b"x",
        {"name": "a.txt", "purpose": "vision2"},
        errors.InvalidRequestError,
        2,
        "valid are: file-extract",
    ),
    (
        "fine-tune on moonshot",
        lambda _: b"x",
        {"name": "a.jsonl", "purpose": "fine-tune"},
        errors.InvalidRequestError,
        2,
        "valid are",
    ),
    (
        "knowledge base",
        lambda _: b"x",
        {"name": "a.txt", "purpose": "retrieval", "to": "zhipu"},
        errors.InvalidRequestError,
        2,
        "knowledge_id",
    ),
    # platforms and times
    (
        "no platform",
        lambda _: b"x",
        {"name": "a.txt", "to": []},
        errors.InvalidRequestError,
        2,
        "no platform was named",
    ),
    ("unknown platform", lambda _: b"x", {"name": "a.txt", "to": "mars"}, errors.ConfigError, 2, 'no platform "mars"'),
    (
        "nonsense platform",
        lambda _: b"x",
        {"name": "a.txt", "to": "a b"},
        errors.InvalidRequestError,
        2,
        "not a platform name",
    ),
    (
        "one of two unknown",
        lambda _: b"x",
        {"name": "a.txt", "to": ["moonshot", "mars"]},
        errors.ConfigError,
        2,
        "mars",
    ),
    ("no time", lambda _: b"x", {"name": "a.txt", "timeout": 0}, errors.InvalidRequestError, 2, "not possible"),
    ("negative time", lambda _: b"x", {"name": "a.txt", "timeout": -1}, errors.InvalidRequestError, 2, "not possible"),
    (
        "no number",
        lambda _: b"x",
        {"name": "a.txt", "timeout": float("nan")},
        errors.InvalidRequestError,
        2,
        "not possible",
    ),
]


@pytest.mark.parametrize(
    ("make", "options", "cls", "code", "said"), [pytest.param(*row[1:], id=row[0]) for row in INPUTS]
)
def test_bad_input_is_refused_before_a_byte_is_sent(files, sim, tmp_path, make, options, cls, code, said):
    with pytest.raises(cls) as raised:
        files.upload(make(tmp_path), **{"to": "moonshot", **options})
    error = raised.value
    assert type(error) is cls
    assert said in str(error)
    assert error.hint
    assert exit_code(error) == code
    assert sim.truth() == [], "a request was made"
    assert list(files.list()) == [], "the registry remembers"


# id, fault, the error, its exit code
ANSWERS = [
    ("empty answer", {"kind": "status", "status": 200, "body": ""}, errors.ContractDriftError, 1),
    ("not JSON", {"kind": "status", "status": 200, "body": "hello"}, errors.ContractDriftError, 1),
    ("no id", {"kind": "status", "status": 200, "body": {"object": "file"}}, errors.ContractDriftError, 1),
    ("HTML", {"kind": "html", "status": 200}, errors.ContractDriftError, 1),
    ("redirect", {"kind": "status", "status": 302, "body": {}, "headers": {"location": "http://127.0.0.1:1/"}}, errors.ContractDriftError, 1),
    ("nothing parsed", {"kind": "error", "type": "", "message": "extract task failed: failed"}, errors.ContentRejectedError, 7),
    ("error in a 200", {"kind": "status", "status": 200, "body": {"code": 1113, "success": False}}, errors.ContractDriftError, 1),
    ("unknown status", {"kind": "status", "status": 418, "body": {}}, errors.InvalidRequestError, 2),
    ("full", {"kind": "status", "status": 400, "body": {"error": {"message": "exceeded the max file count 1000"}}}, errors.QuotaExceededError, 8),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "cls", "code"), [pytest.param(*row[1:], id=row[0]) for row in ANSWERS])
def test_a_bad_answer_is_an_error_and_leaves_nothing(files, sim, fault, cls, code):
    sim.moonshot.fault(fault, operation="upload")
    with pytest.raises(exai_files.Error) as raised:
        files.upload(b"hello", name="a.txt", to="moonshot", timeout=20)
    error = raised.value
    assert type(error) is cls
    assert error.hint
    assert exit_code(error) == code
    assert sim.moonshot.files == []
    assert list(files.list()) == []


@pytest.mark.parametrize(
    ("platform", "options", "cls", "said"),
    [
        pytest.param("moonshot", {"api_key": "sk-with space"}, errors.ConfigError, "unsendable", id="blank in key"),
        pytest.param("moonshot", {"api_key": "sk-\nX: 1"}, errors.ConfigError, "unsendable", id="line break in key"),
        pytest.param(
            "zai", {"api_key": "nodot", "auth": "jwt"}, errors.ConfigError, "id.secret", id="JWT from a bare key"
        ),
        pytest.param(
            "moonshot", {"base_url": "http://192.0.2.1/v1"}, errors.ConfigError, "must be https", id="plain http"
        ),
        pytest.param("moonshot", {"colour": "red"}, errors.ConfigError, "unknown setting", id="unknown setting"),
    ],
)
def test_bad_settings_stop_the_client_at_the_door(sim, platform, options, cls, said):
    with pytest.raises(cls, match=said) as raised:
        sim.client(platforms={platform: options})
    assert options.get("api_key", "no key") not in str(raised.value)


@pytest.mark.parametrize("key", ["sk-wrong", "not-even-close"])
def test_a_wrong_key_is_the_platforms_to_refuse(sim, key):
    sim.moonshot.set(keys=["sk-right"])
    with sim.client(platforms={"moonshot": {"api_key": key}}) as client:
        with pytest.raises(errors.AuthenticationError) as raised:
            client.upload(b"x", name="a.txt", to="moonshot")
        assert key not in str(raised.value)
        assert "check the key of moonshot" in raised.value.hint


def test_nothing_outside_the_root_is_read(sim, tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside.txt"
    root.mkdir()
    outside.write_text("secret")
    (root / "inside.txt").write_text("public")
    (root / "link.txt").symlink_to(outside)
    (root / "own.txt").symlink_to(root / "inside.txt")
    with sim.client(settings={"upload": {"root": str(root)}}) as client:
        for path in (outside, root / "link.txt", root / ".." / "outside.txt"):
            with pytest.raises(errors.InvalidRequestError, match="outside the allowed root"):
                client.upload(path, to="moonshot")
        client.upload(root / "inside.txt", to="moonshot")
        with pytest.raises(errors.InvalidRequestError):
            client.upload(root / "own.txt", to="moonshot")  # an absolute link leaves the root, as the kernel sees it
    assert [sim.moonshot.bytes(file.id) for file in sim.moonshot.files] == [b"public"]


def test_a_platform_without_a_key_says_which_variable(tmp_path):
    with exai_files.Client(registry=":memory:", environment={}) as client:
        with pytest.raises(errors.ConfigError, match="MOONSHOT_API_KEY or KIMI_API_KEY"):
            client.upload(b"x", name="a.txt", to="moonshot")
