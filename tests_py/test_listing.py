"""Finding files, what is said of them, the trash, and tables for dataframes."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta, timezone

import pytest

import exai_files


@pytest.fixture
def three(files):
    return upload_three(files)


def upload_three(files):
    """A paper and a draft of alice's, and a large file of nobody's."""
    return [
        files.upload(b"a", name="paper.txt", to="moonshot", owner="alice", tags=["paper", "论文"], metadata={"n": 1}),
        files.upload(b"bb", name="draft.txt", to="zai", owner="alice", tags=["draft"]),
        files.upload(b"c" * 1000, name="large.txt", to=["moonshot", "zai"]),
    ]


def names(listing):
    return sorted(record.name for record in listing)


def test_files_are_found_by_what_is_known_of_them(files, three):
    paper, draft, large = three
    assert (paper.owner, paper.tags, paper.metadata) == ("alice", ("paper", "论文"), {"n": 1})
    for wanted, expected in [
        ({"tag": "论文"}, ["paper.txt"]),
        ({"tag": ["paper", "论文"]}, ["paper.txt"]),
        ({"tag": ["paper", "draft"]}, []),
        ({"owner": "alice"}, ["draft.txt", "paper.txt"]),
        ({"owner": "alice", "platform": "glm"}, ["draft.txt"]),
        ({"digest": large.digest[:20]}, ["large.txt"]),
        ({"digest": draft.digest.removeprefix("sha256:")[:8].upper()}, ["draft.txt"]),
        ({"larger_than": 2}, ["large.txt"]),
        ({"smaller_than": 2}, ["paper.txt"]),
        ({"older_than": timedelta(hours=1)}, []),
        ({"newer_than": 3600, "older_than": datetime.now(timezone.utc) + timedelta(hours=1)}, names(three)),
        ({"status": "live"}, names(three)),
        ({"status": "unplaced"}, []),
        ({"status": "trashed"}, []),
        ({"expires_within": timedelta(days=179)}, []),
        ({"expires_within": timedelta(days=181)}, ["draft.txt", "large.txt"]),  # Z.ai keeps files 180 days
        ({"account": "default", "platform": "moonshot"}, ["large.txt", "paper.txt"]),
        ({"account": "nobody"}, []),
    ]:
        assert names(files.list(**wanted)) == expected, wanted
    files.delete(draft)
    assert names(files.list(status="unplaced")) == ["draft.txt"]


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"status": "lost"}, "unknown variant `lost`"),
        ({"digest": "xyz"}, "is no start of a digest"),
        ({"digest": ""}, "is no start of a digest"),
        ({"larger_than": -1}, "a size of -1"),
        ({"larger_than": True}, "a size of True"),
        ({"larger_than": 2**70}, "invalid type"),
        ({"tag": [1]}, "is no list of tags"),
        ({"tag": 5}, "is no list of tags"),
        ({"status": object()}, "this cannot be asked"),
        ({"name": 1}, "name cannot be a int"),
        ({"newer_than": "1h"}, "a duration of '1h'"),
        ({"platform": "no such/thing"}, "is not a platform name"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(files, wanted, says):
    with pytest.raises(exai_files.InvalidRequestError, match=says):
        list(files.list(**wanted))


def test_what_is_said_of_a_file_changes_and_survives(files, sim, three):
    paper, _, _ = three
    changed = files.update(paper, tags=["new"], untag=["论文"], metadata={"n": None, "m": [1, {"x": "é"}]}, owner="bob")
    assert (changed.tags, changed.metadata, changed.owner) == (("new", "paper"), {"m": [1, {"x": "é"}]}, "bob")
    assert files.get("paper.txt") == changed, "and is what the registry holds"
    again = files.upload(b"a", name="paper.txt", to="moonshot", tags=["newest"])
    assert again.tags == ("new", "newest", "paper")
    assert again.replicas[0].origin == "already-there"
    assert len(sim.truth(operation="upload")) == 4
    other = files.upload(b"a", name="copy.txt", to="moonshot", owner="carol")
    assert other.owner == "bob", "who had it first"
    assert names(files.list(owner="carol")) == ["paper.txt"]


@pytest.mark.parametrize(
    "said",
    [
        {"tags": [""]},
        {"tags": ["a\tb"]},
        {"tags": "x" * 201},
        {"tags": [1]},
        {"owner": ""},
        {"metadata": {"x": object()}},
        {"metadata": {"x": float("nan")}},
        {"metadata": {"x": "y" * 70_000}},
    ],
)
def test_what_cannot_be_said_is_refused_before_anything_is_sent(files, sim, said):
    with pytest.raises(exai_files.InvalidRequestError):
        files.upload(b"hello", name="a.txt", to="moonshot", **said)
    assert sim.truth(operation="upload") == []
    assert list(files.list()) == []


def test_what_is_in_the_trash_is_not_used_until_it_is_taken_out(files, sim, three):
    paper, draft, _ = three
    trashed = files.trash("paper.txt")
    assert trashed.trashed_at is not None
    assert files.trash(paper).trashed_at == trashed.trashed_at, "since then"
    assert names(files.list()) == ["draft.txt", "large.txt"]
    assert names(files.list(status="trashed")) == ["paper.txt"]
    for use in (
        lambda: files.text(paper),
        lambda: files.content(paper),
        lambda: files.ensure(paper, platform="moonshot"),
    ):
        with pytest.raises(exai_files.NotFoundError, match="in the trash since"):
            use()
    assert len(sim.moonshot.files) == 2, "its copies stay where they are"
    restored = files.restore("paper.txt")
    assert (restored.trashed_at, restored.tags) == (None, ("paper", "论文"))
    assert files.text(paper) == "a"
    files.trash(draft)
    again = files.upload(b"bb", name="draft.txt", to="zai")
    assert (again.trashed_at, again.replicas[0].origin) == (None, "already-there"), "handed over again: not trash"
    assert names(files.list(status="trashed")) == []
    files.trash(draft)
    assert files.delete(draft).replicas == ()
    with pytest.raises(exai_files.NotFoundError):
        files.trash("no such file")


def test_a_name_in_the_trash_does_not_hide_another(files):
    old = files.upload(b"old", name="a.txt", to="moonshot")
    files.trash(old)
    new = files.upload(b"new", name="a.txt", to="moonshot")
    assert files.get("a.txt").digest == new.digest


ROW = {"digest", "name", "size", "mime", "created_at", "owner", "tags", "metadata", "trashed_at", "replicas"}


def test_dataframes_read_the_table(sim):
    import duckdb
    import polars
    import pyarrow

    with sim.client() as files:
        paper, _, large = upload_three(files)
        table = files.list().to_arrow()
    assert (table.num_rows, len(table), set(table.column_names)) == (3, 3, ROW)

    arrow = pyarrow.table(table)
    rows = {row["name"]: row for row in arrow.to_pylist()}
    assert rows["paper.txt"]["digest"] == paper.digest
    assert rows["paper.txt"]["tags"] == ["paper", "论文"]
    assert json.loads(rows["paper.txt"]["metadata"]) == {"n": 1}
    assert rows["paper.txt"]["created_at"] == paper.created_at
    assert [replica["remote_id"] for replica in rows["large.txt"]["replicas"]] == [
        replica.remote_id for replica in large.replicas
    ]
    assert arrow.to_pandas()["size"].sum() == 1003

    frame = polars.DataFrame(table)
    assert frame.filter(polars.col("tags").list.contains("draft"))["name"].to_list() == ["draft.txt"]
    exploded = frame.explode("replicas").unnest("replicas", separator=".")
    assert sorted(exploded["replicas.platform"].to_list()) == ["moonshot", "moonshot", "zai", "zai"]

    reader = pyarrow.RecordBatchReader.from_stream(table)
    counted = duckdb.from_arrow(reader).aggregate("count(*), sum(size)").fetchall()
    assert counted == [(3, 1003)]


def test_an_empty_registry_is_an_empty_table(sim):
    import pyarrow

    with sim.client() as files:
        table = pyarrow.table(files.list(name="nothing").to_arrow())
        assert (table.num_rows, set(table.column_names)) == (0, ROW)


def test_awaited_listings_iterate_and_become_tables(sim):
    async def work():
        async with sim.async_client() as files:
            for number in range(3):
                await files.upload(str(number).encode(), name=f"{number}.txt", to="moonshot")
            listing = files.list()
            once = [record.name async for record in listing]
            twice = [record.name async for record in listing]
            return once, twice, await listing.to_arrow()

    once, twice, table = asyncio.run(work())
    assert once == twice == ["2.txt", "1.txt", "0.txt"]
    assert table.num_rows == 3
