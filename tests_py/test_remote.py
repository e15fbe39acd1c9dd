"""Files by their ids on platforms, whether the registry knows them or not."""

from __future__ import annotations

import json

import pytest

import exai_files


@pytest.mark.parametrize("platform", ["moonshot", "zai"])
def test_a_file_is_described_whoever_put_it_there(files, sim, platform):
    foreign = getattr(sim, platform).seed_file(filename="theirs.txt", content=b"12345").id
    ours = files.upload(b"ours", name="ours.txt", to=platform).replicas[0].remote_id
    seen = files.get_remote(platform, foreign)
    assert (seen.platform, seen.id, seen.name, seen.size) == (platform, foreign, "theirs.txt", 5)
    assert files.get_remote(platform, ours).size == 4
    with pytest.raises(exai_files.NotFoundError):
        files.get_remote(platform, "no-such-file")


def test_a_foreign_file_is_read(files, sim):
    foreign = sim.moonshot.seed_file(filename="results.jsonl", content=b'{"a": 1}\n', purpose="batch")
    content = files.content_remote("moonshot", foreign.id)
    assert (content.kind, content.data) == ("bytes", b'{"a": 1}\n')
    of_zai = files.upload(b"ours", name="ours.txt", to="zai").replicas[0].remote_id
    with pytest.raises(exai_files.UnsupportedError, match="gives nothing back"):
        files.content_remote("zai", of_zai)


@pytest.mark.parametrize("platform", ["moonshot", "zai"])
def test_a_foreign_file_is_deleted_and_noted(files, sim, platform):
    foreign = getattr(sim, platform).seed_file(filename="theirs.txt").id
    assert files.delete_remote(platform, foreign) is None
    assert getattr(sim, platform).files == []
    with pytest.raises(exai_files.NotFoundError):
        files.delete_remote(platform, foreign)


def test_a_delete_by_id_is_in_the_audit_log(sim):
    foreign = sim.moonshot.seed_file(filename="theirs.txt").id
    with sim.client() as files:
        files.delete_remote("moonshot", foreign)
        (record,) = [record for record in files.audit.query() if record.action == "delete"]
    noted = json.loads(record.record)
    assert (noted["platform"], noted["remote_id"], noted["reason"]) == ("moonshot", foreign, "by its id")


def test_of_a_file_that_is_known_the_registry_knows_it_is_gone(files, sim):
    record = files.upload(b"ours", name="ours.txt", to=["moonshot", "zai"])
    (on_moonshot,) = [copy for copy in record.replicas if copy.platform == "moonshot"]
    files.delete_remote("moonshot", on_moonshot.remote_id)
    assert [copy.platform for copy in files.get(record.digest).replicas] == ["zai"]
    assert (sim.moonshot.files, len(sim.zai.files)) == ([], 1)


def test_of_two_purposes_the_other_stays(files, sim):
    for purpose in ("batch", "file-extract"):
        record = files.upload(b'{"a": 1}\n', name="a.jsonl", to="moonshot", purpose=purpose)
    first, second = (copy.remote_id for copy in record.replicas)
    files.delete_remote("moonshot", first)
    assert [file.id for file in sim.moonshot.files] == [second]
    assert [copy.remote_id for copy in files.get(record.digest).replicas] == [second]


def test_what_is_leased_is_not_deleted(sim):
    with sim.client() as files:
        record = files.upload(b"wanted", name="a.txt", to="moonshot")
        with files.lease(record, platform="moonshot", for_=60), pytest.raises(exai_files.ConflictError):
            files.delete_remote("moonshot", record.replicas[0].remote_id)
    assert len(sim.moonshot.files) == 1


def test_a_name_is_no_id(files, sim):
    record = files.upload(b"ours", name="ours.txt", to="moonshot")
    for reference in ("ours.txt", record.digest):
        with pytest.raises(exai_files.NotFoundError):
            files.delete_remote("moonshot", reference)
    assert len(sim.moonshot.files) == 1
