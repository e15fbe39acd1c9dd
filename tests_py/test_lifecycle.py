"""How long files stay, and which make room: quotas, time limits, rules, the trash, archiving, erasing, checks."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import databases
import pytest

import exai_files

pytestmark = pytest.mark.once

QUIET = {"recovery": {"every": 0}, "retry": {"base": 0.05, "commit_horizon": 0}}
LONG_AGO = "'epoch'" if databases.IS_POSTGRES else "0"


@pytest.fixture
def place(tmp_path):
    return databases.place(tmp_path / "registry.db")


@pytest.fixture
def client(sim, place, tmp_path):
    """Makes clients with these settings that keep copies."""
    opened = []

    def open_client(keeps_copies=True, **settings):
        copies = {"copies": {"place": str(tmp_path / "copies")}} if keeps_copies else {}
        opened.append(sim.client(registry=place, settings={**QUIET, **copies, **settings}))
        return opened[-1]

    yield open_client
    for one in opened:
        one.close()


def with_room_for(count):
    return {"platforms": {"moonshot": {"max_files": count}}}


# ===== full accounts =====


def test_a_full_account_is_known_before_anything_is_sent(sim, client):
    files = client(**with_room_for(2))
    for name in "ab":
        files.upload(name.encode(), name=name, to="moonshot")
    sent = len(sim.truth(operation="upload"))
    with pytest.raises(exai_files.QuotaExceededError, match="moonshot is full: 2 of 2 files") as refused:
        files.upload(b"c", name="c", to="moonshot")
    assert "when_full" in str(refused.value.hint)
    with pytest.raises(exai_files.QuotaExceededError):
        files.plan(b"c", name="c", to="moonshot")
    assert len(sim.truth(operation="upload")) == sent
    assert files.upload(b"a", name="a", to="moonshot").replicas[0].origin == "already-there"
    files.delete("b")
    assert files.upload(b"c", name="c", to="moonshot").replicas[0].origin == "sent"


def test_what_was_used_longest_ago_makes_room_and_a_plan_says_so_first(sim, client, place):
    files = client(**with_room_for(3))
    first, second, third = (files.upload(text.encode(), name=text, to="moonshot") for text in ("one", "two", "three"))
    for number, record in enumerate((second, first, third)):  # `second` was used longest ago
        moment = f"to_timestamp({number + 1})" if databases.IS_POSTGRES else str(number + 1)
        databases.query(
            place,
            f"UPDATE platform_file_registry SET used_at = {moment} "
            f"WHERE platform_file_id = '{record.replicas[0].remote_id}'",
        )
    (target,) = files.plan(b"four", name="four", to="moonshot", when_full="evict-lru").targets
    assert [(gone.name, gone.size) for gone in target.evictions] == [("two", 3)]
    assert len(sim.moonshot.files) == 3, "it was only a plan"
    files.upload(b"four", name="four", to="moonshot", when_full="evict-lru")
    assert {file.filename.partition("~")[0] for file in sim.moonshot.files} == {"one", "three", "four"}
    assert files.get(second).replicas == ()
    assert [record.action for record in files.audit.query(action="evict")] == ["evict"]
    with pytest.raises(exai_files.QuotaExceededError):
        files.ensure(second, platform="moonshot")  # nobody said that others make room for it


def test_nothing_makes_room_that_is_held_or_could_not_be_made_anew(sim, client, tmp_path):
    files = client(keeps_copies=False, **with_room_for(3))
    path = tmp_path / "on disk.txt"
    path.write_text("on disk")
    pinned, leased = files.upload(path, to="moonshot"), files.upload(b"leased", name="leased", to="moonshot")
    files.upload(b"only there", name="only there", to="moonshot")
    pin = files.hold(pinned)
    with files.lease(leased, platform="moonshot", for_=60):
        with pytest.raises(exai_files.QuotaExceededError, match="held, or could not be uploaded again"):
            files.upload(b"new", name="new", to="moonshot", when_full="evict-smallest")
        assert len(sim.moonshot.files) == 3
        files.release(pin)
        path.write_text("another")  # as long as it was
        with pytest.raises(exai_files.QuotaExceededError, match="could not be uploaded again"):
            files.upload(b"new", name="new", to="moonshot", when_full="evict-smallest")
        path.write_text("on disk")
        files.upload(b"new", name="new", to="moonshot", when_full="evict-smallest")
    assert files.get(pinned).replicas == ()
    files.delete("new")
    assert files.ensure(pinned, platform="moonshot").origin == "sent"


def test_the_setting_of_a_platform_holds_where_a_call_says_nothing(client):
    files = client(platforms={"moonshot": {"max_files": 1, "when_full": "evict-smallest"}})
    files.upload(b"one", name="one", to="moonshot")
    files.upload(b"two", name="two", to="moonshot")
    assert files.get("one").replicas == ()
    with pytest.raises(exai_files.QuotaExceededError):
        files.upload(b"three", name="three", to="moonshot", when_full="refuse")
    with pytest.raises(exai_files.InvalidRequestError, match="refuse, evict-lru or evict-smallest"):
        files.upload(b"three", name="three", to="moonshot", when_full="sometimes")


def test_a_file_larger_than_an_account_is_refused_and_nothing_is_evicted(sim, client):
    files = client(platforms={"moonshot": {"max_total_bytes": 10}})
    files.upload(b"small", name="small", to="moonshot")
    with pytest.raises(exai_files.FileTooLargeError, match="more than moonshot holds at all"):
        files.upload(b"eleven byte", name="large", to="moonshot", when_full="evict-lru")
    files.upload(b"six by", name="six", to="moonshot", when_full="evict-lru")
    assert len(sim.moonshot.files) == 1


# ===== time limits =====


def test_a_file_is_wanted_for_as_long_as_was_said_and_whoever_wants_it_longer_counts(sim, client, place):
    files = client()
    day = timedelta(days=1)
    record = files.upload(b"brief", name="brief", to=["moonshot", "zai"], for_=day)
    assert abs(record.keep_until - datetime.now(timezone.utc) - day) < timedelta(minutes=1)
    assert files.upload(b"brief", name="brief", to="moonshot", for_=60).keep_until == record.keep_until
    assert files.upload(b"brief", name="brief", to="moonshot", for_=7 * day).keep_until > record.keep_until
    assert files.get(record).keep_until > record.keep_until
    assert files.lifecycle.explain(record).stays[0].startswith("it is wanted until 20")
    assert files.lifecycle.apply() == []
    assert files.upload(b"brief", name="brief", to="moonshot").keep_until is None
    assert files.get(record).keep_until is None
    assert files.lifecycle.keep(record, for_=60).keep_until is not None

    databases.query(place, f"UPDATE file_hashes SET keep_until = {LONG_AGO}")
    (planned,) = files.lifecycle.apply(dry_run=True)
    assert (planned.step, planned.is_done, len(sim.zai.files)) == ("expire", False, 1)
    (step,) = files.lifecycle.apply()
    assert (step.is_done, step.error, sim.moonshot.files, sim.zai.files) == (True, None, [], [])
    assert files.get(record).trashed_at is not None
    assert files.lifecycle.apply() == []

    assert files.restore(record).keep_until is None
    assert files.ensure(record, platform="zai").origin == "sent", "its copy was kept"


def test_ensure_and_healing_do_not_change_how_long_a_file_is_wanted(client, sim):
    files = client()
    record = files.upload(b"brief", name="brief", to="moonshot", for_=60)
    sim.moonshot.vanish(record.replicas[0].remote_id)
    assert files.ensure(record, platform="moonshot", max_age=0).origin == "sent"
    assert files.get(record).keep_until == record.keep_until


def test_the_trash_is_emptied_in_time_and_not_of_what_is_held(sim, client, place):
    files = client(lifecycle={"trash_period": "1d"})
    kept, gone = (files.upload(text.encode(), name=text, to="moonshot") for text in ("kept", "gone"))
    for record in (kept, gone):
        files.trash(record)
    hold = files.hold(kept, "legal", reason="case 7")
    databases.query(place, f"UPDATE file_hashes SET trashed_at = {LONG_AGO}")
    steps = {step.name: step for step in files.lifecycle.apply()}
    assert steps["gone"].is_done
    assert (steps["kept"].is_done, steps["kept"].obstacle) == (False, "it is under legal hold")
    with pytest.raises(exai_files.NotFoundError):
        files.get(gone.digest)
    assert len(sim.moonshot.files) == 1
    files.release(hold)
    assert files.restore(kept).trashed_at is None
    assert files.lifecycle.apply() == []


# ===== rules =====


def test_rules_keep_the_newest_of_a_tag_and_say_why(sim, client):
    rules = {
        "reports": {"tag": "report", "keep_last": 2, "then": "delete"},
        "on-zai": {"platform": "zai", "keep_within": "30d", "then": "archive"},
    }
    files = client(lifecycle={"rules": rules})
    records = [
        files.upload(f"{number}".encode(), name=f"{number}", to=["moonshot", "zai"], tags=["report"])
        for number in range(4)
    ]
    files.upload(b"other", name="other", to="moonshot")
    assert {step.name for step in files.lifecycle.apply(dry_run=True)} == {"0", "1"}
    fate = files.lifecycle.explain(records[0])
    assert fate.departures[0].because.startswith("rule reports: it is number 4")
    assert fate.stays[0].startswith("rule on-zai keeps it until")
    assert "rule reports keeps the newest 2, and it is number 1" in files.lifecycle.explain(records[3]).stays
    assert files.lifecycle.explain("other").stays == ("no rule names it",)
    files.hold(records[1])
    done = {step.name: (step.is_done, step.obstacle) for step in files.lifecycle.apply()}
    assert done == {"0": (True, None), "1": (False, "it is pinned")}
    assert files.get(records[0]).replicas == ()
    assert len(sim.moonshot.files) == 4


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"then": "delete"}, "a rule needs keep_last, keep_within or both"),
        ({"keep_last": 1, "platform": "nowhere"}, "no platform 'nowhere'|no platform \"nowhere\""),
        ({"keep_last": 1, "then": "burn"}, "one of delete, archive, trash"),
        ({"keep_last": 1, "tags": "x"}, "did you mean"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(client, rule, said):
    with pytest.raises(exai_files.ConfigError, match=said):
        client(lifecycle={"rules": {"odd": rule}})


# ===== archiving, erasing =====


def test_archiving_takes_a_file_off_its_platforms_and_needs_a_copy(sim, client, tmp_path):
    files = client(keeps_copies=False)
    bare = files.upload(b"bare", name="bare", to="moonshot")
    with pytest.raises(exai_files.ConflictError, match='no copy of "bare" is kept'):
        files.lifecycle.archive(bare)
    assert len(sim.moonshot.files) == 1
    files = client()
    record = files.upload(b"kept", name="kept", to=["moonshot", "zai"])
    assert files.lifecycle.archive(record, platform="zai").on("zai") is None
    assert files.lifecycle.archive(record).replicas == ()
    assert (len(sim.moonshot.files), sim.zai.files) == (1, [])
    files.copies.collect()
    assert files.ensure(record, platform="zai").origin == "sent"


def test_erasing_leaves_nothing_but_a_receipt(sim, client, place, tmp_path):
    files = client()
    path = tmp_path / "secret plan.txt"
    path.write_text("the plan")
    record = files.upload(path, to=["moonshot", "zai"], owner="mia", tags=["plans"], metadata={"by": "mia"})
    files.upload(b"the plan", name="another name", to="moonshot")
    assert files.text(record, platform="moonshot") == "the plan"
    hold = files.hold(record, "legal")
    with pytest.raises(exai_files.ConflictError, match="legal hold"):
        files.lifecycle.erase(record)
    assert len(sim.moonshot.files) == 1
    files.release(hold)

    receipt = files.lifecycle.erase(record)
    assert {(r.platform, r.is_confirmed) for r in receipt.replicas} == {("moonshot", True), ("zai", False)}
    assert (receipt.had_copy, receipt.names, receipt.texts) == (True, 2, 1)
    assert (sim.moonshot.files, sim.zai.files) == ([], [])
    assert not any(path.is_file() for path in (tmp_path / "copies").rglob("*"))
    with pytest.raises(exai_files.NotFoundError):
        files.get(record)
    tables = "file_uploads file_hashes platform_file_registry upload_intents file_tags extracted_texts kept_copies"
    for table in tables.split():
        assert databases.query(place, f"SELECT COUNT(*) FROM {table}") == "0", table
    (last,) = files.audit.query(file=record.digest, action="erase")
    for private in ("plan", "mia"):
        assert private not in str(last)
    assert files.audit.verify().is_intact
    assert files.upload(path, to="moonshot").replicas[0].origin == "sent", "it may come back"


def test_an_erasure_that_fails_leaves_the_file_in_the_trash(sim, client):
    files = client()
    record = files.upload(b"stays", name="stays", to="moonshot")
    sim.moonshot.fault({"kind": "status", "status": 403, "body": {}}, operation="delete", when={"next": 1})
    with pytest.raises(exai_files.PermissionDeniedError):
        files.lifecycle.erase(record)
    assert files.get(record).trashed_at is not None
    files.lifecycle.erase(record)
    with pytest.raises(exai_files.NotFoundError):
        files.lifecycle.erase(record)


# ===== checks =====


def test_a_check_gives_a_verdict_with_what_it_follows_from(sim, client, place):
    files = client()
    batch = files.upload(b'{"a": 1}\n', name="b.jsonl", to="moonshot", purpose="batch")
    (health,) = files.check(batch, read=True)
    assert (health.verdict, health.size, health.bytes_read, health.http_status) == ("healthy", 9, 9, None)
    assert "its bytes are right" in health.evidence
    assert 0 < health.response_time < 5
    text = files.upload(b"text", name="t.txt", to=["moonshot", "zai"])
    assert [h.verdict for h in files.check(text, read=True)] == ["healthy", "healthy"]
    assert "does not give its bytes back" in files.check(text, platform="moonshot", read=True)[0].evidence

    sim.moonshot.fault({"kind": "status", "status": 500, "body": {}}, operation="get")
    (health,) = files.check(text, platform="moonshot", timeout=5)
    assert (health.verdict, health.http_status) == ("unknown", 500)
    assert files.get(text).on("moonshot") is not None, "nothing is known, so nothing is given up"
    sim.admin("DELETE", "/faults")

    sim.moonshot.vanish(text.on("moonshot").remote_id)
    (health,) = files.check(text, platform="moonshot")
    assert (health.verdict, health.http_status) == ("lost", 404)
    assert files.get(text).on("moonshot") is None
    with pytest.raises(exai_files.NotFoundError):
        files.check(text, platform="moonshot")
    rows = databases.query(place, "SELECT status, http_status_code FROM file_health_checks ORDER BY checked_at, id")
    assert rows.splitlines()[-2:] in (["unknown|500", "lost|404"],)


def test_what_ends_soon_is_told_once_and_renewed_where_that_is_wished(sim, client, place):
    files = client()
    record = files.upload(b"soon", name="soon", to="zai")
    soon = (
        "now() + interval '1 day'" if databases.IS_POSTGRES else "(CAST(strftime('%s') AS INTEGER) + 86400) * 1000000"
    )
    databases.query(place, f"UPDATE platform_file_registry SET expires_at = {soon}")
    told = []
    watch = files.watch(hooks={"expiring": told.append})
    watch.look()
    assert [notice.digest for notice in told] == [record.digest]
    due = f"UPDATE watch_tasks SET due_at = {LONG_AGO}, lease_until = {LONG_AGO}"
    databases.query(place, due)
    watch.look()
    assert len(told) == 1
    databases.query(place, due)
    renewed = [notice for notice in files.watch(heal=True).look() if notice.event == "renewed"]
    assert len(renewed) == 1
    assert files.get(record).on("zai").remote_id == renewed[0].remote_id != record.replicas[0].remote_id


def test_a_watcher_reads_copies_back_those_read_longest_ago_first(sim, client, place):
    files = client()
    batches = [
        files.upload(f'{{"n": {n}}}\n'.encode(), name=f"{n}.jsonl", to="moonshot", purpose="batch") for n in range(3)
    ]
    files.upload(b"text", name="t.txt", to="moonshot")
    watch = files.watch(samples=2)
    for looks in (2, 4):
        assert watch.look() == []
        read = databases.query(place, "SELECT COUNT(*) FROM file_health_checks WHERE bytes_read = 9")
        assert int(read) == looks
        databases.query(place, f"UPDATE watch_tasks SET due_at = {LONG_AGO}")
    once = "SELECT COUNT(DISTINCT registry_id) FROM file_health_checks WHERE bytes_read = 9"
    assert databases.query(place, once) == str(len(batches))


def test_a_file_is_waited_for_until_its_platform_has_processed_it(sim, client):
    files = client()
    sim.moonshot.set(processing_seconds=1.0)
    record = files.upload(b"slow", name="slow.txt", to="moonshot", timeout=0.6)
    with pytest.raises(exai_files.PlatformTimeoutError, match="still says"):
        files.wait_ready(record, timeout=0.2)
    assert files.wait_ready(record, platform="moonshot", timeout=10).remote_id == record.on("moonshot").remote_id
    with pytest.raises(exai_files.NotFoundError):
        files.wait_ready(record, platform="zai")
