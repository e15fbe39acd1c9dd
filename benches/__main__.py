"""`make bench`: runs every comparison, prints a table of ratios and writes it to `benches/RESULTS.md`."""

from __future__ import annotations

import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benches import redis

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
EXAMPLES = HERE.parent / "target" / "release" / "examples"
LOAD_GENERATOR = EXAMPLES / "simulator_load"
RESILIENCE_LOAD = EXAMPLES / "resilience_load"
REGISTRY_LOAD = EXAMPLES / "registry_load"
MB = 1_000_000
ROUNDS = 3


@dataclass
class Row:
    """One contestant's figures in one comparison."""

    name: str
    wall: float
    cpu: float
    rss_growth: int
    failed: int
    notes: str = ""


class Simulator:
    """The bundled simulator in a process of its own, keeping digests but not bytes."""

    def __init__(self, urls: dict[str, str]) -> None:
        self.urls = urls

    def admin(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401  (JSON)
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.urls["admin"] + path, data=data, method=method)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)


@contextmanager
def simulator(**settings: Any) -> Iterator[Simulator]:  # noqa: ANN401  (JSON)
    command = [sys.executable, "-m", "exai_files", "sim", "serve", "--seed", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    running = Simulator(json.loads(process.stdout.readline()))
    generous = {
        "store_content": "digest_only",
        "max_files": 1_000_000,
        "max_total_bytes": 1 << 50,
        "max_file_bytes": 1 << 40,
    }
    for name in ("moonshot", "zai"):
        running.admin("POST", f"/settings/{name}", {**generous, **settings})
    try:
        yield running
    finally:
        process.terminate()
        process.wait()


def run(name: str, running: Simulator, registry: Path, files: Sequence[Path]) -> Row:
    """One contestant in a fresh process."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.write("\n".join(map(str, files)))
        listed.flush()
        command = [
            sys.executable,
            "-m",
            "benches.contestants",
            name,
            json.dumps(running.urls),
            str(registry),
            f"@{listed.name}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    figures = json.loads(done.stdout)
    return Row(name, figures["wall"], figures["cpu"], figures["rss_growth"], figures["failed"], figures["why"] or "")


def median(rows: list[Row]) -> Row:
    """The round with the median wall time."""
    return sorted(rows, key=lambda row: row.wall)[len(rows) // 2]


def make_files(home: Path, count: int, size: int) -> list[Path]:
    """Files of random bytes, old enough to count as settled."""
    source, paths = random.Random(1), []
    for number in range(count):
        path = home / f"{size}-{number}.bin"
        path.write_bytes(source.randbytes(size))
        os.utime(path, (1_700_000_000, 1_700_000_000))
        paths.append(path)
    return paths


# ===== the comparisons =====


def small_files(home: Path) -> list[str]:
    """2,000 × 64 KiB, 32 at a time."""
    files = make_files(home, 2_000, 64 * 1024)
    names = ["ours_async", "ours_sync", "openai_async", "openai_sync", "zai_sdk"]
    rounds: dict[str, list[Row]] = {name: [] for name in names}
    for number in range(ROUNDS):
        for name in names:
            with simulator() as running:
                rounds[name].append(run(name, running, home / f"small-{name}-{number}.db", files))
    rows = [median(rounds[name]) for name in names]
    base = next(row for row in rows if row.name == "openai_async")
    table = [
        "| | files/s | × openai async | CPU ms/file | of openai async | peak RSS growth MB | failed |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        rate, cpu = len(files) / row.wall, row.cpu / len(files) * 1000
        table.append(
            f"| {row.name} | {rate:.0f} | {base.wall / row.wall:.1f} | {cpu:.2f} | {row.cpu / base.cpu:.2f} "
            f"| {row.rss_growth / MB:.0f} | {row.failed} |"
        )
    return ["## 2,000 files of 64 KiB, 32 at a time", "", *table]


def large_file(home: Path) -> list[str]:
    """1 × 100 MB, 20 × 100 MB at once, and again unchanged."""
    files = make_files(home, 1, 100 * MB)
    table = ["| | MB/s | × openai async | peak RSS growth MB | failed |", "|---|---|---|---|---|"]
    rows = []
    for name in ["ours_async", "ours_sync", "openai_async", "openai_sync", "zai_sdk"]:
        with simulator() as running:
            rows.append(median([run(name, running, home / f"large-{name}-{n}.db", files) for n in range(ROUNDS)]))
    base = next(row for row in rows if row.name == "openai_async")
    for row in rows:
        table.append(
            f"| {row.name} | {100 / row.wall:.0f} | {base.wall / row.wall:.1f} | {row.rss_growth / MB:.0f} | {row.failed} |"
        )
    with simulator() as running:
        run("ours_sync", running, home / "again.db", files)
        again = median([run("ours_again", running, home / "again.db", files) for _ in range(ROUNDS)])
    twenty = make_twenty(home)
    with simulator() as running:
        many = run("ours_async", running, home / "twenty.db", twenty)
    return [
        "## 1 file of 100 MB",
        "",
        *table,
        "",
        f'The same file again, unchanged: {again.wall * 1000:.1f} ms until "already there", nothing sent.',
        f"20 different files of 100 MB at once: RSS grows by {many.rss_growth / MB:.0f} MB, {many.failed} failed, "
        f"{2000 / many.wall:.0f} MB/s.",
    ]


def make_twenty(home: Path) -> list[Path]:
    """Twenty sparse files that differ in their first bytes."""
    paths = []
    for number in range(20):
        path = home / f"sparse-{number}.bin"
        with path.open("wb") as file:
            file.write(number.to_bytes(8, "big"))
            file.truncate(100 * MB)
        os.utime(path, (1_700_000_000, 1_700_000_000))
        paths.append(path)
    return paths


def hashing(home: Path) -> list[str]:
    """Digest, size and type of 100 MB in the page cache."""
    files = make_files(home, 1, 100 * MB)
    with simulator() as running:
        ours, theirs = (
            median([run(name, running, home / "unused.db", files) for _ in range(ROUNDS)])
            for name in ("ours_hash", "hashlib")
        )
    return [
        "## Hashing 100 MB",
        "",
        f"ours {100 / ours.wall:.0f} MB/s (with size, type and plan), hashlib {100 / theirs.wall:.0f} MB/s: "
        f"{theirs.wall / ours.wall:.2f} ×. Both run at the speed of the processor's SHA instructions.",
    ]


def slow_link(home: Path) -> list[str]:
    """10 MB over 20 Mbit/s with 100 ms round trip, against the bare request over the same link."""
    files = make_files(home, 1, 10 * MB)
    link = {"bandwidth_bits_per_second": 20_000_000, "round_trip_ms": 100}
    with simulator(**link) as running:
        bare = median([run("raw_http", running, home / "unused.db", files) for _ in range(ROUNDS)])
        ours = median([run("ours_sync", running, home / f"link-{n}.db", files) for n in range(ROUNDS)])
    return [
        "## 10 MB over 20 Mbit/s, 100 ms round trip",
        "",
        f"ours {ours.wall:.2f} s, hashed, uploaded and registered; the bare request {bare.wall:.2f} s: "
        f"{(ours.wall - bare.wall) * 1000:.0f} ms of our own.",
    ]


def lost_replies(home: Path) -> list[str]:
    """1,000 uploads; 20 % of the replies are lost after storing, 5 % of the requests before."""
    files = make_files(home, 1_000, 2_048)
    table = ["| | stored twice | lost | said to have failed | lists per lost reply |", "|---|---|---|---|---|"]
    for name in ["ours_async", "openai_async", "zai_sdk"]:
        where = "zai" if name == "zai_sdk" else "moonshot"
        with simulator() as running:
            for kind, rate in (("lost_reply", 0.2), ("lost_request", 0.0625)):
                fault = {"platform": where, "operation": "upload", "when": {"rate": rate}, "fault": {"kind": kind}}
                running.admin("POST", "/faults", fault)
            row = run(name, running, home / f"lost-{name}.db", files)
            copies = Counter(file["sha256"] for file in running.admin("GET", f"/files?platform={where}"))
            truth = running.admin("GET", f"/truth?platform={where}")
        ambiguous = sum(entry["outcome"] in ("lost_reply", "lost_request") for entry in truth)
        lists = sum(entry["operation"] == "list" for entry in truth) - 1
        doubles, missing = sum(count - 1 for count in copies.values()), len(files) - len(copies)
        table.append(f"| {name} | {doubles} | {missing} | {row.failed} | {lists / max(ambiguous, 1):.2f} |")
    return ["## 1,000 uploads, 20 % of replies lost after storing, 5 % before", "", *table]


def simulator_speed(_: Path) -> list[str]:
    """Small uploads per second that the simulator takes, from one load generator in Rust."""
    with simulator() as running:
        done = subprocess.run([LOAD_GENERATOR, running.urls["moonshot"]], capture_output=True, text=True, check=True)
    return ["## The simulator", "", done.stdout.strip()]


def load(*arguments: object, program: Path = RESILIENCE_LOAD) -> Any:  # noqa: ANN401  (JSON)
    command = [str(argument) for argument in (program, *arguments)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def shared_limits(home: Path) -> list[str]:
    """Many processes under one limit, by the simulator's log of what arrived."""
    table = [
        "| state | processes | limit | most in any window | utilisation | Redis calls a grant | Jain's fairness |",
        "|---|---|---|---|---|---|---|",
    ]
    with redis.server(home) as server:
        load("limit", server.url, 50, 100, 2, 3)  # the binary and the scripts are in memory then
        runs = [
            ("Redis", server.url, 100, 100, 2, 60),
            ("SQLite", home / "s.db", 8, 100, 2, 60),
            ("Redis", server.url, 100, 60, 60, 150),
        ]
        for name, place, processes, limit, window, seconds in runs:
            asked = server.script_calls()
            told = load("limit", place, processes, limit, window, seconds)
            # Each process looks once before it begins, and asks once in vain when no turn is left before the end.
            asked = server.script_calls() - asked - 2 * processes
            calls = f"{asked / told['arrived']:.2f}" if name == "Redis" else "-"
            table.append(
                f"| {name} | {processes} | {limit} per {window} s | {told['most_in_a_window']} "
                f"| {told['utilisation']:.3f} | {calls} | {told['jain']:.3f} |"
            )
    return ["## One limit for many processes", "", *table]


def outage(_: Path) -> list[str]:
    """One platform is gone for 60 s under 50 callers; the other has 50 callers of its own."""
    told = load("outage", 60)
    return [
        "## One platform gone for 60 s, under 50 callers",
        "",
        f"{told['requests_during']} requests for {told['calls_during']} calls meanwhile ({told['requests_per_call']:.4f} each); "
        f"95 % of the throughput is back {told['seconds_until_95_percent']:.1f} s after the end. Calls of the other platform: "
        f"p99 {told['others_p99_before_ms']:.1f} ms before, {told['others_p99_during_ms']:.1f} ms meanwhile.",
    ]


def redis_troubles(home: Path) -> list[str]:
    """What happens to Redis, in the middle of two runs: calls well within their limit, and 16 processes at it."""
    table = ["| Redis is | calls | failed | slowest call, ms | most of 100 in any 2 s |", "|---|---|---|---|---|"]
    for name, trouble in redis.TROUBLES.items():
        within = in_trouble(home, trouble, "loss", 16)
        at_limit = in_trouble(home, trouble, "limit", 16, 100, 2, 20)
        failed = within["failed"] + at_limit["failed"]
        slowest = (
            f"{max(within['slowest_ms_by_second'][7:]):.0f}, before {max(within['slowest_ms_by_second'][1:5]):.0f}"
        )
        calls = within["calls"] + at_limit["arrived"]
        table.append(f"| {name} | {calls} | {failed} | {slowest} | {at_limit['most_in_a_window']} |")
    return ["## Redis in trouble, under load", "", *table]


def in_trouble(home: Path, trouble: redis.Trouble, kind: str, *arguments: object) -> Any:  # noqa: ANN401  (JSON)
    """What a load tells that is 8 seconds old, older than a process must be to know the others, when it happens."""
    with tempfile.TemporaryDirectory(dir=home) as place, ExitStack() as servers:
        if trouble is redis.failed_over:
            url, server = servers.enter_context(redis.watched_pair(Path(place)))
        else:
            server = servers.enter_context(redis.server(Path(place)))
            url = server.url
        command = [str(argument) for argument in (RESILIENCE_LOAD, kind, url, *arguments)]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        time.sleep(8)
        trouble(server)
        return json.loads(running.communicate()[0])


def new_database() -> str:
    """An empty one on the server that `.ci/with-postgres` has started."""
    server, name = os.environ["EXAI_TEST_POSTGRES"], f"bench_{time.time_ns()}"
    subprocess.run(["psql", server, "--quiet", "--command", f"CREATE DATABASE {name}"], check=True)
    return server.replace("/postgres?", f"/{name}?")


def registry_growth(home: Path) -> list[str]:
    """What a registry takes as it grows."""
    table = [
        "| | files | registered/s | open and first look-up, ms | look-up p50, p99, ms | page of 100: p50, worst of 200 depths, ms "
        "| worst of 13 questions, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for files in (10_000, 100_000, 1_000_000):
        for name, place in (("SQLite", home / f"{files}.db"), ("PostgreSQL", new_database())):
            told = load("scale", place, files, program=REGISTRY_LOAD)
            table.append(
                f"| {name} | {files:,} | {told['registered_per_second']:,.0f} | {told['open_and_first_ms']:.1f} "
                f"| {told['lookup_p50_ms']:.3f}, {told['lookup_p99_ms']:.3f} "
                f"| {told['page_p50_ms']:.2f}, {told['page_worst_ms']:.2f} | {told['question_worst_ms']:.1f} |"
            )
    return ["## A registry that grows", "", *table]


def audit_log(home: Path) -> list[str]:
    """What it costs that changes are noted, and to look at all of them."""
    rows = ["| | changes/s, 8 writers | p99 | verify 10⁶ records | prove one |", "|---|---|---|---|---|"]
    for name, place in (("SQLite", str(home / "audit.db")), ("PostgreSQL", new_database())):
        told = load("audited", place, 20_000, 1_000_000, program=REGISTRY_LOAD)
        rows.append(
            f"| {name} | {told['operations_per_second']:,.0f} | {told['p99_ms']:.1f} ms "
            f"| {told['verify_seconds']:.1f} s | {told['prove_ms']:.1f} ms |"
        )
    return ["## The audit log", "", *rows]


def many_hosts(home: Path) -> list[str]:
    """Many processes that upload the same contents through one PostgreSQL; some are killed in the middle."""
    lines = []
    for killed in (0, 10):
        told = load("hosts", new_database(), 100, 20_000, 5_000, killed, program=REGISTRY_LOAD)
        lines.append(
            f"{told['uploads']:,} uploads of {told['contents']:,} contents by {told['processes']} processes, {killed} of them "
            f"killed and started again: {told['remote_files']:,} files on the platform, in {told['seconds']:.0f} s."
        )
    for name, place in (("PostgreSQL", new_database()), ("SQLite", home / "hit.db")):
        told = load("hit", place, 5_000, program=REGISTRY_LOAD)
        lines.append(
            f"An upload of what is there already takes {told['p50_ms']:.2f} ms p50, {told['p99_ms']:.2f} ms p99 on {name}."
        )
    return ["## Many processes, the same contents", "", *lines]


def unchanged_files(_: Path) -> list[str]:
    """100,000 files of 1 MiB that have not changed since they were last seen, against hashing them."""
    told = load("rescan", 100_000, program=REGISTRY_LOAD)
    return [
        "## 100,000 files of 1 MiB, unchanged",
        "",
        f"{told['rescan_us']:.0f} µs a file to know that it is there, {told['hash_us']:.0f} µs to hash it: {told['times']:.0f} ×.",
    ]


def guards(_: Path) -> list[str]:
    """One call let through and its result recorded, against what a user would take instead."""
    done = subprocess.run([sys.executable, "-m", "benches.guards"], capture_output=True, text=True, cwd=HERE.parent)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    table = ["| | ns a call | × ours |", "|---|---|---|"]
    for kind, rows in json.loads(done.stdout).items():
        ours = rows["exai_files"]
        table += [f"| {kind}: {name} | {ns:.0f} | {ns / ours:.1f} |" for name, ns in rows.items()]
    rust = load("admit")["admit_and_record_ns"]
    return [
        "## A breaker or a limit around a call of one's own",
        "",
        *table,
        "",
        f"In Rust, without Python: {rust:.0f} ns.",
    ]


def start_up(_: Path) -> list[str]:
    """What `--help` takes, the interpreter's own start included."""
    bare, ours, theirs = (
        min(_seconds([sys.executable, *arguments]) for _ in range(10))
        for arguments in (["-c", "pass"], ["-m", "exai_files", "--help"], ["-c", "import openai"])
    )
    return [
        "## Start-up",
        "",
        f"`exai-files --help` {ours * 1000:.0f} ms, `import openai` alone {theirs * 1000:.0f} ms ({theirs / ours:.1f} ×), "
        f"the bare interpreter {bare * 1000:.0f} ms. The best of ten.",
    ]


def _seconds(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - begun


def main() -> None:
    wanted = sys.argv[1:]
    comparisons = [simulator_speed, small_files, large_file, hashing, slow_link, lost_replies, start_up]
    comparisons += [guards, outage, redis_troubles, shared_limits]
    comparisons += [registry_growth, audit_log, many_hosts, unchanged_files]
    lines = [
        "# Results",
        "",
        f"`make bench` on {datetime.now(timezone.utc):%Y-%m-%d}, {os.cpu_count()} cores, CPython {platform.python_version()}; "
        "each contestant in a process of its own, against the bundled simulator in another. "
        f"Medians of {ROUNDS} rounds; read the ratios, not the absolute figures.",
    ]
    for comparison in comparisons:
        if wanted and comparison.__name__ not in wanted:
            continue
        with tempfile.TemporaryDirectory() as home:
            section = comparison(Path(home))
        print("\n".join(["", *section]), flush=True)
        lines += ["", *section]
    if not wanted:
        RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
