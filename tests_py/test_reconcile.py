"""What platforms list against what the registry says, and making them agree."""

from __future__ import annotations

from collections import Counter

import databases
import pytest

import exai_files

pytestmark = pytest.mark.once

OLD = "2020-01-01T00:00:00Z"


def signs(done):
    return Counter(difference.sign for difference in done.differences)


def only(done):
    (difference,) = done.differences
    return difference


@pytest.fixture
def files(sim, tmp_path):
    # The simulator lists a file at once, so that nothing is too new to be judged by a listing.
    settings = {"retry": {"commit_horizon": 0, "base": 0.05}}
    with sim.client(registry=databases.place(tmp_path / "r.db"), settings=settings) as client:
        yield client


@pytest.fixture
def change(tmp_path):
    """Changes the registry behind its back."""
    return lambda sql: databases.query(databases.place(tmp_path / "r.db"), sql)


@pytest.fixture
def paper(files, tmp_path):
    path = tmp_path / "paper.txt"
    path.write_text("on paper")
    return files.upload(path, to=["moonshot", "zai"])


def test_nothing_to_do_is_said_and_counts_as_a_look(files, paper):
    before = files.get(paper).replicas
    done = files.reconcile()
    assert (done.equal, done.differences, done.unasked, done.is_settled) == (2, (), (), True)
    after = files.get(paper).replicas
    assert all(new.verified_at > old.verified_at for old, new in zip(before, after, strict=True))
    assert signs(files.reconcile(with_equal=True, platform="kimi")) == {"=": 1}
    verified = [replica.verified_at for replica in after if replica.platform == "zai"]
    files.reconcile(dry_run=True)
    assert [replica.verified_at for replica in files.get(paper).replicas if replica.platform == "zai"] == verified


def test_a_file_that_no_row_explains_is_reported_adopted_or_deleted(files, sim, paper):
    (known,) = sim.moonshot.files
    # The same content again, under the name we would give it; one nobody knows; one whose bytes can be had.
    twin = sim.moonshot.seed_file(filename=known.filename, content=b"on paper", purpose="file-extract", created_at=OLD)
    stranger = sim.moonshot.seed_file(filename="stranger.txt", purpose="file-extract", created_at=OLD)
    batch = sim.moonshot.seed_file(filename="b.jsonl", content=b'{"a":1}\n', purpose="batch", created_at=OLD)
    census = files.reconcile(platform="moonshot")
    assert {orphan.remote_id for orphan in census.orphans} == {twin.id, stranger.id, batch.id}
    assert not census.is_settled
    by_id = {orphan.remote_id: orphan for orphan in census.orphans}
    assert by_id[twin.id].digest == paper.digest, "its name tells"
    assert (by_id[stranger.id].digest, by_id[stranger.id].action) == (None, "none")

    adopted = files.reconcile(platform="moonshot", only_remote="adopt")
    told = {each.remote_id: (each.is_done, each.obstacle) for each in adopted.differences}
    assert told[batch.id] == (True, None)
    assert told[twin.id] == (False, f"moonshot has this content already, as {known.id}")
    assert told[stranger.id] == (False, "its content is not known, and the platform does not give it back")
    assert files.get(batch.id).name == "b.jsonl"
    again = files.upload(b'{"a":1}\n', name="again.jsonl", to="moonshot", purpose="batch")
    assert (again.replicas[0].remote_id, again.replicas[0].origin) == (batch.id, "already-there")

    young = sim.moonshot.seed_file(filename="young.txt", purpose="file-extract")
    planned = files.reconcile(platform="moonshot", only_remote="delete", dry_run=True)
    assert Counter(each.action for each in planned.differences) == {"delete": 2, "none": 1}
    assert len(sim.moonshot.files) == 5
    done = files.reconcile(platform="moonshot", only_remote="delete")
    assert {file.id for file in sim.moonshot.files} == {known.id, batch.id, young.id}
    assert [each.obstacle for each in done.differences if each.remote_id == young.id] == [
        "it is younger than 3600 s: somebody may be about to bind it"
    ]
    files.reconcile(platform="moonshot", only_remote="delete", min_age=0)
    assert files.reconcile(platform="moonshot").differences == ()


def test_an_upload_that_nobody_has_bound_yet_is_not_an_orphan(files, sim):
    sim.moonshot.fault("lost_reply", when={"next": 9}, operation="upload")
    sim.moonshot.fault({"kind": "status", "status": 503}, when={"next": 99}, operation="list")
    with pytest.raises(exai_files.Error):
        files.upload(b"hello", name="a.txt", to="moonshot", timeout=2)
    assert len(sim.moonshot.files) == 1
    sim.admin("DELETE", "/faults")
    files.reset_breaker("moonshot")
    done = files.reconcile(platform="moonshot", only_remote="delete", min_age=0)
    assert (done.differences, done.unasked, len(sim.moonshot.files)) == ((), (), 1), "the next upload adopts it"
    assert files.upload(b"hello", name="a.txt", to="moonshot").replicas[0].origin == "adopted"


