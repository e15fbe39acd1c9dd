"""Read by type checkers only: what the public API promises them."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from datetime import timedelta
from pathlib import Path

import exai_files


def waiting(files: exai_files.Client) -> None:
    record: exai_files.FileRecord = files.upload(Path("a.pdf"), to=["moonshot", "zai"], timeout=timedelta(seconds=5))
    files.upload("a.pdf", to="moonshot", purpose="file-extract", paranoid=True, timeout=5.0)
    files.upload(b"x", name="a.txt", to="moonshot")
    with Path("a.pdf").open("rb") as stream, exai_files.progress.rich() as show:
        files.upload(stream, to="zai", progress=show)
    replica: exai_files.Replica = files.ensure(record, platform="zai")
    files.ensure(Path("a.pdf"), platform="zai", max_age=timedelta(minutes=1))
    records: Iterable[exai_files.FileRecord] = files.list(newer_than=timedelta(days=1), tag=["paper"])
    remote: list[exai_files.RemoteFile] = files.list_remote("zai")
    content: exai_files.Content = files.content(replica)
    text: str = files.text(record.digest, platform="moonshot")
    download: exai_files.Download = files.download(record, Path("out"))
    left: exai_files.FileRecord = files.delete(record, platform="zai")
    infos: list[exai_files.PlatformInfo] = files.platforms()
    when_full: exai_files.WhenFull = "evict-lru"
    plan: exai_files.UploadPlan = files.plan("a.pdf", to="zai", when_full=when_full)
    target: exai_files.PlannedTarget = plan.targets[0]
    print(records, remote, content.data, text, download.path, left, infos, target.is_there)


def watching(files: exai_files.Client) -> None:
    def on_lost(notice: exai_files.Notice) -> None:
        print(notice.what, exai_files.metrics.text())

    hook: exai_files.Hook = on_lost
    for notice in files.watch(hooks={"lost": hook}):
        print(notice.event)
    with files.lease("a.pdf", platform="zai", for_=60) as lease:
        lease.renew(timedelta(hours=1))


async def awaited(files: exai_files.AsyncClient) -> None:
    record: exai_files.FileRecord = await files.upload("a.pdf", to="moonshot", progress=print)
    records: AsyncIterable[exai_files.FileRecord] = files.list()
    async for each in records:
        print(each.replicas[0].remote_id)
    async with files.lease(record, platform="zai", for_=60) as lease:
        await lease.renew(120)
    awaited_lease: exai_files.AsyncLease = await files.lease(record, platform="zai", for_=60)
    await awaited_lease.release()
    await files.delete(record)
    await files.close()


def failing(error: exai_files.RateLimitError, partial: exai_files.PartialUploadError) -> None:
    wait: float | None = error.retry_after
    failures: dict[str, exai_files.Error] = partial.failures
    print(wait, failures, partial.record.replicas, error.attempts)


def simulated() -> None:
    with exai_files.Simulator(seed=1) as simulator, simulator.client() as files:
        simulator.moonshot.fail_next(status=503)
        simulator.clock.advance(timedelta(days=181))
        print(files.get("a.txt"), simulator.moonshot.files[0].sha256)
