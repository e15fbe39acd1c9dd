"""Watching over files, and what keeps them: leases, pins, legal holds."""

from __future__ import annotations

import asyncio
import logging

import databases
import pytest
from waiting import deadline

import exai_files
from exai_files import watching

pytestmark = pytest.mark.once

# What Z.ai does not list may be too new for that: here it is not.
QUIET = {"recovery": {"every": 0}, "retry": {"commit_horizon": 0, "base": 0.05}}


@pytest.fixture
def place(tmp_path):
    return databases.place(tmp_path / "registry.db")


def due_again(place):
    """Every task, at once."""
    long_ago = "'epoch'" if databases.IS_POSTGRES else "0"
    databases.query(place, f"UPDATE watch_tasks SET due_at = {long_ago}")


def test_a_lost_file_is_told_once_and_given_up_or_made_anew(sim, tmp_path, place):
    path = tmp_path / "a.txt"
    path.write_text("hello")
    with sim.client(registry=place, settings=QUIET) as files:
        record = files.upload(path, to=["moonshot", "zai"])
        files.upload(b"unmoved", name="u.txt", to="moonshot")
        told = []
        watch = files.watch(hooks={"lost": told.append, "healed": told.append})
        assert watch.look() == []
        for replica in record.replicas:
            sim.admin("DELETE", f"/files/{replica.platform}/{replica.remote_id}")
        assert watch.look() == [], "it is not due"
        due_again(place)
        notices = watch.look()
        assert {(notice.event, notice.platform, notice.digest) for notice in notices} == {
            ("lost", "moonshot", record.digest),
            ("lost", "zai", record.digest),
        }
        assert told == notices
        assert files.get("a.txt").replicas == ()
        due_again(place)
        assert watch.look() == []

        again = files.ensure("a.txt", platform="moonshot")
        sim.admin("DELETE", f"/files/moonshot/{again.remote_id}")
        due_again(place)
        (notice,) = files.watch(heal=True).look()
        assert (notice.event, notice.remote_id) == ("healed", again.remote_id)
        assert files.get("a.txt").on("moonshot").remote_id in [file.id for file in sim.moonshot.files]
    checks = databases.query(place, "SELECT status FROM file_health_checks ORDER BY checked_at, status")
    assert checks.split() == ["healthy", "healthy", "healthy", "lost", "lost", "lost"]


def test_a_look_costs_a_listing_whatever_the_number_of_files(sim, place):
    with sim.client(registry=place, settings=QUIET) as files:
        for number in range(30):
            files.upload(f"{number}".encode(), name=f"{number}.txt", to="moonshot")
        before = len(sim.truth())
        files.watch().look()
        asked = [entry["operation"] for entry in sim.truth()[before:]]
        assert set(asked) == {"list"}, "one listing for each platform, of each purpose"
        assert len(asked) < 30
        verified = databases.query(place, "SELECT COUNT(*) FROM platform_file_registry WHERE verification_count = 2")
        assert verified == "30"


def test_watchers_share_the_work(sim, place):
    with sim.client(registry=place, settings=QUIET) as one, sim.client(registry=place, settings=QUIET) as two:
        one.upload(b"x", name="x.txt", to="moonshot")
        first, second = one.watch(), two.watch()
        assert first.look() == second.look() == []
        listed = len(sim.truth(operation="list"))
        first.look()
        second.look()
        assert len(sim.truth(operation="list")) == listed


def test_a_watcher_that_is_cancelled_keeps_nobody_waiting(sim, place):
    async def main():
        async with sim.async_client(registry=place, settings=QUIET) as files:
            await files.upload(b"x", name="x.txt", to="moonshot")
            sim.moonshot.fault("stall", operation="list")
            look = asyncio.create_task(files.watch().look())
            in_time = deadline()
            while not sim.truth(operation="list"):
                in_time()
                await asyncio.sleep(0)
            look.cancel()
            await asyncio.wait([look])

    asyncio.run(main())
    soon = "now() + interval '1 s'" if databases.IS_POSTGRES else "(strftime('%s', 'now') + 1) * 1000000"
    held = databases.query(place, f"SELECT name FROM watch_tasks WHERE lease_until > {soon}")
    assert held == ""


def test_a_platform_that_shows_nothing_is_not_believed(sim, place):
    with sim.client(registry=place, settings=QUIET) as files:
        for number in range(5):
            files.upload(f"{number}".encode(), name=f"{number}.txt", to="zai")
        for file in sim.zai.files:
            sim.admin("DELETE", f"/files/zai/{file.id}")
        (notice,) = files.watch(max_lost=3).look()
        assert (notice.event, notice.platform) == ("lost", "zai")
        assert len(list(files.list(status="live"))) == 5, "that many at once are rather a mistake"


