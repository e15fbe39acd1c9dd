"""One contestant, one process: `python -m benches.contestants NAME URLS REGISTRY @LIST` prints one JSON object.

Each is given the same files and the same simulator; wall time, CPU time and memory are the process' own and count
from after the import and the first, unmeasured request.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CONCURRENCY = 32
KEYS = {"moonshot": "sk-bench", "zai": "bench.secret"}


class Measured:
    """Time, CPU and memory of a block."""

    wall = cpu = 0.0
    rss_growth = 0


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _rss() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@contextmanager
def measured() -> Iterator[Measured]:
    """Measures the block; memory is its highest level above the start, looked at every 5 ms."""
    result, base, peak, done = Measured(), _rss(), [_rss()], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], _rss())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    wall, cpu = time.perf_counter(), _cpu()
    try:
        yield result
    finally:
        result.wall, result.cpu = time.perf_counter() - wall, _cpu() - cpu
        done.set()
        watcher.join()
        result.rss_growth = max(peak[0], _rss()) - base


def _settle(outcomes: list[object]) -> dict[str, Any]:
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    return {"failed": len(failed), "why": repr(failed[0])[:200] if failed else None}


def ours_async(urls: dict[str, str], registry: str, files: list[Path]) -> tuple[Measured, dict[str, Any]]:
    import exai_files

    async def run() -> tuple[Measured, dict[str, Any]]:
        platforms = {
            "moonshot": {"base_url": urls["moonshot"], "api_key": KEYS["moonshot"], "concurrency": CONCURRENCY}
        }
        settings = {"retry": {"commit_horizon": 0.5, "base": 0.05}}
        client = exai_files.AsyncClient(registry=registry, platforms=platforms, settings=settings, environment={})
        async with client:
            await client.list_remote("moonshot")
            room = asyncio.Semaphore(CONCURRENCY)

            async def one(path: Path) -> object:
                async with room:
                    return await client.upload(path, to="moonshot", purpose="image")

            with measured() as result:
                outcomes = await asyncio.gather(*map(one, files), return_exceptions=True)
            return result, _settle(list(outcomes))

    return asyncio.run(run())


def ours_sync(urls: dict[str, str], registry: str, files: list[Path]) -> tuple[Measured, dict[str, Any]]:
    import exai_files

    platforms = {"moonshot": {"base_url": urls["moonshot"], "api_key": KEYS["moonshot"], "concurrency": CONCURRENCY}}
    settings = {"retry": {"commit_horizon": 0.5, "base": 0.05}}
    with exai_files.Client(registry=registry, platforms=platforms, settings=settings, environment={}) as client:
        client.list_remote("moonshot")
        return _threaded(lambda path: client.upload(path, to="moonshot", purpose="image"), files)


def openai_async(urls: dict[str, str], registry: str, files: list[Path]) -> tuple[Measured, dict[str, Any]]:
    import openai

    async def run() -> tuple[Measured, dict[str, Any]]:
        async with openai.AsyncOpenAI(base_url=urls["moonshot"], api_key=KEYS["moonshot"]) as client:
            await client.files.list()
            room = asyncio.Semaphore(CONCURRENCY)

            async def one(path: Path) -> object:
                async with room:
                    return await client.files.create(file=path, purpose="image")  # type: ignore[arg-type]

            with measured() as result:
                outcomes = await asyncio.gather(*map(one, files), return_exceptions=True)
            return result, _settle(list(outcomes))

    return asyncio.run(run())


def openai_sync(urls: dict[str, str], registry: str, files: list[Path]) -> tuple[Measured, dict[str, Any]]:
    import openai

    client = openai.OpenAI(base_url=urls["moonshot"], api_key=KEYS["moonshot"])
    client.files.list()
    return _threaded(lambda path: client.files.create(file=path, purpose="image"), files)  # type: ignore[arg-type]


def zai_sdk(urls: dict[str, str], registry: str, files: list[Path]) -> tuple[Measured, dict[str, Any]]:
    from zai import ZaiClient

    client = ZaiClient(base_url=urls["zai"], api_key=KEYS["zai"])
    client.files.list(purpose="agent")
    return _threaded(lambda path: client.files.create(file=path, purpose="agent"), files)  # type: ignore[arg-type]


def _threaded(send: Callable[[Path], object], files: list[Path]) -> tuple[Measured, dict[str, Any]]:
    def one(path: Path) -> object:
        try:
            return send(path)
        except Exception as error:
            return error

    with ThreadPoolExecutor(CONCURRENCY) as pool, measured() as result:
        outcomes = list(pool.map(one, files))
    return result, _settle(outcomes)


def ours_again(urls: dict[str, str], registry: str, files: list[Path]) -> tuple[Measured, dict[str, Any]]:
    """Files that are there already and have not changed."""
    import exai_files

    platforms = {"moonshot": {"base_url": urls["moonshot"], "api_key": KEYS["moonshot"]}}
    with exai_files.Client(registry=registry, platforms=platforms, environment={}) as client:
        client.list_remote("moonshot")
        with measured() as result:
            records = [client.upload(path, to="moonshot", purpose="image") for path in files]
        sent = [record for record in records for replica in record.replicas if replica.origin != "already-there"]
        return result, {"failed": len(sent), "why": "sent again" if sent else None}


def ours_hash(urls: dict[str, str], registry: str, files: list[Path]) -> tuple[Measured, dict[str, Any]]:
    """Identifying files without sending them: digest, size and type."""
    import exai_files

    platforms = {"moonshot": {"base_url": urls["moonshot"], "api_key": KEYS["moonshot"]}}
    with exai_files.Client(registry=":memory:", platforms=platforms, environment={}) as client:
        with measured() as result:
            for path in files:
                client.plan(path, to="moonshot", purpose="image")
        return result, _settle([])


def hashlib(urls: dict[str, str], registry: str, files: list[Path]) -> tuple[Measured, dict[str, Any]]:
    import hashlib

    with measured() as result:
        for path in files:
            digest, buffer = hashlib.sha256(), bytearray(256 * 1024)
            with path.open("rb", buffering=0) as file:
                while count := file.readinto(buffer):
                    digest.update(memoryview(buffer)[:count])
            digest.hexdigest()
    return result, _settle([])


def raw_http(urls: dict[str, str], registry: str, files: list[Path]) -> tuple[Measured, dict[str, Any]]:
    """The floor: the same multipart body over the same kind of connection, and nothing else."""
    import http.client
    from urllib.parse import urlsplit

    base = urlsplit(urls["moonshot"])
    connection = http.client.HTTPConnection(base.hostname or "", base.port)
    headers = {"Authorization": f"Bearer {KEYS['moonshot']}"}
    connection.request("GET", f"{base.path}/files", headers=headers)
    connection.getresponse().read()
    head = '--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nimage\r\n'
    head += '--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    with measured() as result:
        for path in files:
            body = head.encode() + path.read_bytes() + b"\r\n--b--\r\n"
            kind = {"Content-Type": "multipart/form-data; boundary=b"}
            connection.request("POST", f"{base.path}/files", body, {**headers, **kind})
            connection.getresponse().read()
    return result, _settle([])


CONTESTANTS = {
    each.__name__: each
    for each in (ours_async, ours_sync, ours_again, ours_hash, openai_async, openai_sync, zai_sdk, hashlib, raw_http)
}


def main() -> None:
    name, urls, registry, *files = sys.argv[1:]
    result, outcome = CONTESTANTS[name](json.loads(urls), registry, [Path(file) for file in _expand(files)])
    print(json.dumps({"wall": result.wall, "cpu": result.cpu, "rss_growth": result.rss_growth, **outcome}))


def _expand(files: list[str]) -> list[str]:
    """`@list` names a file with one path a line: two thousand do not fit on a command line."""
    if len(files) == 1 and files[0].startswith("@"):
        return Path(files[0][1:]).read_text().splitlines()
    return files


if __name__ == "__main__":
    main()
