"""One upload, killed or failing at each of its system calls in turn, and what the next one makes of it.

`EXAI_TEST_SYSCALLS=all` for every call, which takes about a minute; without it the first of each kind and every
seventh, others on each version of Python. The upload runs in a process of its own; strace is put on it when its client
is open, or before it closes. strace counts the calls of each thread for itself, so where it is put on all threads the
n-th call is the n-th of each, and a process that lives on may be told an error more than once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

import exai_files

pytestmark = pytest.mark.once

EVERY = 1 if os.environ.get("EXAI_TEST_SYSCALLS") == "all" else 7
AT_ONCE = 2
PATIENCE = 60

KILL, EIO, ENOSPC = "signal=KILL", "error=EIO", "error=ENOSPC"
SYNC = "fsync,fdatasync"
# Names with a "?" are those of some processors only.
OPEN, RENAME, UNLINK = "?open,openat", "?rename,?renameat,?renameat2", "?unlink,?unlinkat"


@dataclass(frozen=True)
class Spot:
    """Some of the calls of an upload: whose they are, what they are made on, and whether they take room on the disk."""

    calls: str
    takes_room: bool = False
    moment: str = "upload"
    # Of the registry's two threads, in the order in which they start; None for all threads there are.
    thread: int | None = None
    # Below the place; {} is the digest, {:.2} its beginning.
    paths: tuple[str, ...] = ()


COUNTERS, JOURNAL = 0, 1
COPY = "copies/sha256/{:.2}/{}#1"
FOLDERS = ("copies", "copies/sha256", "copies/sha256/{:.2}")

SPOTS = {
    "journal-write": Spot("pwrite64", takes_room=True, thread=JOURNAL),
    "journal-sync": Spot(SYNC, takes_room=True, thread=JOURNAL),
    "journal-read": Spot("pread64", thread=JOURNAL),
    "counters-write": Spot("pwrite64", takes_room=True, thread=COUNTERS),
    "source-read": Spot("pread64", paths=("file.txt",)),
    "read": Spot("pread64"),
    "open": Spot(OPEN, takes_room=True),
    "copy-mkdir": Spot("?mkdir,?mkdirat", takes_room=True),
    "copy-write": Spot("write", takes_room=True, paths=(COPY,)),
    "copy-sync": Spot(SYNC, takes_room=True, paths=(COPY,)),
    "copy-rename": Spot(RENAME, takes_room=True),
    "copy-folder-sync": Spot(SYNC, takes_room=True, paths=FOLDERS),
    "connect": Spot("connect"),
    "send": Spot("sendto,sendmsg,writev"),
    "receive": Spot("recvfrom,recvmsg,readv"),
    "closing-write": Spot("pwrite64", takes_room=True, moment="close"),
    "closing-sync": Spot(SYNC, takes_room=True, moment="close"),
    "closing-truncate": Spot("ftruncate", takes_room=True, moment="close"),
    "closing-unlink": Spot(UNLINK, moment="close"),
}
FAULTS = {"kill": KILL, "eio": EIO, "enospc": ENOSPC}
TABLE = [(fault, name) for fault in FAULTS for name, spot in SPOTS.items() if fault != "enospc" or spot.takes_room]

# Uploads until that works. What became of it is said by a system call that is spoiled nowhere.
WORKER = """
import ctypes, json, os, sys, exai_files

