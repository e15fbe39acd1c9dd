"""A Redis of a test's own, which it may stop, hold up and start again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import canaries
import redis


class RedisServer:
    """On a free port, behind a password that is looked for everywhere."""

    def __init__(self, directory: Path) -> None:
        assert shutil.which("redis-server"), "redis-server is not installed; `make test` installs it"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        password = canaries.CANARIES["the password of Redis"]
        self.url = f"redis://:{password}@127.0.0.1:{self.port}/0"
        self._settings = (
            f'port {self.port}\nbind 127.0.0.1\nsave ""\ndir "{directory}"\nrdbcompression no\nrequirepass {password}\n'
        )
        self._clients: list[redis.Redis] = []

    def client(self, **options) -> redis.Redis:
        client = redis.Redis.from_url(self.url, **options)
        self._clients.append(client)
        return client

    def start(self) -> None:
        self._process = subprocess.Popen(["redis-server", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self._process.stdin.write(self._settings.encode())
        self._process.stdin.close()
        while True:
            assert self._process.poll() is None
            try:
                return self.client().ping()
            except redis.ConnectionError:
                continue

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def suspend(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def end(self) -> None:
        # Its dump is looked at with all other files.
        assert self.client().save()
        for client in self._clients:
            client.close()
        self.kill()
