"""A day's timers in half an hour of mixed work, with faults and cancellations: what one process takes, it gives back.

    python -m benches.soak --minutes 30

Eight tasks make calls at two simulated platforms, which break 1 % of the requests; 2 % of the calls are cancelled at
some moment. Watching, recovery and checkpoints come 48 times as often as they would. Memory, file descriptors, threads,
tasks and rows in flight are taken before and after, each time once all is done and idle connections are closed. Then
the platforms, the registry and the audit log are judged. Exits with 1 where anything is not as it was, or not right.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import hashlib
import io
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import exai_files
from benches.__main__ import Simulator, simulator
from benches.contestants import KEYS

TASKS = 8
CONTENTS = 200
PLATFORMS = ("moonshot", "zai")
CANCELLED = 0.04
"""Half of them have ended by then."""
BROKEN = 0.01
FASTER = 48
PAUSE = 0.05
"""Longest pause of a task between two calls, in seconds."""
WARM_UP, WARM_UP_TASKS = 20.0, 3 * TASKS
"""With more tasks than follow: a pool keeps as many threads and descriptors as ever were needed at once."""
LEASED = 10.0
MIB = 1 << 20

PATIENCE = 180.0
"""Until all is done and closed: connections are kept for 60 s, and looked over as often."""

LEFT_BY_A_CALL = 64
"""Bytes: anything that a call could leave behind is larger than that, an empty list or a short text."""
NOISE = 4 * MIB
"""By which memory goes up and down anyway: a few of the files are larger."""

FAULTS: list[dict[str, Any]] = [
    {"kind": "lost_reply"},
    {"kind": "status", "status": 500, "body": {"error": {"message": "broken on purpose", "type": "server_error"}}},
    {"kind": "status", "status": 429, "body": {"error": {"message": "slower"}}, "headers": {"retry-after": "0.1"}},
    {"kind": "delay", "before_ms": 300},
    {"kind": "reset", "at_byte": 10},
]

ROWS = {
    "open uploads": "SELECT COUNT(*) FROM upload_intents WHERE state = 'sending'",
    "open deletes": "SELECT COUNT(*) FROM platform_file_registry WHERE status = 'deleting'",
    "recoveries": "SELECT COUNT(*) FROM recoveries",
    "leases": "SELECT COUNT(*) FROM holds WHERE until IS NULL OR until > strftime('%s', 'now') * 1000000",
    "watch tasks held": "SELECT COUNT(*) FROM watch_tasks WHERE lease_until > strftime('%s', 'now') * 1000000",
    "unsigned audit records": "SELECT COUNT(*) FROM audit_log "
    "WHERE seq >= (SELECT COALESCE(MAX(size), 0) FROM audit_checkpoints)",
}


# ===== what is measured =====


def asked(registry: Path, sql: str) -> list[tuple[Any, ...]]:
    """By another process: two SQLite libraries must not have one file open in one."""
    code = """if True:
        import json, sqlite3, sys
        connection = sqlite3.connect(sys.argv[1], timeout=30)
        print(json.dumps(connection.execute(sys.argv[2]).fetchall()))"""
    command = [sys.executable, "-c", code, str(registry), sql]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [tuple(row) for row in json.loads(done.stdout)]


def rows_in_flight(registry: Path) -> dict[str, int]:
    counts = asked(registry, "SELECT " + ", ".join(f"({sql})" for sql in ROWS.values()))[0]
    return dict(zip(ROWS, counts, strict=True))


def memory() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def descriptors() -> Counter[str]:
    """What they are of; without the one that this is read by, which is gone by then."""
    found: Counter[str] = Counter()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found[re.sub(r":\[\d+\]$", "", str(entry.readlink()))] += 1
    return found


_libc = ctypes.CDLL(None)
_libc.fopen.restype = ctypes.c_void_p
_libc.fopen.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
_libc.malloc_info.argtypes = (ctypes.c_int, ctypes.c_void_p)
_libc.fclose.argtypes = (ctypes.c_void_p,)


def memory_in_use() -> int:
    """What Python and C libraries were given and have not given back, with 64 bytes for each of Python's own small objects.
    The core's own memory, SQLite's apart, is not in it."""
    with tempfile.NamedTemporaryFile() as file:
        stream = _libc.fopen(file.name.encode(), b"w")
        _libc.malloc_info(0, stream)
        _libc.fclose(stream)
        text = file.read().decode()
    total = text[text.rindex("</heap>") :]
    sizes = dict(re.findall(r'<(?:total|system) type="(\w+)"(?: count="\d+")? size="(\d+)"', total))
    free = int(sizes["fast"]) + int(sizes["rest"])
    return int(sizes["current"]) - free + int(sizes["mmap"]) + 64 * sys.getallocatedblocks()


def of_the_process() -> dict[str, int]:
    return {
        "memory": memory(),
        "memory in use": memory_in_use(),
        "file descriptors": descriptors().total(),
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "asyncio tasks": len(asyncio.all_tasks()),
    }


@dataclass
class Sample:
    at: float
    calls: int
    memory: int
    in_use: int


@dataclass
class Record:
    """What happened, and the highest that was seen."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    notices: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    peak: Counter[str] = field(default_factory=Counter)

    @property
    def calls(self) -> int:
        return self.outcomes.total()

    def note(self, figures: dict[str, int]) -> None:
        for name, figure in figures.items():
            self.peak[name] = max(self.peak[name], figure)

    def ended(self, *outcomes: str) -> int:
        return sum(count for (_, outcome), count in self.outcomes.items() if outcome in outcomes)


