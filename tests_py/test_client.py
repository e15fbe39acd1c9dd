"""The verbs, as users call them; each test runs waiting and awaited."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import io
import os
import pickle
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import exai_files
from exai_files.demo import sample_files


def test_upload_twice_sends_once(files, sim):
    first = files.upload(b"hello", name="a.txt", to=["moonshot", "zai"])
    again = files.upload(b"hello", name="b.txt", to=["moonshot", "zai"])
    assert [replica.origin for replica in first.replicas] == ["sent", "sent"]
    assert [replica.origin for replica in again.replicas] == ["already-there", "already-there"]
    assert first.digest == "sha256:" + hashlib.sha256(b"hello").hexdigest() == again.digest
    assert len(sim.truth(operation="upload")) == 2


def test_aliases_of_the_existing_tool_are_accepted(files, sim):
    record = files.upload(b"hello", name="a.txt", to=["kimi", "glm"])
    assert {replica.platform for replica in record.replicas} == {"moonshot", "zai"}
    assert record.on("kimi").remote_id == sim.moonshot.files[0].id


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: str(path), id="str"),
        pytest.param(lambda path: path, id="Path"),
        pytest.param(lambda path: path.open("rb"), id="file"),
        pytest.param(lambda path: path.read_bytes(), id="bytes"),
        pytest.param(lambda path: bytearray(path.read_bytes()), id="bytearray"),
        pytest.param(lambda path: memoryview(path.read_bytes()), id="memoryview"),
        pytest.param(lambda path: io.BytesIO(path.read_bytes()), id="BytesIO"),
    ],
)
def test_every_kind_of_source(files, sim, tmp_path, make):
    path = tmp_path / "报告.txt"
    path.write_bytes(b"the same bytes")
    source = make(path)
    try:
        named = isinstance(source, (str, Path)) or getattr(source, "name", None)
        files.upload(source, to="moonshot", **({} if named else {"name": "报告.txt"}))
    finally:
        if hasattr(source, "close"):
            source.close()
    (stored,) = sim.moonshot.files
    assert stored.filename.startswith("报告~")
    assert sim.moonshot.bytes(stored.id) == b"the same bytes"


class Dripping(io.RawIOBase):
    """A stream that gives less than it is asked for, as pipes and sockets do."""

    def __init__(self, data: bytes, piece: int) -> None:
        self._rest, self._piece = memoryview(data), piece

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        piece, self._rest = self._rest[: self._piece], self._rest[self._piece :]
        buffer[: len(piece)] = piece
        return len(piece)


@pytest.mark.parametrize(("size", "piece"), [(1_000, 7), (5 << 20, 100_000)], ids=["small", "spooled"])
def test_a_stream_is_read_to_its_end(sim, tmp_path, size, piece):
    data = os.urandom(size)
    with sim.client(settings={"upload": {"root": str(tmp_path)}}) as files:
        record = files.upload(Dripping(data, piece), name="big.bin", to="moonshot", purpose="image")
    assert (record.size, sim.moonshot.files[0].sha256) == (size, hashlib.sha256(data).hexdigest())


def test_a_task_that_waits_for_a_stream_is_cancelled_at_once(sim):
    reading, writing = os.pipe()

    async def main() -> float:
        async with sim.async_client() as files:
            with os.fdopen(reading, "rb", buffering=0) as stream:
                begun = time.monotonic()
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(files.upload(stream, name="a.txt", to="moonshot"), 0.1)
                os.close(writing)  # lets the reading thread go, too
        return time.monotonic() - begun

    assert asyncio.run(main()) < 5
    assert not sim.moonshot.files


@pytest.mark.parametrize(
    "make", [lambda path: path, lambda path: path.read_bytes(), lambda path: io.BytesIO(path.read_bytes())]
)
def test_ensure_sends_what_it_was_given_when_the_platform_lost_it(files, sim, tmp_path, make):
    path = tmp_path / "a.txt"
    path.write_text("given")
    first = files.ensure(make(path), platform="kimi", name="a.txt", max_age=0)
    sim.moonshot.vanish(first.remote_id)
    second = files.ensure(make(path), platform="kimi", name="a.txt", max_age=0)
    assert second.remote_id != first.remote_id
    assert [file.id for file in sim.moonshot.files] == [second.remote_id]


def test_closing_ends_a_running_call(sim):
    sim.moonshot.fault("stall", operation="upload")
    files, failed = sim.client(), []

    def upload() -> None:
        try:
            files.upload(b"hello", name="a.txt", to="moonshot")
        except exai_files.CancelledError as error:
            failed.append(error)

    calling = threading.Thread(target=upload)
    calling.start()
    while not sim.truth(operation="upload"):
        pass
    files.close()
    calling.join(timeout=10)
    assert failed


def test_any_platform_that_is_well_will_do(files, sim):
    first = files.upload(b"hello", name="a.txt", to="any", prefer=["zai", "moonshot"])
    assert (first.choice.platform, first.choice.because, len(first.replicas)) == ("zai", "first", 1)
    files.set_breaker("zai", "forced-open")
    other = files.upload(b"other", name="b.txt", to="any", prefer=["zai", "moonshot"])
    assert (other.choice.platform, other.choice.because) == ("moonshot", "next-best")
    assert "left in peace" in other.choice.passed_over["zai"]
    assert files.plan(b"new", name="c.txt", to="any", prefer=["zai"]).targets[0].platform == "moonshot"
    assert files.upload(b"plain", name="d.txt", to="moonshot").choice is None
    with pytest.raises(exai_files.InvalidRequestError, match="any"):
        files.upload(b"hello", name="a.txt", to="zai", prefer=["moonshot"])


def test_health_shows_limits_and_budget(sim):
    with sim.client(settings={"platforms": {"moonshot": {"requests_per_minute": 100}}}) as files:
        files.upload(b"hello", name="a.txt", to="moonshot", bulk=True)
        moonshot = next(each for each in files.health() if each.platform == "moonshot")
    assert (moonshot.pace.used, moonshot.pace.share, moonshot.pace.paused_for) == (1, 1.0, 0.0)
    assert (moonshot.budget.tokens, moonshot.budget.retries, moonshot.in_flight) == (500, 0, 0)


def test_health_says_who_is_left_in_peace_and_why(sim):
    sim.moonshot.fault({"kind": "status", "status": 503, "body": {}}, operation="list")
    files = sim.client(settings={"breaker": {"minimum_number_of_calls": 4}, "retry": {"base": 0.01}})
    with pytest.raises(exai_files.CircuitOpenError) as refused:
        files.list_remote("moonshot")
    assert len(refused.value.attempts) == 4
    assert 0 < refused.value.retry_after <= 5
    moonshot = next(each for each in files.health() if each.platform == "moonshot")
    (opened,) = [breaker for breaker in moonshot.breakers if breaker.state == "open"]
    assert (moonshot.is_healthy, opened.operation, "503" in opened.last_error) == (False, "list", True)
    assert opened.open_until > datetime.now(timezone.utc)
    files.upload(b"hello", name="a.txt", to="moonshot")
    files.reset_breaker("moonshot")
    assert all(platform.is_healthy for platform in files.health())
    with pytest.raises(exai_files.InvalidRequestError, match="forced-open"):
        files.set_breaker("moonshot", "opened")


def test_names_are_found_in_any_case(files):
    files.upload(b"hello", name="Übung ФАЙЛ.txt", to="moonshot")
    assert [record.name for record in files.list(name="übung файл")] == ["Übung ФАЙЛ.txt"]


def test_a_platform_nobody_knows_is_no_empty_list(files):
    with pytest.raises(exai_files.ConfigError, match="there is no platform"):
        list(files.list(platform="mooshot"))


def test_a_large_stream_is_spooled(files, sim):
    data = os.urandom(5 << 20)
    files.upload(io.BytesIO(data), name="big.bin", to="moonshot", purpose="image")
    assert sim.moonshot.files[0].sha256 == hashlib.sha256(data).hexdigest()


def test_a_stream_of_text_is_refused(files, sim):
    with pytest.raises(exai_files.InvalidRequestError, match="binary mode"):
        files.upload(io.StringIO("text"), name="a.txt", to="moonshot")
    assert not sim.truth()


def test_the_samples_arrive_byte_for_byte(files, sim):
    for path in sample_files():
        record = files.upload(path, to=["moonshot", "zai"])
        for platform in (sim.moonshot, sim.zai):
            stored = next(file for file in platform.files if file.sha256 == record.digest.removeprefix("sha256:"))
            assert platform.bytes(stored.id) == path.read_bytes()
    assert len(sim.moonshot.files) == len(sim.zai.files) == 6


def test_list_pages_filters_and_orders(files):
    for number in range(205):
        files.upload(b"%d" % number, name=f"n{number}.txt", to="zhipu", purpose="agent")
    records = list(files.list())
    assert [record.name for record in records[:2]] == ["n204.txt", "n203.txt"]
    assert len({record.digest for record in records}) == 205
    assert [record.name for record in files.list(name="N17.")] == ["n17.txt"]
    assert list(files.list(platform="moonshot")) == []
    assert len(list(files.list(platform="zhipu", newer_than=timedelta(hours=1)))) == 205
    assert list(files.list(newer_than=datetime(2100, 1, 1, tzinfo=timezone.utc))) == []


def test_a_file_is_found_by_every_name_it_has(files):
    record = files.upload(b"hello", name="a.txt", to="moonshot")
    (replica,) = record.replicas
    for reference in (
        record,
        replica,
        record.digest,
        record.digest[:19],
        record.digest[7:15],
        replica.remote_id,
        "a.txt",
    ):
        assert files.get(reference).digest == record.digest
    files.upload(b"other", name="a.txt", to="moonshot")
    with pytest.raises(exai_files.ConflictError, match="fits 2 files"):
        files.get("a.txt")
    with pytest.raises(exai_files.NotFoundError):
        files.get("nothing.txt")


def test_content_is_honest_about_what_it_is(files, sim):
    sim.zai.set(purposes="lenient")
    text = files.upload("中文".encode("gbk"), name="a.txt", to="moonshot")
    assert files.content(text).kind == "extracted-text"
    assert files.text(text) == files.content(text).text == "中文"
    lines = files.upload(b'{"n": 1}\n', name="b.jsonl", to="zai", purpose="batch")
    assert (files.content(lines).kind, files.content(lines).data) == ("bytes", b'{"n": 1}\n')
    opaque = files.upload(b"\x89PNG\r\n\x1a\n....", name="c.png", to="moonshot")
    assert opaque.replicas[0].content == "opaque"
    with pytest.raises(exai_files.UnsupportedError, match="gives nothing back"):
        files.content(opaque)


def test_download_keeps_originals_and_marks_texts(files, tmp_path):
    files.upload(b'{"n": 1}\n', name="b.jsonl", to="moonshot")
    done = files.download("b.jsonl", tmp_path)
    assert done.is_original
    assert done.path == tmp_path / "b.jsonl"
    assert done.path.read_bytes() == b'{"n": 1}\n'
    files.upload(b"hello", name="a.txt", to="moonshot")
    text = files.download("a.txt", tmp_path)
    assert not text.is_original
    assert text.path.name == "a.txt.extracted.json"


def test_delete_here_then_everywhere(files, sim):
    record = files.upload(b"hello", name="a.txt", to=["moonshot", "zai"])
    left = files.delete(record, platform="zai")
    assert [replica.platform for replica in left.replicas] == ["moonshot"]
    assert files.delete(record).replicas == ()
    assert sim.moonshot.files == sim.zai.files == []
    with pytest.raises(exai_files.NotFoundError, match="not on any platform"):
        files.delete(record)
    assert files.upload(b"hello", name="a.txt", to="moonshot").replicas[0].origin == "sent"


def test_ensure_gives_a_live_id(files, sim, tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"hello")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    while time.time() - path.stat().st_ctime < 1.1:  # before that its digest is not trusted to last
        files.upload(b"time passes", name="t.txt", to="zai")
    first = files.ensure(path, platform="moonshot")
    sim.moonshot.vanish(first.remote_id)
    record = files.get(first)
    assert files.ensure(record, platform="moonshot").remote_id == first.remote_id, "confirmed within the hour"
    healed = files.ensure(record, platform="moonshot", max_age=0)
    assert healed.remote_id != first.remote_id
    assert [file.id for file in sim.moonshot.files] == [healed.remote_id]


def test_what_a_platform_lists_is_shown_whole(files, sim):
    sim.moonshot.seed_file(filename="foreign.txt", content=b"not ours")
    (foreign,) = files.list_remote("moonshot")
    assert (foreign.name, foreign.size, foreign.status) == ("foreign.txt", 8, "ready")
    assert foreign.raw["status_details"] == ""


def test_platforms_know_what_is_held_and_where_facts_come_from(files):
    files.upload(b"hello", name="a.txt", to="zai")
    zai = next(info for info in files.platforms() if info.platform == "zai")
    assert (zai.files, zai.bytes) == (1, 5)
    assert zai.capabilities["retention_days"] == {
        "value": 180,
        "source": "docs.z.ai/api-reference/agents/file-upload",
        "as_of": "2026-10",
    }


def test_a_plan_says_what_would_happen_and_sends_nothing(files, sim):
    files.upload(b"hello", name="a.txt", to="moonshot")
    plan = files.plan(b"hello", name="a.txt", to=["moonshot", "zai"])
    assert [(target.platform, target.is_there) for target in plan.targets] == [("moonshot", True), ("zai", False)]
    assert len(sim.truth(operation="upload")) == 1


def test_progress_tells_of_every_transfer_to_its_end(files):
    told = []
    files.upload(b"x" * 100_000, name="a.txt", to=["moonshot", "zai"], progress=told.append)
    last = {transfer.platform: transfer for transfer in told}
    assert {name: (t.phase, t.sent, t.total) for name, t in last.items()} == {
        "moonshot": ("sent", 100_000, 100_000),
        "zai": ("sent", 100_000, 100_000),
    }


def test_a_progress_callback_that_raises_stops_the_upload(files, sim):
    sim.moonshot.fault("stall", when={"next": 1}, operation="upload")

    def refuse(_: exai_files.Transfer) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        files.upload(b"hello", name="a.txt", to="moonshot", progress=refuse)


def test_records_are_plain_values(files):
    record = files.upload(b"hello", name="a.txt", to="moonshot")
    assert pickle.loads(pickle.dumps(record)) == record
    assert dataclasses.asdict(record)["replicas"][0]["purpose"] == "file-extract"
    assert len(repr(record)) < 100
    assert record.created_at.tzinfo is timezone.utc
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.name = "other"


def test_a_closed_client_says_so(sim):
    client = sim.client()
    client.close()
    with pytest.raises(exai_files.RegistryError, match="open a new client"):
        client.upload(b"hello", name="a.txt", to="moonshot")


def test_the_registry_survives_the_client(sim, tmp_path):
    for expected in ("sent", "already-there"):
        with sim.client(registry=tmp_path / "registry.db") as client:
            assert client.upload(b"hello", name="a.txt", to="moonshot").replicas[0].origin == expected


def test_both_faces_have_the_same_verbs():
    def verbs(cls: type) -> dict[str, list[str]]:
        import inspect

        public = {name: getattr(cls, name) for name in dir(cls) if not name.startswith("_")}
        calls = {name: verb for name, verb in public.items() if not isinstance(verb, property)}
        return {name: list(inspect.signature(verb).parameters) for name, verb in calls.items()}

    assert verbs(exai_files.Client) == verbs(exai_files.AsyncClient)
    for name in verbs(exai_files.Client):
        waited, awaited = getattr(exai_files.Client, name), getattr(exai_files.AsyncClient, name)
        assert waited.__doc__
        assert waited.__doc__ == awaited.__doc__
    for name in ("Recovery", "Copies", "Audit"):
        assert verbs(getattr(exai_files, name)) == verbs(getattr(exai_files, f"Async{name}"))


def test_what_was_placed_a_moment_ago_and_is_not_listed_yet_is_not_lost(sim):
    sim.zai.set(list_delay_seconds=60)
    with sim.client(settings={"retry": {"commit_horizon": 3600}}) as files:
        placed = files.upload(b"hello", name="a.txt", to="zai").on("zai")
        assert files.ensure("a.txt", platform="zai", max_age=0).remote_id == placed.remote_id
        assert [health.verdict for health in files.check("a.txt")] == ["unknown"]
        assert files.get("a.txt").on("zai").remote_id == placed.remote_id
    assert len(sim.zai.files) == 1