def test_a_leased_file_is_neither_deleted_nor_left_lost_and_its_end_is_the_leases(sim, tmp_path, place):
    path = tmp_path / "a.txt"
    path.write_text("hello")
    with sim.client(registry=place, settings=QUIET) as files:
        files.upload(path, to="zai")
        with files.lease("a.txt", platform="zai", for_=3600) as lease:
            assert lease.replica.platform == "zai"
            with pytest.raises(exai_files.ConflictError, match="leased it until"):
                files.delete("a.txt")
            sim.admin("DELETE", f"/files/zai/{lease.replica.remote_id}")
            events = {notice.event for notice in files.watch().look()}
            assert events == {"lost", "renewed"}
            assert len(sim.zai.files) == 1
            lease.renew(7200)
            (hold,) = files.holds("a.txt")
            assert (hold.kind, hold.platform, hold.until > lease.hold.until) == ("lease", "zai", True)
        assert files.holds("a.txt") == []
        with pytest.raises(exai_files.NotFoundError):
            lease.renew(1)
        files.delete("a.txt")


def test_a_legal_hold_beats_everything_and_a_pin_does_not(files):
    record = files.upload(b"x", name="x.txt", to="moonshot")
    pin, hold = files.hold(record), files.hold(record, "legal", reason="case 7")
    assert {each.kind for each in files.holds(record)} == {"pin", "legal"}
    with pytest.raises(exai_files.ConflictError, match="legal hold"):
        files.delete(record)
    with pytest.raises(exai_files.ConflictError, match="legal hold"):
        files.trash(record)
    files.release(hold)
    files.delete(record)
    files.release(pin.id)
    for bad in (pin, "nothing"):
        with pytest.raises(exai_files.NotFoundError):
            files.release(bad)
    with pytest.raises(exai_files.InvalidRequestError, match="NoneType is no hold"):
        files.release(None)
    with pytest.raises(exai_files.InvalidRequestError):
        files.hold(record, "glue")


def test_hooks_are_told_what_fills_awaited_and_kept_apart(sim, place, caplog):
    told = []

    async def on_quota(notice):
        await asyncio.sleep(0)
        told.append(notice.what)

    def on_lost(notice):
        raise ValueError(notice.event)

    sim.moonshot.set(max_files=100)
    platforms = {"moonshot": {"max_files": 2}}

    async def watched():
        async with sim.async_client(registry=place, settings=QUIET, platforms=platforms) as files:
            records = [await files.upload(f"{n}".encode(), name=f"{n}.txt", to="moonshot") for n in range(2)]
            sim.admin("DELETE", f"/files/moonshot/{records[0].replicas[0].remote_id}")
            watch = files.watch(hooks={"quota": on_quota, "lost": on_lost})
            assert [notice.event for notice in await watch.look()] == ["lost"]
            await files.upload(b"2", name="2.txt", to="moonshot")
            async for notice in watch:
                assert (notice.event, notice.platform) == ("quota", "moonshot")
                break
            assert await watch.look() == [], "told once"
            with pytest.raises(exai_files.InvalidRequestError, match="nothing is told as"):
                files.watch(hooks={"lots": on_quota})

    with caplog.at_level(logging.ERROR, "exai_files.watch"):
        asyncio.run(asyncio.wait_for(watched(), 30))
    assert told == ["moonshot holds 2 of 2 files"]
    assert "a hook for 'lost' failed" in caplog.text


def awaiting(told):
    async def note(notice):
        await asyncio.sleep(0)
        told.append(notice.event)

    return note


def test_a_waiting_watcher_awaits_its_hooks_inside_a_running_loop(sim, place):
    told = []

    async def in_jupyter(files):
        files.watch(hooks={"lost": awaiting(told)}).look()

    with sim.client(registry=place, settings=QUIET) as files:
        sim.moonshot.vanish(files.upload(b"x", name="x.txt", to="moonshot").replicas[0].remote_id)
        asyncio.run(in_jupyter(files))
        assert told == ["lost"]
        sim.moonshot.vanish(files.upload(b"y", name="y.txt", to="moonshot").replicas[0].remote_id)
        due_again(place)
        files.watch(hooks={"lost": awaiting(told)}).look()
    assert told == ["lost", "lost"]


def test_what_a_hook_returns_is_awaited_whatever_made_it(sim, place):
    told = []
    note = awaiting(told)

    async def watched():
        async with sim.async_client(registry=place, settings=QUIET) as files:
            record = await files.upload(b"x", name="x.txt", to="moonshot")
            sim.moonshot.vanish(record.replicas[0].remote_id)
            await files.watch(hooks={"lost": lambda notice: note(notice)}).look()

    asyncio.run(watched())
    assert told == ["lost"]


@pytest.mark.parametrize(
    ("hooks", "said"),
    [
        ({"lost": None}, "None cannot be called for 'lost'"),
        ("", "'' are no hooks"),
        ([print], "are no hooks"),
        ({"lost": print, 7: print}, "nothing is told as 7"),
    ],
)
def test_hooks_that_can_not_be_called_are_refused(sim, hooks, said):
    with sim.client() as files, pytest.raises(exai_files.InvalidRequestError, match=said):
        files.watch(hooks=hooks)


class Mending(logging.Handler):
    """Puts a registry in order once somebody complains."""

    def __init__(self, place):
        super().__init__(logging.WARNING)
        self._place, self.complaints = place, []
        databases.query(place, "ALTER TABLE watch_tasks RENAME TO lost_tasks")

    def emit(self, record):
        self.complaints.append(record.getMessage())
        databases.query(self._place, "ALTER TABLE lost_tasks RENAME TO watch_tasks")


