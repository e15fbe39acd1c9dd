"""The drop-in's validator (dropin_contract.md §1.6): what is told by a file's bytes, and what is raised."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import sys
from pathlib import Path

import pytest

from exai_files.dropin import comprehensive_validator
from exai_files.dropin.comprehensive_validator import (
    ComprehensiveFileValidator,
    FileValidationError,
    get_file_validator,
    validate_file,
)

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
ZIP = b"PK\x03\x04\x14\x00\x00\x00"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


def validate(path, **settings):
    return asyncio.run(ComprehensiveFileValidator(**settings).validate(str(path)))


@pytest.fixture
def made(tmp_path):
    def make(name, content):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return make


TYPES = [
    pytest.param("a.txt", b"hello\n", "text/plain", id="text"),
    pytest.param("a.txt", "你好".encode(), "text/plain", id="Chinese text"),
    pytest.param("a.txt", "hello".encode("utf-16"), "text/plain", id="UTF-16"),
    pytest.param("a.md", b"# a", "text/markdown", id="Markdown"),
    pytest.param("a.py", b"#!/usr/bin/env python\n", "text/x-python", id="Python with a shebang"),
    pytest.param("a.csv", b"MZ,Mozambique\n", "text/csv", id="table of Mozambique"),
    pytest.param("a.ts", b"let a: number\n", "text/plain", id="TypeScript, which tables call a video"),
    pytest.param("a.json", b"{}", "application/json", id="JSON"),
    pytest.param("a.svg", b"<svg/>", "image/svg+xml", id="SVG"),
    pytest.param("a.pdf", b"%PDF-1.7\n%\xe2\xe3", "application/pdf", id="PDF"),
    pytest.param("a.png", PNG, "image/png", id="PNG"),
    pytest.param("a.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg", id="JPEG"),
    pytest.param("a.gif", b"GIF89a\x01\x00", "image/gif", id="GIF"),
    pytest.param("a.webp", b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp", id="WebP"),
    pytest.param("a.zip", ZIP, "application/zip", id="zip"),
    pytest.param("a.docx", ZIP, DOCX, id="docx is zipped"),
    pytest.param("a.gz", b"\x1f\x8b\x08\x00", "application/gzip", id="gzip"),
    pytest.param("a.tar.gz", b"\x1f\x8b\x08\x00", "application/gzip", id="zipped tar"),
    pytest.param("a.tar", b"a".ljust(257, b"\0") + b"ustar", "application/x-tar", id="tar"),
    pytest.param("a.txt", PNG, "image/png", id="picture named as text"),
    pytest.param("a.png", b"%PDF-1.7", "application/pdf", id="PDF named as picture"),
    pytest.param("a.pdf", b"hello", "text/plain", id="text named as PDF"),
    pytest.param("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/octet-stream", id="docx that is none"),
    pytest.param("a.txt", b"a\0b", "application/octet-stream", id="bytes named as text"),
    pytest.param("noname", b"\x01\x02", "application/octet-stream", id="nothing known"),
]


@pytest.mark.parametrize(("name", "content", "mime_type"), TYPES)
def test_a_type_is_told_by_the_bytes_and_then_by_the_name(made, name, content, mime_type):
    path = made(name, content)
    assert validate(path) == {
        "path": str(path),
        "valid": True,
        "errors": [],
        "metadata": {
            "size": len(content),
            "extension": path.suffix,
            "mime_type": mime_type,
            "sha256": hashlib.sha256(content).hexdigest(),
        },
    }


PROGRAMS = {
    "Windows": b"MZ\x90\x00\x03\x00\x00\x00",
    "ELF": b"\x7fELF\x02\x01\x01\x00",
    "Mach-O 32": b"\xfe\xed\xfa\xce\x00\x00\x00\x07",
    "Mach-O 64": b"\xfe\xed\xfa\xcf\x01\x00\x00\x07",
    "Mach-O 32, little-endian": b"\xce\xfa\xed\xfe\x07\x00\x00\x00",
    "Mach-O 64, little-endian": b"\xcf\xfa\xed\xfe\x07\x00\x00\x01",
    "Mach-O fat": b"\xca\xfe\xba\xbe\x00\x00\x00\x02",
    "Mach-O fat 64": b"\xca\xfe\xba\xbf\x00\x00\x00\x02",
    "Mach-O fat, little-endian": b"\xbe\xba\xfe\xca\x02\x00\x00\x00",
    "Mach-O fat 64, little-endian": b"\xbf\xba\xfe\xca\x02\x00\x00\x00",
    "Java class": b"\xca\xfe\xba\xbe\x00\x00\x00\x41",
    "WebAssembly": b"\0asm\x01\x00\x00\x00",
    "Dalvik": b"dex\n035\x00",
    "Debian": b"!<arch>\ndebian-binary",
    "RPM": b"\xed\xab\xee\xdb\x03\x00",
    "macOS package": b"xar!\x00\x1c",
}


@pytest.mark.parametrize("name", ["a.txt", "a.pdf", "a.bin", "a"])
@pytest.mark.parametrize("content", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_a_program_is_not_valid_whatever_its_name(made, content, name):
    """Fault 40: it was found and called valid."""
    result = validate(made(name, content))
    assert result["valid"] is False
    assert any("Suspicious file header" in error for error in result["errors"])
    assert result["metadata"]["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_type_that_is_not_allowed_is_not_valid(made):
    """Fault 40 again."""
    result = validate(made("a.csh", b"echo"))
    assert (result["valid"], result["errors"]) == (False, ["Unsupported MIME type: application/x-csh"])
    narrow = validate(made("a.txt", b"%PDF-1.7"), allowed_mime_types={"text/plain"})
    assert narrow["errors"] == ["Unsupported MIME type: application/pdf"]
    assert validate(made("a.csh", b"echo"), allowed_mime_types={"application/x-csh"})["valid"]
    assert not validate(made("a.txt", b"a"), allowed_mime_types=set())["valid"], "none is none, and no default"


def test_an_empty_file_is_not_valid_as_no_reference_can_be_made_of_it(made):
    result = validate(made("a.txt", b""))
    assert (result["valid"], result["metadata"]["size"]) == (False, 0)


def directory(place):
    return place


def pipe(place):
    os.mkfifo(place / "pipe")
    return place / "pipe"


def unix_socket(place):
    # By a short name: the path of a socket may have a hundred bytes.
    before = Path.cwd()
    os.chdir(place)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("s")
    finally:
        os.chdir(before)
    return place / "s"


def link(target):
    def make(place):
        (place / "link.txt").symlink_to(target)
        return place / "link.txt"

    return make


def link_to_script(place):
    (place / "a.sh").write_text("echo")
    return link("a.sh")(place)


def below_a_file(place):
    (place / "a").write_text("a")
    return place / "a" / "b"


def up_and_down(place):
    (place / "a.txt").write_text("a")
    return f"{place}/../{place.name}/a.txt"


def script(place):
    (place / "A.SH").write_text("echo")
    return place / "A.SH"


def large(place):
    (place / "a.txt").write_bytes(b"a" * 11)
    return place / "a.txt"


RAISED = [
    pytest.param(lambda place: place / "none", "FILE_NOT_FOUND", id="no file"),
    pytest.param(lambda _: "", "NOT_A_FILE", id="no path"),
    pytest.param(below_a_file, "FILE_NOT_FOUND", id="below a file"),
    pytest.param(link("nothing"), "FILE_NOT_FOUND", id="link to nothing"),
    pytest.param(directory, "NOT_A_FILE", id="directory"),
    pytest.param(pipe, "NOT_A_FILE", id="pipe"),
    pytest.param(unix_socket, "NOT_A_FILE", id="socket"),
    pytest.param(lambda _: os.devnull, "NOT_A_FILE", id="device"),
    pytest.param(large, "FILE_TOO_LARGE", id="too large"),
    pytest.param(script, "BLOCKED_EXTENSION", id="blocked"),
    pytest.param(link_to_script, "BLOCKED_EXTENSION", id="link to what is blocked"),
    pytest.param(link("link.txt"), "VALIDATION_ERROR", id="link to itself"),
    pytest.param(up_and_down, "VALIDATION_ERROR", id="goes up"),
    pytest.param(lambda _: "../../etc/passwd", "VALIDATION_ERROR", id="goes up from here"),
    pytest.param(lambda place: f"{place}/a\0b", "VALIDATION_ERROR", id="zero byte"),
    pytest.param(lambda place: place / ("a" * 300), "VALIDATION_ERROR", id="name too long"),
    pytest.param(lambda _: 7, "VALIDATION_ERROR", id="number"),
    pytest.param(lambda _: None, "VALIDATION_ERROR", id="None"),
]


@pytest.mark.parametrize(("make", "code"), RAISED)
def test_what_cannot_be_judged_is_raised_with_its_code(tmp_path, make, code):
    path = make(tmp_path)
    validator = ComprehensiveFileValidator(max_file_size=10)
    with pytest.raises(FileValidationError) as raised:
        asyncio.run(validator.validate(str(path) if isinstance(path, Path) else path))
    assert raised.value.error_code == code


def test_a_pipe_that_has_come_into_the_files_place_makes_nobody_wait(tmp_path):
    with pytest.raises(FileValidationError, match="not a file"):
        comprehensive_validator._Content.read(pipe(tmp_path), 10)


def test_a_file_that_may_not_be_read_is_said_to_be_so(made):
    path = made("secret.txt", b"a")
    path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        with pytest.raises(FileValidationError, match="Permission denied") as raised:
            validate(path)
    finally:
        os.seteuid(user)
    assert raised.value.error_code == "VALIDATION_ERROR"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_file_that_is_not_what_its_length_says_is_not_hashed():
    with pytest.raises(FileValidationError, match="being written to"):
        validate("/proc/self/status")


def test_a_link_to_a_file_is_that_file(made, tmp_path):
    made("a.txt", b"a")
    assert validate(link("a.txt")(tmp_path))["valid"]


def bytes_read():
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_large_file_is_read_once_while_the_loop_goes_on(tmp_path):
    path, size = tmp_path / "large.txt", 64 << 20
    path.touch()
    os.truncate(path, size)

    async def judged():
        turns, before = 0, bytes_read()
        task = asyncio.ensure_future(ComprehensiveFileValidator().validate(str(path)))
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        return task.result(), turns, bytes_read() - before

    result, turns, read = asyncio.run(judged())
    assert result["metadata"]["sha256"] == hashlib.sha256(bytes(size)).hexdigest()
    assert turns > 10
    assert size <= read < 1.5 * size


@pytest.fixture
def fresh(monkeypatch):
    """The validator of the process, made anew from the environment."""

    def make(value):
        monkeypatch.delenv("MAX_FILE_SIZE_MB", raising=False)
        if value is not None:
            monkeypatch.setenv("MAX_FILE_SIZE_MB", value)
        get_file_validator.cache_clear()
        return get_file_validator()

    yield make
    get_file_validator.cache_clear()


@pytest.mark.parametrize(
    ("value", "megabytes"), [(None, 512), ("", 512), ("20", 20), (" 0.5 ", 0.5)], ids=["unset", "empty", "20", "half"]
)
def test_the_limit_comes_from_the_environment(fresh, caplog, value, megabytes):
    assert fresh(value).max_file_size == megabytes * 1024 * 1024
    assert caplog.records == []


@pytest.mark.parametrize("value", ["512 # comment", "much", "-1", "0", "nan", "inf"])
def test_what_is_no_limit_is_said_once_and_the_default_holds(fresh, caplog, made, value):
    """The same fault as 63: an inline comment in an environment file ended every upload."""
    validator = fresh(value)
    assert validator.max_file_size == 512 * 1024 * 1024
    assert get_file_validator() is validator
    assert asyncio.run(validate_file(str(made("a.txt", b"a"))))["valid"]
    assert [record.args[0] for record in caplog.records if "MAX_FILE_SIZE_MB" in record.message] == [value]


def test_what_is_blocked_and_allowed_is_the_instances_own():
    first = ComprehensiveFileValidator()
    first.blocked_extensions.clear()
    first.allowed_mime_types.add("application/x-csh")
    second = ComprehensiveFileValidator()
    assert second.blocked_extensions == {
        f".{word}"
        for word in [
            "exe",
            "bat",
            "cmd",
            "com",
            "pif",
            "sh",
            "bash",
            "zsh",
            "ps1",
            "psm1",
            "scr",
            "vbs",
            "js",
            "jar",
            "app",
            "deb",
            "rpm",
            "msi",
            "dmg",
            "pkg",
        ]
    }
    assert "application/x-csh" not in second.allowed_mime_types
