"""An S3 server of the tests' own: SeaweedFS, on free ports of the loopback, with what it keeps in a temporary directory.

Signed requests have to be signed by a key that it knows; the tests themselves look into the bucket unsigned.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

BUCKET = "kept"
KEY, SECRET = "AKIACANARY72619F04BE", "secret/canary+4be9d2c71aa5b3f9d2c71aa5b"
READER, READER_SECRET = "AKIAREADER", "may-look-and-not-write"

_PORTS = ("master.port", "volume.port", "filer.port", "s3.port")
_FLAGS = (
    *("-filer", "-s3", "-s3.iam=false", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
    *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.peers=none", "-master.telemetry=false"),
    "-master.volumeSizeLimitMB=64",
)
_IDENTITIES = [
    {"name": "anonymous", "actions": ["Admin", "Read", "List", "Write"]},
    {
        "name": "keeper",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Read", "List", "Write"],
    },
    {
        "name": "reader",
        "credentials": [{"accessKey": READER, "secretKey": READER_SECRET}],
        "actions": ["Read", "List"],
    },
]


class S3Server:
    """A running server with one bucket, as whoever owns the bucket sees it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._weed = Path(sys.executable).with_name("weed")
        names = [*_PORTS, *(f"{name}.grpc" for name in _PORTS)]
        self._ports = dict(zip(names, _free_ports(len(names)), strict=True))
        self.endpoint = f"http://127.0.0.1:{self._ports['s3.port']}"
        (folder / "identities.json").write_text(json.dumps({"identities": _IDENTITIES}))
        places = [f"-dir={folder}", f"-s3.config={folder / 'identities.json'}"]
        ports = [f"-{name}={port}" for name, port in self._ports.items()]
        command = [self._weed, "-logtostderr", "server", *places, *ports, *_FLAGS]
        with (folder / "log").open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env={"HOME": str(folder)})

    def wait_until_it_serves(self, patience: float = 30) -> None:
        deadline = time.monotonic() + patience
        while not self._serves():
            log = (self._folder / "log").read_text()[-2_000:]
            assert self._process.poll() is None, f"the S3 server has ended:\n{log}"
            assert time.monotonic() < deadline, f"the S3 server does not serve:\n{log}"
            time.sleep(0.05)

    def _serves(self) -> bool:
        try:
            made = self._ask("PUT", "")
            return made in (200, 409) and self._ask("PUT", "/ready", b"yes") == 200 and self.delete("ready") == 204
        except OSError:
            return False

    def end(self) -> None:
        """At once: there is nothing to keep, and a graceful end takes it half a minute."""
        self._process.kill()
        self._process.wait()
        for port in self._ports.values():
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink()

    # ===== what is in the bucket =====

    def keys(self, prefix: str) -> list[str]:
        return [key for key, _ in self._list(prefix)]

    def _list(self, prefix: str) -> list[tuple[str, str]]:
        """Keys, and the moments when they were written."""
        listed = self._open("GET", f"?list-type=2&prefix={prefix}/").decode()
        return re.findall(r"<Key>([^<]+)</Key>.*?<LastModified>([^<]+)Z</LastModified>", listed)

    def unfinished(self) -> str:
        """Uploads in parts that were begun and not ended, as the server lists them."""
        return "".join(re.findall(r"<Upload>.*?</Upload>", self._open("GET", "?uploads").decode()))

    def parts(self, key: str) -> int:
        """How many an object was written in; 0 for one that was written at once."""
        with urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{BUCKET}/{key}", method="HEAD")) as head:
            return int(head.headers["ETag"].strip('"').partition("-")[2] or 0)

    def get(self, key: str) -> bytes:
        return self._open("GET", f"/{key}")

    def put(self, key: str, body: bytes) -> None:
        self._open("PUT", f"/{key}", body)

    def delete(self, key: str) -> int:
        return self._ask("DELETE", f"/{key}")

    def age(self, prefix: str, seconds: int) -> None:
        """Lets everything under a prefix have been written that much longer ago, which no S3 request can."""
        saved, now = self._folder / "saved", int(time.time())
        self._shell(f"fs.meta.save -o={saved} /buckets/{BUCKET}/{prefix}")
        entries = saved.read_bytes()
        for moment in range(now - 120, now + 1):  # field 2 of an entry's attributes, in protobuf's spelling
            entries = entries.replace(b"\x10" + _varint(moment), b"\x10" + _varint(moment - seconds))
        saved.write_bytes(entries)
        for _ in range(10):
            self._shell(f"fs.meta.load {saved}\nfs.ls /")  # which may end before its last entry is loaded
            listed = self._list(prefix)
            if all(datetime.fromisoformat(f"{each}+00:00").timestamp() <= now - seconds for _, each in listed):
                return
        raise AssertionError(f"{listed} would not age")

    def _shell(self, line: str) -> None:
        master = f"127.0.0.1:{self._ports['master.port']}.{self._ports['master.port.grpc']}"
        command = [self._weed, "-logtostderr", "shell", f"-master={master}"]
        environment = {"HOME": str(self._folder)}
        subprocess.run(
            command, input=f"{line}\nexit\n", text=True, capture_output=True, timeout=20, check=True, env=environment
        )

    def _open(self, method: str, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"{self.endpoint}/{BUCKET}{path}", method=method, data=body)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()

    def _ask(self, method: str, path: str, body: bytes | None = None) -> int:
        request = urllib.request.Request(f"{self.endpoint}/{BUCKET}{path}", method=method, data=body)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One for all tests; each keeps under a prefix of its own."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    try:
        server.wait_until_it_serves()
        yield server
    finally:
        server.end()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