@pytest.mark.parametrize("platform", ["moonshot", "zai"])
def test_what_a_platform_has_lost_is_reported_forgotten_or_made_anew(files, sim, paper, platform):
    simulated = {"moonshot": sim.moonshot, "zai": sim.zai}[platform]
    (lost,) = simulated.files
    simulated.vanish(lost.id)
    found = only(files.reconcile(platform=platform))
    assert (found.sign, found.remote_id, found.digest, found.action) == ("-", lost.id, paper.digest, "none")
    assert files.get(paper).on(platform) is not None
    healed = only(files.reconcile(platform=platform, only_local="reupload"))
    assert (healed.action, healed.is_done, healed.obstacle) == ("reupload", True, None)
    (new,) = simulated.files
    assert files.get(paper).on(platform).remote_id == new.id != lost.id
    assert files.reconcile(platform=platform).is_settled

    simulated.vanish(new.id)
    forgotten = only(files.reconcile(platform=platform, only_local="forget"))
    assert (forgotten.action, forgotten.is_done) == ("forget", True)
    assert files.get(paper).on(platform) is None
    assert files.reconcile(platform=platform).differences == ()


def test_what_cannot_be_made_anew_is_forgotten_and_said(files, sim):
    record = files.upload(b"from memory", name="m.txt", to="moonshot")
    sim.moonshot.vanish(sim.moonshot.files[0].id)
    done = only(files.reconcile(only_local="reupload"))
    assert not done.is_done
    assert "its bytes are not where they came from" in done.obstacle
    assert files.get(record).replicas == ()


def test_a_listing_that_lies_loses_nothing(files, sim, paper):
    sim.moonshot.fault(
        {"kind": "status", "status": 200, "body": '{"object": "list", "data": []}'}, when={"next": 1}, operation="list"
    )
    done = only(files.reconcile(platform="moonshot", only_local="forget"))
    assert (done.is_done, done.obstacle) == (False, "the platform has it after all")
    sim.zai.fault(
        {"kind": "status", "status": 200, "body": '{"object": "list", "data": []}'}, when={"next": 1}, operation="list"
    )
    done = only(files.reconcile(platform="zai", only_local="forget"))
    assert (done.is_done, done.obstacle) == (False, "the platform has it after all")
    assert len(files.get(paper).replicas) == 2


def test_more_than_is_allowed_is_not_begun(files, sim):
    for number in range(12):
        files.upload(str(number).encode(), name=f"{number}.txt", to="moonshot")
    for file in sim.moonshot.files:
        sim.moonshot.vanish(file.id)
    with pytest.raises(exai_files.SafetyLimitError, match=r"12 files of moonshot .*10 files are allowed"):
        files.reconcile(only_local="forget")
    with pytest.raises(exai_files.SafetyLimitError, match="50 % of 12"):
        files.reconcile(only_local="forget", max_delete="50%")
    assert all(record.replicas for record in files.list())
    assert len(files.reconcile(only_local="forget", dry_run=True).differences) == 12
    assert files.reconcile(only_local="forget", max_delete="100%").is_settled
    assert not any(record.replicas for record in files.list())


def test_whose_word_counts(files, sim, paper, change):
    (there,) = sim.moonshot.files
    change("UPDATE platform_file_registry SET remote_name = 'other.txt' WHERE platform = 'kimi'")
    found = only(files.reconcile(platform="moonshot"))
    assert (found.sign, found.action) == ("*", "none")
    assert found.why == (f'named "other.txt" here, "{there.filename}" there',)
    ours = only(files.reconcile(platform="moonshot", winner="local"))
    assert (ours.action, ours.obstacle) == ("none", "what differs cannot be changed on the platform")
    theirs = only(files.reconcile(platform="moonshot", winner="platform"))
    assert (theirs.action, theirs.is_done) == ("believe", True)
    assert files.get(paper).on("moonshot").remote_name == there.filename
    assert files.reconcile(platform="moonshot").is_settled

    change("UPDATE platform_file_registry SET file_size = 99 WHERE platform = 'kimi'")
    found = only(files.reconcile(platform="moonshot"))
    assert found.why == ("99 bytes here, 8 there",)
    theirs = only(files.reconcile(platform="moonshot", winner="platform"))
    assert (theirs.action, theirs.obstacle) == ("none", "its size says that it is another content than ours")
    newest = only(files.reconcile(platform="moonshot", winner="newest", dry_run=True))
    assert newest.action == "reupload", "the same age: ours stays"
    replaced = only(files.reconcile(platform="moonshot", winner="local"))
    assert (replaced.action, replaced.is_done, replaced.obstacle) == ("reupload", True, None)
    (new,) = sim.moonshot.files
    assert files.get(paper).on("moonshot").remote_id == new.id != there.id
    assert files.reconcile(platform="moonshot").is_settled