# ===== what is done =====


class Content:
    """Text that follows from its number. A few are too large to be sent from memory."""

    def __init__(self, home: Path, number: int, seed: int) -> None:
        random_text = random.Random(f"{seed}/{number}")
        self.is_large = number % 50 == 0
        size = 5 * MIB if self.is_large else random_text.randrange(100, 64 << 10)
        self.bytes = random_text.randbytes(size // 2).hex().encode()
        self.sha256 = hashlib.sha256(self.bytes).hexdigest()
        self.name, self.tag = f"{number}.txt", f"tag-{number % 20}"
        self.path = home / self.name
        self.path.write_bytes(self.bytes)

    def source(self, chosen: float) -> Path | bytes | io.BytesIO:
        if self.is_large or chosen < 1 / 3:
            return self.path
        return self.bytes if chosen < 2 / 3 else io.BytesIO(self.bytes)


class Worker:
    """One task's calls, one after the other."""

    def __init__(self, files: exai_files.AsyncClient, contents: Sequence[Content], record: Record, seed: str) -> None:
        self.files, self.contents, self.record = files, contents, record
        self.random = random.Random(seed)
        self.takes: dict[str, float] = {}
        self.breaker = exai_files.CircuitBreaker("soak", counts=ValueError)
        self.limiter = exai_files.RateLimiter("soak", requests=10_000, per=1)
        self.verbs: dict[Callable[[Content, str], Awaitable[object]], int] = {
            self.upload: 24,
            self.ensure: 12,
            self.lease: 6,
            self.content: 8,
            self.text: 4,
            self.list: 8,
            self.list_remote: 1,
            self.delete: 12,
            self.trash_and_restore: 4,
            self.update: 4,
            self.look: 5,
            self.guarded: 8,
        }

    async def work(self, until: float) -> None:
        verbs, weights = list(self.verbs), list(self.verbs.values())
        while time.monotonic() < until:
            (verb,) = self.random.choices(verbs, weights)
            content, platform = self.random.choice(self.contents), self.random.choice(PLATFORMS)
            await self.call(verb.__name__, verb(content, platform))
            await asyncio.sleep(self.random.random() * PAUSE)

    async def watch(self, until: float) -> None:
        watch = self.files.watch(every=300 / FASTER, heal=True)
        while time.monotonic() < until:
            for notice in await self.call("watch", watch.look()) or []:
                self.record.notices[notice.event] += 1
            await asyncio.sleep(5 / FASTER)

    async def call(self, name: str, work: Awaitable[Any]) -> Any:  # noqa: ANN401  (whatever it gives)
        task, begun = asyncio.ensure_future(work), time.monotonic()
        if self.random.random() < CANCELLED:
            moment = self.random.random() * self.takes.get(name, 0.01)
            asyncio.get_running_loop().call_later(moment, task.cancel)
        result, outcome = None, "done"
        try:
            result = await task
        except asyncio.CancelledError:
            outcome = "cancelled"
        except exai_files.Error as error:
            outcome = type(error).__name__
        self.takes[name] = 0.9 * self.takes.get(name, 0.01) + 0.1 * (time.monotonic() - begun)
        self.record.outcomes[name, outcome] += 1
        return result

    async def upload(self, content: Content, platform: str) -> None:
        to = self.random.choice([platform, list(PLATFORMS)])
        await self.files.upload(content.source(self.random.random()), to=to, name=content.name, tags=[content.tag])

    async def ensure(self, content: Content, platform: str) -> None:
        file = self.random.choice([content.name, content.source(self.random.random())])
        name = None if isinstance(file, str) else content.name
        await self.files.ensure(file, platform=platform, name=name, max_age=self.random.choice([0, 3600]))

    async def lease(self, content: Content, platform: str) -> None:
        async with await self.files.lease(content.name, platform=platform, for_=LEASED) as lease:
            await lease.renew(LEASED)

    async def content(self, content: Content, platform: str) -> None:
        await self.files.content(content.name, platform=platform)

    async def text(self, content: Content, _: str) -> None:
        await self.files.text(content.name, platform="moonshot")

    async def list(self, content: Content, platform: str) -> None:
        async for _ in self.files.list(tag=content.tag, platform=platform):
            pass

    async def list_remote(self, _: Content, platform: str) -> None:
        await self.files.list_remote(platform)

    async def delete(self, content: Content, platform: str) -> None:
        await self.files.delete(content.name, platform=self.random.choice([None, platform]))

    async def trash_and_restore(self, content: Content, _: str) -> None:
        await self.files.trash(content.name)
        await self.files.restore(content.name)

    async def update(self, content: Content, _: str) -> None:
        await self.files.update(content.name, metadata={"seen": self.random.randrange(100)})

    async def look(self, content: Content, _: str) -> None:
        question = self.random.choice([self.files.status, self.files.health, self.files.platforms])
        await question()
        await self.files.audit.query(file=await self.files.get(content.name), limit=10)

    async def guarded(self, _: Content, __: str) -> None:
        try:
            async with self.limiter, self.breaker:
                await asyncio.sleep(0)
                if self.random.random() < 0.05:
                    raise ValueError
        except ValueError:
            pass


# ===== the world around it =====


@contextmanager
def hurried(registry: Path) -> Iterator[None]:
    """What watchers do in turns comes sooner: another process takes a day off their waits in half an hour."""
    code = """if True:
        import sqlite3, sys, time
        connection, every = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None), 0.5
        sooner = int((float(sys.argv[2]) - 1) * every * 1e6)
        while True:
            time.sleep(every)
            connection.execute("UPDATE watch_tasks SET due_at = due_at - ?1, lease_until = lease_until - ?1", (sooner,))"""
    process = subprocess.Popen([sys.executable, "-c", code, str(registry), str(FASTER)])
    try:
        yield
    finally:
        assert process.poll() is None, "nobody hurried the watchers"
        process.terminate()
        process.wait()


@contextmanager
def breaking(running: Simulator) -> Iterator[None]:
    for platform in PLATFORMS:
        for fault in FAULTS:
            rule = {"platform": platform, "when": {"rate": BROKEN / len(FAULTS)}, "fault": fault}
            running.admin("POST", "/faults", rule)
    try:
        yield
    finally:
        running.admin("DELETE", "/faults")


@dataclass
class Soak:
    """One run: a client, its simulator and its registry."""

    files: exai_files.AsyncClient
    running: Simulator
    registry: Path
    contents: Sequence[Content]
    seed: int
    idle: int
    """Sockets before the first call."""

    async def work(self, seconds: float, tasks: int, record: Record) -> None:
        """Everything at once, until the time is over."""
        until = time.monotonic() + seconds
        workers = [Worker(self.files, self.contents, record, f"{self.seed}/{n}/{tasks}") for n in range(tasks + 1)]
        with breaking(self.running):
            watch = workers.pop().watch(until)
            await asyncio.gather(*(worker.work(until) for worker in workers), watch, self.observe(until, record))

    async def observe(self, until: float, record: Record) -> None:
        begun, told = time.monotonic(), 0
        while time.monotonic() < until:
            await asyncio.sleep(1)
            figures, elapsed = of_the_process(), time.monotonic() - begun
            record.note(figures)
            record.samples.append(Sample(elapsed, record.calls, figures["memory"], figures["memory in use"]))
            if elapsed // 30 > told:
                told = int(elapsed // 30)
                record.note(rows_in_flight(self.registry))
                tell_progress(elapsed, figures, record, self.registry.stat().st_size)

    async def settle(self) -> dict[str, int]:
        """Waits until nothing is under way and nothing idle is kept, at most so long; gives what is left."""
        give_up, quiet = time.monotonic() + PATIENCE, False
        while not quiet and time.monotonic() < give_up:
            await self.files.recovery.run()
            await self.files.audit.checkpoint()
            await asyncio.sleep(1)
            quiet = not any(rows_in_flight(self.registry).values()) and descriptors()["socket"] <= self.idle
        gc.collect()
        return {**of_the_process(), **rows_in_flight(self.registry)}

    # ===== what must be right afterwards =====

    async def judge(self) -> list[str]:
        wrong = self.differences()
        report = await self.files.audit.verify()
        if not report.is_intact:
            wrong.append(f"the audit log: {report.findings}")
        if asked(self.registry, "PRAGMA integrity_check") != [("ok",)]:
            wrong.append("the database is damaged")
        wrong += self.missing_records()
        for content in self.contents:
            await self.files.upload(content.path, to=list(PLATFORMS))
        wrong += self.differences()
        held = Counter(file["sha256"] for files in map(self.remote, PLATFORMS) for file in files)
        if held != Counter({content.sha256: len(PLATFORMS) for content in self.contents}):
            wrong.append(f"uploaded once more, there are {held.total()} files of {len(held)} contents")
        return wrong

    def remote(self, platform: str) -> list[dict[str, str]]:
        files: list[dict[str, str]] = self.running.admin("GET", f"/files?platform={platform}")
        return files

    def differences(self) -> list[str]:
        """What is bound is there, with its bytes and once, and nothing else is."""
        there = {(platform, file["id"], file["sha256"]) for platform in PLATFORMS for file in self.remote(platform)}
        stored = "CASE platform WHEN 'kimi' THEN 'moonshot' ELSE 'zai' END, platform_file_id, file_hash"
        bound = set(asked(self.registry, f"SELECT {stored} FROM platform_file_registry WHERE status = 'active'"))
        wrong = [f"it is there and bound to nothing: {file}" for file in sorted(there - bound)]
        wrong += [f"it is bound and not there: {file}" for file in sorted(bound - there)]
        twice = Counter((platform, sha256) for platform, _, sha256 in there)
        return wrong + [f"it is there {count} times: {file}" for file, count in twice.items() if count > 1]

    def missing_records(self) -> list[str]:
        """Each copy came by one record of the audit log, and went by one."""
        of = """SELECT COUNT(*) FROM audit_log WHERE record LIKE '%"decision":"done"%' AND action IN"""
        came, went, copies, gone = asked(
            self.registry,
            f"SELECT ({of} ('upload', 'renew', 'adopt')), ({of} ('delete', 'lose', 'expire')), COUNT(*), "
            "COUNT(*) FILTER (WHERE status = 'deleted') FROM platform_file_registry",
        )[0]
        if (came, went) == (copies, gone):
            return []
        return [f"{copies} copies came, by {came} records, and {gone} went, by {went}"]


# ===== what is said =====


def in_mib(size: int) -> str:
    return f"{size / MIB:.1f} MiB"


def tell_progress(elapsed: float, figures: dict[str, int], record: Record, size: int) -> None:
    failed = record.calls - record.ended("done", "cancelled")
    print(
        f"{elapsed / 60:5.1f} min  {record.calls:7} calls, {record.ended('cancelled')} cancelled, {failed} failed  "
        f"{in_mib(figures['memory'])}, {in_mib(figures['memory in use'])} in use, {figures['file descriptors']} descriptors, {figures['threads']} threads, "
        f"{figures['asyncio tasks']} tasks; registry {in_mib(size)}",
        flush=True,
    )


def tell(record: Record, start: dict[str, int], end: dict[str, int]) -> None:
    print("\n| | start | end | peak |\n|---|---|---|---|")
    for name, before in start.items():
        figures = [before, end[name], max(record.peak[name], before, end[name])]
        shown = [in_mib(figure) if "memory" in name else str(figure) for figure in figures]
        print(f"| {name} | {' | '.join(shown)} |")
    print("\n| minute | calls | memory | of it in use |\n|---|---|---|---|")
    step = min(300.0, record.samples[-1].at / 6)
    for number in range(1, round(record.samples[-1].at / step) + 1):
        sample = min(record.samples, key=lambda each: abs(each.at - number * step))
        print(f"| {sample.at / 60:.1f} | {sample.calls} | {in_mib(sample.memory)} | {in_mib(sample.in_use)} |")
    outcomes = Counter[str]()
    for (_, outcome), count in record.outcomes.items():
        outcomes[outcome] += count
    print(f"\ncalls: {dict(outcomes.most_common())}\nnotices: {dict(record.notices)}")


def growth(samples: Sequence[Sample], figure: Callable[[Sample], int]) -> float:
    """Bytes a call by which a figure grew, as a straight line."""
    calls, figures = [float(sample.calls) for sample in samples], [float(figure(sample)) for sample in samples]
    mean_calls, mean = sum(calls) / len(calls), sum(figures) / len(figures)
    spread = sum((each - mean_calls) ** 2 for each in calls)
    return sum((x - mean_calls) * (y - mean) for x, y in zip(calls, figures, strict=True)) / spread


def not_given_back(record: Record, start: dict[str, int], end: dict[str, int]) -> list[str]:
    kept = [name for name in start if end[name] > start[name] and "memory" not in name]
    wrong = [f"{name}: {start[name]} at the start, {end[name]} at the end" for name in kept]
    wrong += [f"{name}: {end[name]} are left" for name in ROWS if end[name]]
    last = record.samples[len(record.samples) * 2 // 3 :]
    allowed = max(LEFT_BY_A_CALL, NOISE / (last[-1].calls - last[0].calls))
    for name, figure in (("memory", lambda each: each.memory), ("memory in use", lambda each: each.in_use)):
        a_call = growth(last, figure)
        print(f"{name}, last third: {a_call:+.1f} bytes a call; up to {allowed:.1f} is flat")
        if a_call > allowed:
            wrong.append(f"{name} grew by {a_call:.1f} bytes a call")
    return wrong


# ===== the run =====


@asynccontextmanager
async def soaked(home: Path, seed: int) -> AsyncIterator[Soak]:
    registry = home / "registry.db"
    contents = [Content(home, number, seed) for number in range(CONTENTS)]
    settings = {
        "recovery": {"every": 30 / FASTER},
        "retry": {"commit_horizon": 0.2, "base": 0.05},
        "copies": {"place": str(home / "copies")},
    }
    with simulator(store_content="memory") as running:
        platforms = {name: {"base_url": running.urls[name], "api_key": KEYS[name]} for name in PLATFORMS}
        platforms["zai"]["max_files"] = 1_000_000  # type: ignore[assignment]
        async with exai_files.AsyncClient(
            registry=registry, platforms=platforms, environment={}, settings=settings
        ) as files:
            with hurried(registry):
                yield Soak(files, running, registry, contents, seed, idle=descriptors()["socket"])


async def run(minutes: float, seed: int) -> list[str]:
    with tempfile.TemporaryDirectory() as home:
        async with soaked(Path(home), seed) as soak:
            print(f"seed {seed}; warming up", flush=True)
            await soak.work(WARM_UP, WARM_UP_TASKS, Record())
            start, record = await soak.settle(), Record()
            await soak.work(minutes * 60, TASKS, record)
            end = await soak.settle()
            tell(record, start, end)
            return not_given_back(record, start, end) + await soak.judge()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    given = parser.parse_args()
    wrong = asyncio.run(run(given.minutes, given.seed))
    print("\n".join(wrong) or "all is as it was")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