@pytest.fixture
def impatience(monkeypatch):
    monkeypatch.setattr(watching, "_LOOK_EVERY", 0.01)


@pytest.fixture
def mending(sim, place, impatience):
    with sim.client(registry=place, settings=QUIET) as files:
        sim.moonshot.vanish(files.upload(b"x", name="x.txt", to="moonshot").replicas[0].remote_id)
    handler = Mending(place)
    logging.getLogger("exai_files.watch").addHandler(handler)
    yield handler
    logging.getLogger("exai_files.watch").removeHandler(handler)


def test_a_registry_that_fails_for_a_moment_does_not_end_watching(sim, place, mending):
    with sim.client(registry=place, settings=QUIET) as files:
        assert next(iter(files.watch())).event == "lost"
    (complaint,) = mending.complaints
    assert complaint.startswith("this round failed, the next one is in 0 s: ")


def test_nor_does_it_for_those_who_await(sim, place, mending):
    async def first_notice():
        async with sim.async_client(registry=place, settings=QUIET) as files:
            async for notice in files.watch():
                return notice.event

    assert asyncio.run(asyncio.wait_for(first_notice(), 30)) == "lost"
    assert len(mending.complaints) == 1


def test_watching_ends_when_its_client_is_closed(sim, place, impatience):
    with sim.client(registry=place, settings=QUIET) as files:
        watch = iter(files.watch())
    with pytest.raises(exai_files.RegistryError, match="open a new client"):
        next(watch)


def test_a_lease_that_was_released_ends_as_well_as_any(sim, place):
    with sim.client(registry=place, settings=QUIET) as files:
        record = files.upload(b"x", name="x.txt", to="moonshot")
        with files.lease(record, platform="moonshot", for_=60) as lease:
            lease.release()
        with pytest.raises(KeyError, match="the body's"), files.lease(record, platform="moonshot", for_=60) as lease:
            lease.release()
            raise KeyError("the body's")
        assert files.holds(record) == []


def test_a_lease_that_can_not_be_released_hides_no_other_failure(sim, place, caplog):
    files = sim.client(registry=place, settings=QUIET)
    record = files.upload(b"x", name="x.txt", to="moonshot")
    with pytest.raises(KeyError, match="the body's"), files.lease(record, platform="moonshot", for_=60):
        files.close()
        raise KeyError("the body's")
    assert "a lease could not be released" in caplog.text
    files = sim.client(registry=place, settings=QUIET)
    with pytest.raises(exai_files.RegistryError), files.lease(record, platform="moonshot", for_=60):
        files.close()


def test_a_lease_is_entered_with_and_without_await(sim, place, caplog):
    async def leased():
        async with sim.async_client(registry=place, settings=QUIET) as files:
            record = await files.upload(b"x", name="x.txt", to="moonshot")
            async with files.lease(record, platform="moonshot", for_=60) as lease:
                assert [hold.id for hold in await files.holds(record)] == [lease.hold.id]
            async with await files.lease(record, platform="moonshot", for_=60) as lease:
                await lease.release()
            with pytest.raises(KeyError, match="the body's"):
                async with files.lease(record, platform="moonshot", for_=60) as lease:
                    await lease.release()
                    raise KeyError("the body's")
            assert await files.holds(record) == []
        files = sim.async_client(registry=place, settings=QUIET)
        with pytest.raises(KeyError, match="the body's"):
            async with files.lease(record, platform="moonshot", for_=60):
                await files.close()
                raise KeyError("the body's")

    asyncio.run(leased())
    assert caplog.text.count("a lease could not be released") == 1


def test_the_status_says_what_fills_what_expires_and_what_is_signed(sim, place):
    platforms = {"zai": {"max_files": 100, "max_total_bytes": 2_000_000}}
    with sim.client(registry=place, settings=QUIET, platforms=platforms) as files:
        for number in range(10):
            files.upload(f"{number}".encode(), name=f"{number}.txt", to="zai")
        soon = "expires_at = {} WHERE remote_name LIKE '0%'"
        moment = "now() + interval '3 days'" if databases.IS_POSTGRES else "(strftime('%s', 'now') + 259200) * 1000000"
        databases.query(place, f"UPDATE platform_file_registry SET {soon.format(moment)}")
        status = files.status()
        zai = next(each for each in status.accounts if each.platform == "zai")
        assert (zai.files, zai.most_files, zai.open_breakers) == (10, 100, ())
        assert (zai.expiring_in_a_day, zai.expiring_in_a_week) == (0, 1)
        assert zai.days_to_full == pytest.approx(63)
        assert (status.audit_records, status.unsigned_records, status.last_checkpoint_at) == (11, 11, None)
        files.audit.checkpoint()
        status = files.status()
        assert (status.unsigned_records, status.unfinished, status.leases) == (0, 0, 0)
        assert "<td>10 of 100</td><td>10 B of 2.0 MB</td>" in status._repr_html_()
        assert ("zhipu", "0 B") in [(row[0], row[3]) for row in status.rows()], "where no limit is known"
