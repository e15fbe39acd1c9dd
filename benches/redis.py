"""Redis servers of the benchmarks' own, and what may happen to them."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One `redis-server`, empty at every start, whose clock can be set."""

    def __init__(self, home: Path, *words: str) -> None:
        self.port = free_port()
        self.home = home / str(self.port)
        self.home.mkdir()
        self._words = words
        self._offset = self.home / "offset"
        self._offset.write_bytes(bytes(8))
        self._shim = self.home / "clock_shim.so"
        shim = ["cc", "-shared", "-fPIC", "-O1", "-o", str(self._shim), str(HERE / "clock_shim.c")]
        subprocess.run(shim, check=True)
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        basic = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.home)]
        settings = list(self._words[:1]) if self._words[:1] and not self._words[0].startswith("--") else []
        command = ["redis-server", *settings, *basic, *self._words[len(settings) :]]
        environment = {**os.environ, "LD_PRELOAD": str(self._shim), "CLOCK_OFFSET_FILE": str(self._offset)}
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        while self.cli("ping") != "PONG":
            pass

    def cli(self, *words: str) -> str:
        command = ["redis-cli", "-p", str(self.port), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def hang(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def step_clock(self, seconds: int) -> None:
        with self._offset.open("r+b") as file, mmap.mmap(file.fileno(), 8) as offset:
            offset[:] = struct.pack("q", struct.unpack("q", offset[:])[0] + seconds)

    def script_calls(self) -> int:
        """Steps of paces so far: each reads the account's facts once."""
        found = [line for line in self.cli("info", "commandstats").splitlines() if line.startswith("cmdstat_hgetall:")]
        return int(found[0].split("calls=")[1].split(",")[0]) if found else 0


@contextmanager
def server(home: Path, *words: str) -> Iterator[Server]:
    started = Server(home, *words)
    try:
        yield started
    finally:
        started.kill()


@contextmanager
def watched_pair(home: Path) -> Iterator[tuple[str, Server]]:
    """A master with a replica and a Sentinel: the URL, and the master."""
    with ExitStack() as servers:
        master = servers.enter_context(server(home))
        servers.enter_context(server(home, "--replicaof", f"127.0.0.1 {master.port}"))
        settings = home / "sentinel.conf"
        settings.write_text(
            f"sentinel monitor main 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
        )
        watcher = servers.enter_context(server(home, str(settings), "--sentinel"))
        time.sleep(2)  # until it has found the replica
        yield f"redis+sentinel://127.0.0.1:{watcher.port}/main", master


Trouble = Callable[[Server], None]
"""What happens to a server, in the middle of a run."""


def killed(server: Server) -> None:
    server.kill()
    time.sleep(4)
    server.start()


def hung(server: Server) -> None:
    server.hang()
    time.sleep(4)
    server.go_on()


def flushed(server: Server) -> None:
    server.cli("flushall")


def clock_ahead(server: Server) -> None:
    server.step_clock(3600)


def clock_back(server: Server) -> None:
    server.step_clock(-3600)


def failed_over(server: Server) -> None:
    server.kill()


TROUBLES: dict[str, Trouble] = {
    "killed, back empty after 4 s": killed,
    "hung for 4 s": hung,
    "flushed": flushed,
    "its clock an hour ahead": clock_ahead,
    "its clock an hour back": clock_back,
    "failed over to its replica": failed_over,
}