told = json.loads(sys.argv[1])
log = os.open(told["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1))  # PR_SET_PTRACER: where not everybody may trace

def say(word):
    os.pwritev(log, [word.encode() + b" "], 0)

def reach(moment):
    if moment == told["moment"]:
        print("ready", flush=True)
        sys.stdin.readline()

with exai_files.Client(**told["options"]) as files:
    reach("upload")
    for _ in range(10):
        try:
            files.upload(told["file"], to="moonshot")
            say("uploaded")
            break
        except exai_files.Error as error:
            say(type(error).__name__)
    reach("close")
say("closed")
"""


class Place:
    """One upload's own: its platform, its file, its registry, its kept copies."""

    def __init__(self, home: Path, sim: exai_files.Simulator | None) -> None:
        self.home, self.sim = home, sim
        self.registry, self.file = home / "registry.db", home / "file.txt"
        self.content = home.name.encode()
        self.digest = hashlib.sha256(self.content).hexdigest()

    @property
    def options(self):
        settings = {
            "recovery": {"every": 0},
            "retry": {"base": 0.01, "commit_horizon": 0.05},
            "copies": {"place": str(self.home / "copies")},
            "audit": {"key_file": str(self.home / "audit.key")},
        }
        platforms = {"moonshot": self.sim.platforms()["moonshot"]} if self.sim else {}
        return {"registry": str(self.registry), "platforms": platforms, "environment": {}, "settings": settings}

    def path(self, pattern: str) -> str:
        return str(self.home / pattern.format(self.digest, self.digest))

    def rows(self, sql: str) -> list[tuple]:
        """Asked while no client of ours is open: two SQLite libraries must not have one file open in one process."""
        with closing(sqlite3.connect(self.registry)) as connection, connection:
            return connection.execute(sql).fetchall()

    def bound(self) -> list[tuple]:
        return self.rows("SELECT platform_file_id, file_hash FROM platform_file_registry WHERE status = 'active'")

    def strays(self) -> set[str]:
        files = {str(path.relative_to(self.home)) for path in self.home.rglob("*") if path.is_file()}
        return files - {"registry.db", "audit.key", "file.txt", f"copies/sha256/{self.digest[:2]}/{self.digest}"}


@pytest.fixture(scope="session")
def empty(tmp_path_factory):
    """A place whose registry was made and closed: the migrations are no part of an upload."""
    place = Place(tmp_path_factory.mktemp("empty"), None)
    exai_files.Client(**place.options).close()
    return place.home


@dataclass
class Outcome:
    said: list[str]
    complained: str
    status: int
    was_spoiled: bool


@pytest.mark.parametrize(("fault", "spot"), [pytest.param(*row, id="-".join(row)) for row in TABLE])
def test_wherever_an_upload_fails_it_says_so_and_the_next_one_puts_it_right(tmp_path, empty, fault, spot):
    def is_spoiled(number: int) -> bool:
        home = tmp_path / f"{fault}-{spot}-{number}"
        shutil.copytree(empty, home)
        with exai_files.Simulator() as sim:
            place = Place(home, sim)
            place.file.write_bytes(place.content)
            outcome = upload_spoiled(place, SPOTS[spot], f"{FAULTS[fault]}:when={number}")
            try:
                judge(place, outcome, is_killed=fault == "kill")
            except Exception as error:
                raise AssertionError(f"call {number}, {outcome}: {error}") from error
        return outcome.was_spoiled

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for some in numbers():
            spoiled = list(pool.map(is_spoiled, some))
            assert spoiled[0] or 1 not in some, "no upload makes such a call"
            if not all(spoiled):
                return


def numbers():
    """Of the calls, until one of them is not made."""
    mine = [number for number in range(1, 1_000) if number == 1 or (number - sys.version_info.minor) % EVERY == 0]
    return (mine[at : at + AT_ONCE] for at in range(0, len(mine), AT_ONCE))


# ===== the upload =====


def upload_spoiled(place: Place, spot: Spot, how: str) -> Outcome:
    log, trace = place.home.with_suffix(".log"), place.home.with_suffix(".trace")
    told = {"file": str(place.file), "log": str(log), "options": place.options, "moment": spot.moment}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", WORKER, json.dumps(told)], text=True, **pipes) as worker:
        assert worker.stdout.readline() == "ready\n"
        with spoiling(worker.pid, place, spot, how, trace):
            try:
                _, complained = worker.communicate("\n", timeout=PATIENCE)
            finally:
                worker.kill()
    was_spoiled = worker.returncode == -9 or "(INJECTED)" in trace.read_text()
    return Outcome(log.read_text().split(), complained, worker.returncode, was_spoiled)


def spoiling(pid: int, place: Place, spot: Spot, how: str, trace: Path) -> subprocess.Popen[str]:
    """Returns when none of the threads can make another call unseen."""
    whom = [str(pid), "-f"] if spot.thread is None else [registry_threads(pid)[spot.thread]]
    where = [word for path in spot.paths for word in ("-P", place.path(path))]
    which = ["-e", f"trace={spot.calls}", "-e", f"inject={spot.calls}:{how}", "-e", "signal=none"]
    command = ["strace", "-o", str(trace), *which, *where, "-p", *whom]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    said = next((line for line in strace.stderr if "Requested path" not in line), "nothing")
    assert "attached" in said, f"strace said {said!r}"
    return strace


def registry_threads(pid: int) -> list[str]:
    """Before the first call there are no others besides the main thread."""
    threads = sorted(int(task.name) for task in Path(f"/proc/{pid}/task").iterdir())
    assert len(threads) == 3
    return [str(thread) for thread in threads if thread != pid]


# ===== what must hold then =====


def judge(place: Place, outcome: Outcome, is_killed: bool) -> None:
    unfinished = COPY.format(place.digest, place.digest)
    if outcome.was_spoiled and is_killed:
        assert outcome.status == -9
    else:
        *errors, last = outcome.said
        assert (errors.pop(), last, outcome.complained, outcome.status) == ("uploaded", "closed", "", 0)
        assert set(errors) <= set(exai_files.errors.__all__)
    if "uploaded" in outcome.said:
        assert len(place.bound()) == 1
    recover(place)
    with exai_files.Client(**place.options) as files:
        assert files.recovery.run() == []
        assert files.upload(place.file, to="moonshot").digest == f"sha256:{place.digest}"
        assert files.audit.verify().is_intact
    (remote,) = place.sim.moonshot.files
    assert remote.sha256 == place.digest
    assert [each["outcome"] for each in place.sim.truth(operation="upload")].count("stored") == 1
    assert place.bound() == [(remote.id, place.digest)]
    assert place.rows("SELECT id FROM upload_intents WHERE state = 'sending'") == []
    assert place.rows("SELECT subject FROM recoveries") == []
    assert place.rows("PRAGMA integrity_check") == [("ok",)]
    assert place.strays() <= ({unfinished} if is_killed else set())
    clean_up(place, unfinished)
    assert place.strays() == set()


def clean_up(place: Place, unfinished: str) -> None:
    if (place.home / unfinished).exists():
        os.utime(place.home / unfinished, (0, 0))
    with exai_files.Client(**place.options) as files:
        assert files.copies.collect().removed == ()


def recover(place: Place) -> None:
    for _ in range(10):
        let_leases_run_out(place)
        with exai_files.Client(**place.options) as files:
            files.recovery.run()
            if not files.recovery.list():
                return
    raise AssertionError("nobody can finish it")


def let_leases_run_out(place: Place) -> None:
    """Whoever held them is dead for certain."""
    place.rows("UPDATE upload_intents SET lease_until = 0 WHERE state = 'sending'")
    place.rows("UPDATE recoveries SET next_try_at = 0")
