"""Several accounts of one platform: a new file goes where there is room, and is used with the account that has it."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections import Counter

import databases
import pytest

import exai_files

pytestmark = pytest.mark.once

TWO = {"moonshot": {"accounts": {"team-b": {"api_key": "sk-team-b"}}}}


def with_quotas(default, team_b):
    return {"moonshot": {"max_files": default, "accounts": {"team-b": {"api_key": "sk-team-b", "max_files": team_b}}}}


def spread(records):
    return Counter(record.replicas[0].account for record in records)


def upload_many(files, count, start=0):
    numbers = range(start, start + count)
    return [files.upload(f"content {n}".encode(), name=f"{n}.txt", to="moonshot") for n in numbers]


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [((100, 100), {"default": 15, "team-b": 15}), ((100, 50), {"default": 20, "team-b": 10})],
)
def test_new_files_are_spread_by_quota(sim, quotas, expected):
    with sim.client(platforms=with_quotas(*quotas)) as files:
        assert spread(upload_many(files, 30)) == expected
        for info in files.platforms():
            if info.platform == "moonshot":
                assert info.files == expected[info.account]
                assert len(files.list_remote("moonshot", account=info.account)) == info.files
        assert len(files.list_remote("moonshot")) == 30
        assert {file.account for file in files.list_remote("moonshot")} == {"default", "team-b"}
        assert len(list(files.list(account="team-b"))) == expected["team-b"]


def test_a_file_is_always_used_with_the_account_that_has_it(sim):
    with sim.client(platforms=TWO) as files:
        records = upload_many(files, 10)
        assert set(spread(records)) == {"default", "team-b"}
        for number, record in enumerate(records):
            (replica,) = record.replicas
            again = files.upload(f"content {number}".encode(), name="other name.txt", to="moonshot")
            assert (again.replicas[0].remote_id, again.replicas[0].origin) == (replica.remote_id, "already-there")
            assert files.ensure(record, platform="moonshot", max_age=0).remote_id == replica.remote_id
            assert files.text(record) == f"content {number}"
            assert files.delete(record).replicas == ()
        assert files.list_remote("moonshot") == []
    not_found = [entry["operation"] for entry in sim.truth() if entry["status"] == 404]
    assert not_found == ["get"] * 10, "whether it is gone; no id was ever shown to another account"
    assert len(sim.truth(operation="upload")) == 10


def test_a_full_account_makes_room_on_the_other(sim):
    sim.admin("POST", "/settings/moonshot", {"max_files": 3})  # of each account; we believe what is published, 1000
    with sim.client(platforms=TWO) as files:
        pinned = [files.upload(f"p{n}".encode(), name=f"p{n}.txt", to="moonshot", account="team-b") for n in range(3)]
        assert spread(pinned) == {"team-b": 3}
        assert spread(upload_many(files, 3)) == {"default": 3}
        with pytest.raises(exai_files.QuotaExceededError):
            files.upload(b"one too many", name="x.txt", to="moonshot")
        with pytest.raises(exai_files.QuotaExceededError):
            files.upload(b"one too many", name="x.txt", to="moonshot", account="team-b")
        files.delete(pinned[0])
        assert spread([files.upload(b"one too many", name="x.txt", to="moonshot")]) == {"team-b": 1}


def test_an_account_whose_key_is_refused_leaves_the_work_to_the_other(sim):
    sim.admin("POST", "/settings/moonshot", {"keys": ["sk-team-b"]})
    with sim.client(platforms=TWO) as files:
        assert spread(upload_many(files, 4)) == {"team-b": 4}
        with pytest.raises(exai_files.AuthenticationError):
            files.upload(b"x", name="x.txt", to="moonshot", account="default")


def test_an_account_can_be_chosen_and_must_exist(sim):
    with sim.client(platforms=TWO) as files:
        plan = files.plan(b"x", name="x.txt", to="moonshot", account="team-b")
        assert (plan.targets[0].account, plan.targets[0].is_there) == ("team-b", False)
        record = files.upload(b"x", name="x.txt", to="moonshot", account="team-b")
        assert record.replicas[0].account == "team-b"
        plan = files.plan(b"x", name="x.txt", to="moonshot")
        assert (plan.targets[0].account, plan.targets[0].is_there) == ("team-b", True)
        both = files.upload(b"x", name="x.txt", to="moonshot", account="default")
        assert [replica.account for replica in both.replicas] == ["default", "team-b"], "because it was asked for"
        for call in (
            lambda: files.upload(b"x", name="x.txt", to="moonshot", account="team-c"),
            lambda: files.list_remote("moonshot", account="team-c"),
        ):
            with pytest.raises(exai_files.ConfigError, match="not connected as team-c") as refused:
                call()
            assert "default, team-b" in str(refused.value)


def test_an_account_that_is_gone_from_the_settings_is_not_asked_for_its_files(sim, tmp_path):
    registry = databases.place(tmp_path / "r.db")
    with sim.client(registry=registry, platforms=TWO) as files:
        record = files.upload(b"x", name="x.txt", to="moonshot", account="team-b")
    with sim.client(registry=registry) as files:
        assert files.get(record).replicas[0].account == "team-b", "what is known stays known"
        with pytest.raises(exai_files.NotFoundError):
            files.text(record)
        assert files.upload(b"x", name="x.txt", to="moonshot").on("moonshot").account == "default"


def test_processes_with_several_accounts_send_a_content_to_one_of_them(sim, tmp_path):
    code = """
    import sys, json, random, exai_files
    platforms, registry, seed = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    numbers = list(range(40))
    random.Random(seed).shuffle(numbers)
    settings = {"retry": {"commit_horizon": 0.2}}
    with exai_files.Client(registry=registry, platforms=platforms, settings=settings, environment={}) as files:
        for number in numbers:
            files.upload(f"content {number}".encode(), name=f"{number}.txt", to="moonshot")
    """
    platforms = sim.platforms()
    platforms["moonshot"].update(TWO["moonshot"])
    registry = databases.place(tmp_path / "r.db")
    command = [sys.executable, "-c", textwrap.dedent(code), json.dumps(platforms), registry]
    running = [subprocess.Popen([*command, str(seed)]) for seed in range(4)]
    assert [process.wait(timeout=60) for process in running] == [0] * 4
    assert len(sim.truth(operation="upload")) == 40
    with sim.client(registry=registry, platforms=TWO) as files:
        assert len(files.list_remote("moonshot")) == 40
        assert min(spread(files.list()).values()) > 5


def test_health_and_breakers_are_of_each_account(sim):
    with sim.client(platforms=TWO) as files:
        health = [each for each in files.health() if each.platform == "moonshot"]
        assert [each.account for each in health] == ["default", "team-b"]
        files.set_breaker("moonshot", "forced-open")
        with pytest.raises(exai_files.CircuitOpenError):
            files.upload(b"x", name="x.txt", to="moonshot")
        files.reset_breaker("moonshot")
        assert files.upload(b"x", name="x.txt", to="moonshot").size == 1


def test_a_table_for_the_platforms_own_account_keeps_its_key(sim):
    settings = {"moonshot": {"accounts": {"default": {"max_files": 5}}}}
    with sim.client(platforms=settings, environment={"MOONSHOT_API_KEY": "sk-of-somebody-else"}) as files:
        record = files.upload(b"x", name="x.txt", to="moonshot")
        assert record.replicas[0].account == "default"
        assert files.capabilities("moonshot")["max_files"]["value"] == 1000, "of the platform, not of the account"
    (stored,) = sim.moonshot.files
    with sim.client() as own:
        assert [file.id for file in own.list_remote("moonshot")] == [stored.id]


def test_what_one_account_lost_is_made_anew_on_it(sim, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("hello")
    with sim.client(platforms=TWO) as files:
        files.upload(path, to="moonshot", account="team-b")
        lost = files.upload(path, to="moonshot", account="default").replicas[0]
        assert lost.account == "default"
        sim.moonshot.vanish(lost.remote_id)
        (done,) = files.reconcile(platform="moonshot", only_local="reupload").differences
        assert (done.account, done.is_done) == ("default", True)
        assert len(files.list_remote("moonshot", account="default")) == 1