def test_a_platform_that_cannot_be_asked_is_said_and_concluded_nothing_of(files, sim, paper):
    sim.moonshot.fault({"kind": "status", "status": 401}, operation="list")
    done = files.reconcile(only_local="forget")
    assert [(each.platform, each.account) for each in done.unasked] == [("moonshot", "default")]
    assert (done.differences, done.is_settled) == ((), False)
    assert len(files.get(paper).replicas) == 2


def test_bad_input(files):
    for wrong in (
        {"max_delete": -1},
        {"max_delete": "101%"},
        {"max_delete": "ten"},
        {"max_delete": True},
        {"only_remote": "burn"},
        {"winner": "me"},
        {"winner": object()},
        {"platform": 7},
        {"platform": []},
        {"min_age": None},
        {"min_age": -1},
    ):
        with pytest.raises(exai_files.InvalidRequestError):
            files.reconcile(**wrong)
    with pytest.raises(exai_files.ConfigError):
        files.reconcile(platform="example")
    with pytest.raises(exai_files.ConfigError):
        files.reconcile(platform="moonshot", account="nobody")


def test_what_is_not_known_is_not_taken_away(sim):
    """As of a row of the tool's: nobody has hashed it, so nothing could take its place."""
    registry = databases.new_database("EXAI_TEST_PGBOUNCER")
    with sim.client(registry=registry) as files:
        files.upload(b"on paper", name="paper.txt", to="moonshot")
        databases.query(registry, "UPDATE platform_file_registry SET file_hash = NULL, file_size = 99")
        for winner in ("local", "newest"):
            kept = only(files.reconcile(platform="moonshot", winner=winner))
            assert (kept.action, kept.obstacle) == ("none", "our content is not known, and could not be made anew")
    assert len(sim.moonshot.files) == 1


def test_a_file_too_new_to_be_listed_is_not_given_up(sim, tmp_path):
    settings = {"retry": {"commit_horizon": 3600}}
    with sim.client(registry=databases.place(tmp_path / "n.db"), settings=settings) as files:
        files.upload(b"hello", name="a.txt", to="zai")
        sim.zai.vanish(sim.zai.files[0].id)
        found = only(files.reconcile(platform="zai", only_local="forget"))
        assert found.obstacle == "it was placed less than 3600 s ago: the platform may not list it yet"


def test_one_that_was_changed_meanwhile_is_left_alone(files, sim, paper, change):
    """Between looking and doing somebody else may have been there: a fault makes the time for it."""
    sim.moonshot.vanish(sim.moonshot.files[0].id)
    sim.moonshot.fault({"kind": "delay", "before_ms": 600}, when={"next": 1}, operation="get")
    import threading

    done = []
    working = threading.Thread(target=lambda: done.append(files.reconcile(platform="moonshot", only_local="reupload")))
    working.start()
    while not [entry for entry in sim.truth(operation="list") if entry["platform"] == "moonshot"]:
        pass
    change("UPDATE platform_file_registry SET updated_at = created_at, verification_count = 7 WHERE platform = 'kimi'")
    change("UPDATE platform_file_registry SET status = 'deleted' WHERE platform = 'kimi'")
    working.join()
    (difference,) = done[0].differences
    assert (difference.is_done, difference.obstacle) == (
        False,
        "somebody has changed what is known of it meanwhile",
    )
    assert len(sim.truth(operation="upload")) == 2, "what somebody deleted is not uploaded again"


def test_the_same_platform_twice_is_one(files, paper):
    assert files.reconcile(platform=["kimi", "moonshot"]).equal == 1


def test_a_deletion_that_was_cut_short_comes_to_light_and_is_finished(files, sim, paper, change):
    hours_ago = "now() - interval '2 hours'" if databases.IS_POSTGRES else "created_at - 7200000000"
    change(f"UPDATE platform_file_registry SET status = 'deleting', updated_at = {hours_ago}")
    found = files.reconcile()
    assert {(each.sign, each.why[0][:25]) for each in found.differences} == {("+", "its deletion was begun at")}
    kept = files.reconcile(only_remote="adopt")
    assert {each.obstacle for each in kept.differences} == {"somebody has begun to delete it"}
    sim.moonshot.vanish(sim.moonshot.files[0].id)
    done = files.reconcile(only_remote="delete", only_local="reupload", min_age=0)
    assert {(each.platform, each.action, each.is_done) for each in done.differences} == {
        ("moonshot", "forget", True),
        ("zai", "delete", True),
    }
    assert (sim.moonshot.files, sim.zai.files, files.get(paper).replicas) == ([], [], ())
    assert files.reconcile().is_settled


def test_a_name_from_elsewhere_is_no_way_out_of_a_directory(files, sim, tmp_path):
    evil = sim.moonshot.seed_file(filename="../../evil.jsonl", content=b'{"a":1}\n', purpose="batch", created_at=OLD)
    assert only(files.reconcile(platform="moonshot", only_remote="adopt")).is_done
    there = tmp_path / "a" / "b"
    there.mkdir(parents=True)
    assert files.download(evil.id, there).path == there / "evil.jsonl"
    assert [path.name for path in tmp_path.rglob("*.jsonl")] == ["evil.jsonl"]
