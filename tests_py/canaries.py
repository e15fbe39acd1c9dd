"""The secrets of this run, looked for everywhere they must not be while all other tests run.

`conftest.py` gives them to the simulator and to databases, and sets the watches up; a hit fails the run, and says where
and which, and never the secret. A test that makes a secret of its own adds it; one that writes a file which is meant to
hold one says so.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import pickle
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import traceback
import urllib.parse
from pathlib import Path

__all__ = ["CANARIES", "Watch", "add", "found_in", "holds", "spellings"]

CANARIES: dict[str, str] = {}
"""By name."""

SIMULATED = ("sim-access-", "sim-refresh-")
"""What the simulator's tokens begin with."""

OURS = b"\0-m\0exai_files\0"
"""In the words of our command, each ended by a NUL."""

_meant: set[Path] = set()
_pattern: re.Pattern[bytes] | None = None


def add(name: str, secret: str) -> str:
    """One more that is looked for."""
    global _pattern
    CANARIES[name], _pattern = secret, None
    return secret


def holds(path: Path) -> Path:
    """This file is meant to hold a secret."""
    _meant.add(path.resolve())
    return path


def spellings(secret: str) -> set[bytes]:
    """The secret as it is, in base64 however it lies, in hexadecimal, escaped for URLs and JSON, and backwards."""
    raw = secret.encode()
    # Without the characters at both ends, which depend on what is beside it.
    encoded = {base64.b64encode(b"\0" * before + raw)[-(-before * 4 // 3) + (before > 0) : -4] for before in range(3)}
    url_safe = {each.translate(bytes.maketrans(b"+/", b"-_")) for each in encoded}
    escaped = {urllib.parse.quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode()}
    return {raw, raw[::-1], raw.hex().encode(), raw.hex().upper().encode(), *encoded, *url_safe, *escaped}


def found_in(haystack: bytes) -> list[str]:
    """The names of the secrets in it."""
    global _pattern
    if _pattern is None:
        wanted = {**CANARIES, **{f"a token ({prefix}…)": prefix for prefix in SIMULATED}}
        groups = ["|".join(map(_escaped, sorted(spellings(secret)))) for secret in wanted.values()]
        _pattern = re.compile(b"|".join(f"({group})".encode("latin-1") for group in groups))
        _names[:] = wanted
    return sorted({_names[match.lastindex - 1] for match in _pattern.finditer(haystack)})


_names: list[str] = []


def _escaped(spelling: bytes) -> str:
    return re.escape(spelling).decode("latin-1")


def make() -> None:
    """The secrets of this run."""
    add("the key of moonshot", f"sk-{secrets.token_hex(16)}")
    for platform in ("zai", "zhipu_cn"):
        add(f"the secret of {platform}", secrets.token_hex(16))
    add("the password of Redis", secrets.token_hex(16))
    add("the password of the database", f"{secrets.token_hex(8)}+{secrets.token_hex(8)}/&")


class Watch(logging.Handler):
    """Looks at all that a run says and leaves behind.

    Attributes:
        found: What must not be: where, and which secret.
        seen: How much was looked at, by kind.
    """

    def __init__(self) -> None:
        super().__init__(1)
        self.found: set[str] = set()
        self.seen: dict[str, int] = {}
        self._is_over = threading.Event()
        self._sampling = threading.Thread(target=self._sample, daemon=True)

    def look(self, kind: str, where: str, haystack: bytes | str) -> None:
        """Notes what is found there."""
        text = haystack.encode(errors="surrogateescape") if isinstance(haystack, str) else haystack
        self.seen[kind] = self.seen.get(kind, 0) + 1
        self.found.update(f"{kind}: {where}: {name}" for name in found_in(text))

    # ===== while it runs =====

    def emit(self, record: logging.LogRecord) -> None:
        """Every log record, down to the core's finest."""
        said = record.getMessage() + ("".join(traceback.format_exception(*record.exc_info)) if record.exc_info else "")
        self.look("log records", record.name, said + repr(record.args))

    def look_at_errors(self, cls: type[Exception]) -> None:
        """Every exception of ours, as it is made."""
        make_error = cls.__init__

        def made(error: Exception, *args: object, **attributes: object) -> None:
            make_error(error, *args, **attributes)  # type: ignore[misc]
            said = f"{error}\n{error!r}\n{vars(error)!r}\n{error.args!r}"
            self.look("errors", type(error).__name__, said)
            with contextlib.suppress(Exception):  # such as records that hold what cannot be pickled
                self.look("errors", type(error).__name__, pickle.dumps(error))

        cls.__init__ = made  # type: ignore[method-assign]

    def start(self) -> None:
        """Begins to look at processes."""
        sys.addaudithook(self._look_at_start)
        self._sampling.start()

    def _look_at_start(self, event: str, details: tuple[object, ...]) -> None:
        """Our command as a test starts it. What tests start otherwise says what they like."""
        if event == "subprocess.Popen" and not self._is_over.is_set():
            words = details[1]
            if isinstance(words, (list, tuple)):
                line = b"\0".join(os.fsencode(word) for word in words) + b"\0"
                if OURS in line:
                    self.look("command lines", os.fsdecode(words[0]), line)

    def _sample(self) -> None:
        """What our command starts."""
        known: set[tuple[int, bytes]] = set()
        while not self._is_over.wait(0.1):
            for process in _descendants(os.getpid()):
                with contextlib.suppress(OSError):
                    words = Path(f"/proc/{process}/cmdline").read_bytes()
                    if (process, words) in known:
                        continue
                    known.add((process, words))
                    if OURS in _command_of_parent(process):
                        self.look("command lines", words.split(b"\0")[0].decode(), words)
                        self.look("environments", "of what we start", Path(f"/proc/{process}/environ").read_bytes())

    # ===== afterwards =====

    def finish(self, folders: list[Path], databases: list[str]) -> None:
        """Looks at what is left: files, databases, metrics."""
        self._is_over.set()
        self._sampling.join()
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        keys = [path for path in files if path.name.endswith(("master-key", "audit-key"))]
        for number, path in enumerate(keys):
            CANARIES[f"the key in {path.name} ({number})"] = path.read_text().split()[-1]
            holds(path)
        self._search("files", folders)
        with tempfile.TemporaryDirectory() as dumps:
            for number, url in enumerate(databases):
                dump = Path(dumps) / f"{number}.sql"
                subprocess.run(["pg_dump", "--dbname", url, "--file", str(dump)], capture_output=True, check=False)
            self._search("databases", [Path(dumps)])

    def _search(self, kind: str, folders: list[Path]) -> None:
        """By a program that is made to look for thousands of texts in gigabytes."""
        wanted = b"\n".join(sorted({each for secret in (*CANARIES.values(), *SIMULATED) for each in spellings(secret)}))
        command = ["grep", "--recursive", "--files-with-matches", "--null", "--fixed-strings", "--file=-"]
        # Bytes, not characters; and the holes of sparse files are passed over.
        environment = {**os.environ, "LC_ALL": "C"}
        search = subprocess.run([*command, "--", *folders], input=wanted, capture_output=True, env=environment)
        assert search.returncode in (0, 1), search.stderr
        found = search.stdout
        self.seen[kind] = sum(path.is_file() for folder in folders for path in folder.rglob("*"))
        for name in found.split(b"\0")[:-1]:
            path = Path(os.fsdecode(name))
            if path.resolve() not in _meant:
                self.found.add(f"{kind}: {path}: {', '.join(_whose(path.read_bytes()))}")


def _whose(content: bytes) -> list[str]:
    return [name for name, secret in CANARIES.items() if any(each in content for each in spellings(secret))] or [
        "a token"
    ]


def _descendants(process: int) -> list[int]:
    found, wanted = [], [process]
    while wanted:
        with contextlib.suppress(OSError):
            children = [
                int(child)
                for task in Path(f"/proc/{wanted[-1]}/task").iterdir()
                for child in (task / "children").read_text().split()
            ]
            wanted[-1:] = children
            found += children
            continue
        wanted.pop()
    return found


def _command_of_parent(process: int) -> bytes:
    status = Path(f"/proc/{process}/status").read_text()
    parent = re.search(r"^PPid:\s+(\d+)", status, re.MULTILINE)
    return Path(f"/proc/{parent[1]}/cmdline").read_bytes() if parent else b""
