"""The tool's upload functions, providers and deduplication, against the simulator (dropin_contract.md §1.3, §1.7, §3.2)."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import time
import uuid
from collections.abc import Iterator
from types import SimpleNamespace

import databases
import openai
import pytest

import exai_files
from exai_files.dropin import (
    connection,
    deduplication,
    file_metrics,
    glm_files,
    glm_sdk_fallback,
    kimi_files,
    providers,
    uploading,
)
from exai_files.dropin.deduplication import DuplicateDetector, HashingService
from exai_files.dropin.exceptions import FileDownloadError, FileNotFoundError, FileUploadError
from exai_files.dropin.file_deduplication import FileDeduplicationManager
from exai_files.dropin.models import FileUploadMetadata

pytestmark = pytest.mark.once

KIMI, GLM = providers.KimiFileProvider, providers.GLMFileProvider


@pytest.fixture
def there(sim, monkeypatch) -> Iterator[connection.Connection]:
    for platform, names in uploading.KEYS.items():
        for name in names:
            monkeypatch.setenv(name, sim.platforms()[platform]["api_key"])
    at_once = {"retry": {"base": 0}}
    with exai_files.Client(registry=":memory:", platforms=sim.platforms(), environment={}, settings=at_once) as client:
        connection.use(client)
        yield connection.connection()
        connection.close()
    uploading.close()


@pytest.fixture
def paper(tmp_path):
    path = tmp_path / "paper.txt"
    path.write_text("a paper")
    return path


# ===== functions =====

UPLOADS = [
    pytest.param("moonshot", lambda path, purpose: kimi_files.upload_file(None, path, purpose), id="kimi function"),
    pytest.param(
        "moonshot", lambda path, purpose: kimi_files.KimiFileProvider().upload(path, purpose), id="kimi object"
    ),
    pytest.param("zai", lambda path, purpose: glm_files.upload_file(None, None, path, purpose), id="glm function"),
    pytest.param("zai", lambda path, purpose: glm_files.GLMFileProvider().upload(path, purpose), id="glm object"),
]


@pytest.mark.parametrize(("platform", "upload"), UPLOADS)
@pytest.mark.parametrize("purpose", ["assistants", "file-extract", "file", "agent"])
def test_a_file_goes_up_once_whatever_its_purpose_is_called(there, sim, paper, platform, upload, purpose):
    """Faults 36, 61, 62: each default was refused by the function it was given to."""
    hits = file_metrics.DEDUPLICATION_HITS._value.get()
    first, again = upload(str(paper), purpose), upload(str(paper), purpose)
    assert first == again
    assert file_metrics.DEDUPLICATION_HITS._value.get() == hits + 1
    (file,) = getattr(sim, platform).files
    assert file.id == first


@pytest.mark.parametrize(("platform", "upload"), UPLOADS)
def test_defaults_are_accepted(there, sim, paper, platform, upload):
    for call in (kimi_files.upload, glm_files.upload):
        assert call(str(paper))
    assert kimi_files.upload_file(None, str(paper)) == kimi_files.KimiFileProvider().upload(str(paper))
    assert glm_files.upload_file(None, None, str(paper)) == glm_files.GLMFileProvider().upload(str(paper))


@pytest.mark.parametrize(("platform", "upload"), UPLOADS)
def test_what_will_not_do_is_refused_before_a_byte_leaves(there, sim, paper, monkeypatch, platform, upload):
    with pytest.raises(OSError, match="nowhere") as missing:
        upload(str(paper.with_name("nowhere.txt")), "file")
    assert isinstance(missing.value, __builtins__["FileNotFoundError"])
    with pytest.raises(ValueError, match="no purpose 'poetry'"):
        upload(str(paper), "poetry")
    (paper.parent / "large.txt").write_bytes(b"x" * (1 << 20) + b"y")
    for variable in ("KIMI_FILES_MAX_SIZE_MB", "GLM_FILES_MAX_SIZE_MB"):
        monkeypatch.setenv(variable, "1  # for tests")
    with pytest.raises(ValueError, match="MAX_SIZE_MB allows 1048576") as large:
        upload(str(paper.parent / "large.txt"), "file")
    assert isinstance(large.value, exai_files.FileTooLargeError)
    assert getattr(sim, platform).files == []


@pytest.mark.parametrize("text", ["many", "1.5", "  ", "# none"])
def test_a_malformed_limit_is_no_limit(there, paper, monkeypatch, text):
    """Fault 63."""
    monkeypatch.setenv("KIMI_FILES_MAX_SIZE_MB", text)
    monkeypatch.setenv("GLM_FILE_UPLOAD_TIMEOUT_SECS", text)
    assert kimi_files.upload(str(paper))
    assert glm_files.upload(str(paper))


def test_of_two_keys_the_first_is_the_environments(there, sim, paper, monkeypatch):
    sim.moonshot.set(keys=[sim.platforms()["moonshot"]["api_key"], "sk-the-other"])
    monkeypatch.setenv("KIMI_API_KEY", "sk-the-other")
    own = SimpleNamespace(api_key="sk-the-other", base_url=sim.moonshot.base_url)
    assert kimi_files.upload_file(own, str(paper)) != kimi_files.upload(str(paper))


def test_a_callers_own_key_is_its_own_account(there, sim, paper):
    sim.moonshot.set(keys=[sim.platforms()["moonshot"]["api_key"], "sk-another-account"])
    own = openai.OpenAI(api_key="sk-another-account", base_url=sim.moonshot.base_url)
    usual = kimi_files.upload(str(paper))
    theirs = kimi_files.upload_file(own, str(paper))
    assert theirs == kimi_files.upload_file(own, str(paper))
    assert theirs != usual
    shown = repr(uploading._clients) + repr(glm_sdk_fallback.GLMSDKFallback("sk-another-account"))
    assert "sk-another-account" not in shown


def test_a_lost_reply_is_one_file(there, sim, paper):
    """Fault 64: three ways, tried three times each, could leave nine."""
    sim.zai.fault("lost_reply", when={"next": 1}, operation="upload")
    assert glm_sdk_fallback.upload_file_with_fallback(sim.platforms()["zai"]["api_key"], str(paper))[1] == "http"
    assert len(sim.zai.files) == 1


def test_the_fallback_says_failed_and_raises_what_it_did_raise(there, sim, paper):
    fallback = glm_sdk_fallback.GLMSDKFallback(sim.platforms()["zai"]["api_key"])
    assert fallback.get_available_methods() == ["http"]
    assert fallback.health_check() == {"zhipuai": False, "openai": False, "http": True}
    sim.zai.fault({"kind": "status", "status": 401, "body": {}})
    assert fallback.upload_file(str(paper)) == (None, "failed")
    with pytest.raises(OSError, match="nowhere"):
        fallback.upload_file(str(paper.with_name("nowhere.txt")))


# ===== providers =====


@pytest.fixture(params=[KIMI, GLM])
def provider(request, there):
    return request.param(SimpleNamespace(upload_file=None))


def platform_of(sim, provider):
    return sim.moonshot if provider.provider_name == "kimi" else sim.zai


def test_an_upload_ends_in_a_reference(there, sim, provider, paper):
    """Faults 35, 36: it ended in UNEXPECTED_ERROR once the file was there."""
    given = FileUploadMetadata(user_id="alice", tags=["t"], custom_metadata={"a": 1}, context_id="c")
    reference = asyncio.run(provider.upload_file(str(paper), given))
    (file,) = platform_of(sim, provider).files
    assert reference.provider_id == file.id
    assert (reference.provider, reference.size, reference.original_name) == (provider.provider_name, 7, "paper.txt")
    assert reference.file_hash == hashlib.sha256(b"a paper").hexdigest()
    assert uuid.UUID(reference.internal_id)
    assert reference.metadata == {"a": 1, "context_id": "c"}
    again = asyncio.run(provider.upload_file(str(paper), FileUploadMetadata()))
    assert again.provider_id == reference.provider_id
    assert len(platform_of(sim, provider).files) == 1


def test_files_are_listed_found_and_described(there, sim, provider, tmp_path):
    references = []
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text(str(number))
        references.append(asyncio.run(provider.upload_file(str(tmp_path / f"{number}.txt"), FileUploadMetadata())))
    listed = [each.original_name for each in asyncio.run(provider.list_files())]
    assert sorted(listed) == ["0.txt", "1.txt", "2.txt", "3.txt"]
    assert [each.original_name for each in asyncio.run(provider.list_files(limit=2, offset=1))] == listed[1:3]
    found = asyncio.run(provider.check_file_exists(references[0].file_hash.upper()))
    assert found.provider_id == references[0].provider_id
    assert asyncio.run(provider.check_file_exists("0" * 64)) is None
    about = asyncio.run(provider.get_file_info(references[0]))
    assert (about["provider_id"], about["size"]) == (references[0].provider_id, 1)


def test_a_delete_deletes(there, sim, provider, paper):
    """Fault 38."""
    reference = asyncio.run(provider.upload_file(str(paper), FileUploadMetadata()))
    assert asyncio.run(provider.delete_file(reference)) is True
    assert platform_of(sim, provider).files == []
    assert asyncio.run(provider.delete_file(reference)) is True, "it is gone"
    assert asyncio.run(provider.check_file_exists(reference.file_hash)) is None


def test_what_is_not_given_back_is_no_download(there, provider, paper, tmp_path):
    reference = asyncio.run(provider.upload_file(str(paper), FileUploadMetadata()))
    with pytest.raises(FileDownloadError) as refused:
        asyncio.run(provider.download_file(reference, str(tmp_path / "back.txt")))
    assert refused.value.error_code == "DOWNLOAD_NOT_SUPPORTED"
    assert not (tmp_path / "back.txt").exists()


@pytest.mark.parametrize("provider", [KIMI], indirect=True)
def test_bytes_come_back_where_the_platform_gives_them(there, provider, tmp_path):
    (tmp_path / "jobs.jsonl").write_text('{"custom_id": "1"}\n')
    reference = asyncio.run(provider.upload_file(str(tmp_path / "jobs.jsonl"), FileUploadMetadata(purpose="batch")))
    assert asyncio.run(provider.download_file(reference, str(tmp_path / "back.jsonl"))) is True
    assert (tmp_path / "back.jsonl").read_text() == '{"custom_id": "1"}\n'


def test_an_upload_that_fails_says_how(there, sim, provider, paper, tmp_path):
    """Faults 37, 39: another class was raised than was caught, with its arguments in other places."""
    cases = [(paper, "poetry", "INVALID_PURPOSE"), (tmp_path, "file-extract", "VALIDATION_FAILED")]
    for path, purpose, code in cases:
        with pytest.raises(FileUploadError) as refused:
            asyncio.run(provider.upload_file(str(path), FileUploadMetadata(purpose=purpose)))
        assert (refused.value.error_code, refused.value.retryable) == (code, False)
        assert refused.value.provider == provider.provider_name
    with pytest.raises(FileNotFoundError) as missing:
        asyncio.run(provider.upload_file(str(tmp_path / "nowhere"), FileUploadMetadata()))
    assert isinstance(missing.value, OSError)
    platform_of(sim, provider).fault({"kind": "status", "status": 503, "body": {}})
    with pytest.raises(FileUploadError) as down:
        asyncio.run(provider.upload_file(str(paper), FileUploadMetadata()))
    assert (down.value.error_code, down.value.retryable) == ("UPLOAD_FAILED", True)


@pytest.mark.parametrize("cls", [KIMI, GLM])
def test_a_provider_is_made_of_a_model_provider(cls, monkeypatch):
    with pytest.raises(ValueError, match="no upload_file"):
        cls(object())
    for name in ("KIMI_API_KEY", "MOONSHOT_API_KEY", "GLM_API_KEY", "ZAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    provider: providers.FileProviderInterface = cls(SimpleNamespace(upload_file=None))
    assert provider.is_available is False
    monkeypatch.setenv("KIMI_API_KEY", "k")
    monkeypatch.setenv("GLM_API_KEY", "k")
    assert provider.is_available is True


# ===== deduplication =====


def test_hashes(tmp_path):
    (tmp_path / "a").write_bytes(b"hello")
    digest = hashlib.sha256(b"hello").hexdigest()
    file = io.BytesIO(b"hello")
    file.seek(3)
    hashes = [HashingService.compute_file_hash(each) for each in (tmp_path / "a", str(tmp_path / "a"), file)]
    assert hashes == [digest] * 3
    assert file.tell() == 3
    assert HashingService.compute_hash_from_bytes(b"hello") == digest
    assert HashingService.verify_hash(tmp_path / "a", digest) is True
    assert HashingService.verify_hash(tmp_path / "a", digest.upper()) is False
    assert HashingService.verify_hash(tmp_path / "nowhere", digest) is False
    assert (HashingService.CHUNK_SIZE, HashingService.HASH_ALGORITHM) == (65536, "sha256")
    with pytest.raises(OSError, match="nowhere"):
        HashingService.compute_file_hash(tmp_path / "nowhere")


@pytest.fixture(params=["sqlite", "postgres"])
def registry(request) -> Iterator[connection.Connection]:
    place = databases.new_database() if request.param == "postgres" else ":memory:"
    with exai_files.Client(registry=place, environment={}) as client:
        connection.use(client)
        yield connection.connection()
        connection.close()


@pytest.fixture(params=[True, False], ids=["redis", "no redis"])
def detector(request, registry, redis_server, monkeypatch):
    monkeypatch.delenv("REDIS_URL", raising=False)
    client = redis_server.client(decode_responses=True) if request.param else None
    if client is not None:
        client.flushall()
    yield DuplicateDetector(client)
    if client is not None:
        client.close()


def test_a_file_registered_after_a_check_is_found_by_the_next(sim, detector, paper):
    """Fault 13: that it was new was noted for an hour."""
    with sim.client() as files:
        connection.use(files)
        digest = HashingService.compute_file_hash(paper)
        assert asyncio.run(detector.check_duplicate(str(paper), 7)) == (False, None)
        files.upload(paper, to="moonshot")
        rows = connection.connection().rows.tables.find("file_uploads", "file_hash", digest).wait()
        asyncio.run(detector.register_file_hash(rows[0]["id"], digest, 7, "text/plain"))
        for _ in range(2):
            is_duplicate, row = asyncio.run(detector.check_duplicate(str(paper), 7))
            assert is_duplicate is True
            assert (row["id"], row["filename"]) == (rows[0]["id"], "paper.txt")


def test_a_note_has_the_tools_shape_and_time(sim, registry, redis_server, paper):
    with redis_server.client(decode_responses=True) as client, sim.client() as files:
        client.flushall()
        connection.use(files)
        files.upload(paper, to="moonshot")
        digest = HashingService.compute_file_hash(paper)
        asyncio.run(DuplicateDetector(client).check_duplicate(str(paper), 7))
        note = json.loads(client.get(f"dedup:{digest}"))
        assert set(note) == {"is_duplicate", "original_file", "cached_at"}
        assert note["is_duplicate"] is True
        assert 3590 < client.ttl(f"dedup:{digest}") <= 3600
        # One of the tool's, of a file that we do not know.
        other = hashlib.sha256(b"other").hexdigest()
        client.set(f"dedup:{other}", json.dumps({"is_duplicate": True, "original_file": {"id": "x"}}), ex=60)
        paper.write_text("other")
        assert asyncio.run(DuplicateDetector(client).check_duplicate(str(paper), 5)) == (True, {"id": "x"})


def test_of_many_who_register_at_once_one_is_the_original(registry):
    """Fault 14: the second was refused by the database, and forgotten."""
    digest, files = "a" * 64, [str(uuid.uuid4()) for _ in range(10)]

    async def all_at_once() -> None:
        detector = DuplicateDetector()
        await asyncio.gather(*(detector.register_file_hash(file, digest, 7) for file in files))

    asyncio.run(all_at_once())
    (row,) = registry.rows.tables.find("file_hashes", "file_hash", digest).wait()
    assert row["original_file_id"] in files
    assert (row["duplicate_count"], row["file_size"]) == (9, 7)


def test_a_check_that_cannot_be_made_counts_as_new(registry, tmp_path, monkeypatch):
    assert asyncio.run(DuplicateDetector().check_duplicate(str(tmp_path / "nowhere"), 1)) == (False, None)
    monkeypatch.setenv("DEDUPLICATION_ENABLED", "false")
    monkeypatch.setenv("DEDUPLICATION_CACHE_TTL", "60 # short")
    detector = DuplicateDetector()
    assert (detector.enabled, detector.cache_ttl, detector.redis) == (False, 60, None)
    assert asyncio.run(detector.check_duplicate(str(tmp_path / "nowhere"), 1)) == (False, None)


def test_a_check_is_timed_from_begin_to_end(registry, tmp_path):
    """Fault 15: a coroutine's making was timed, and not its running."""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(64 << 20)
    detector, before, begun = DuplicateDetector(), deduplication.duration._sum.get(), time.perf_counter()
    asyncio.run(detector.check_duplicate(str(tmp_path / "large"), 64 << 20))
    assert deduplication.duration._sum.get() - before >= (time.perf_counter() - begun) / 2


def test_only_our_notes_are_counted(sim, registry, redis_server, paper):
    """Fault 16: the size was that of all of Redis."""
    with redis_server.client(decode_responses=True) as client, sim.client() as files:
        client.flushall()
        for number in range(100):
            client.set(f"somebody-elses:{number}", "x")
        connection.use(files)
        files.upload(paper, to="moonshot")
        before = deduplication.cache_size._value.get()
        for _ in range(3):
            client.delete(f"dedup:{HashingService.compute_file_hash(paper)}")
            asyncio.run(DuplicateDetector(client).check_duplicate(str(paper), 7))
        assert deduplication.cache_size._value.get() == before + 3


def test_a_redis_that_is_away_is_done_without(registry, paper, monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    assert asyncio.run(DuplicateDetector().check_duplicate(str(paper), 7)) == (False, None)


# ===== the deduplication that is really used =====


def test_a_copy_that_is_gone_is_no_duplicate(there, sim, paper):
    """Fault 66: an id was trusted that may be gone. What can be made anew is."""
    manager = FileDeduplicationManager()
    assert manager.check_duplicate(paper, "kimi") is None
    file_id = kimi_files.upload(str(paper))
    found = manager.check_duplicate(str(paper), "kimi")
    assert found["provider_file_id"] == file_id
    assert (found["provider"], found["filename"], found["file_size_bytes"]) == ("kimi", "paper.txt", 7)
    assert manager.check_duplicate(paper, "glm") is None
    sim.moonshot.vanish(file_id)
    healed = manager.check_duplicate(paper, "kimi")["provider_file_id"]
    assert [file.id for file in sim.moonshot.files] == [healed]
    assert healed != file_id
    there.waiting.delete(healed)
    assert manager.check_duplicate(paper, "kimi") is None


def test_a_copy_that_others_made_is_found_while_it_is_there(there, sim, paper):
    manager, foreign = FileDeduplicationManager(), sim.moonshot.seed_file(filename="theirs.txt", content=b"a paper").id
    assert manager.register_new_file(foreign, None, paper, "kimi") is True
    assert manager.check_duplicate(paper, "kimi")["provider_file_id"] == foreign
    ours = kimi_files.upload(str(paper))
    assert ours != foreign, "what it is for is not known"
    sim.moonshot.vanish(foreign)
    assert manager.check_duplicate(paper, "kimi")["provider_file_id"] == ours


def test_copies_are_noted_and_counted(there, sim, paper):
    manager = FileDeduplicationManager()
    file_id = kimi_files.upload(str(paper))
    assert manager.increment_reference(file_id, "kimi") is True
    assert manager.increment_reference("nowhere", "kimi") is False
    assert manager.increment_reference(file_id, "glm") is False
    assert manager.register_new_file(file_id, None, paper, "kimi") is True
    assert manager.register_new_file("file-of-another", str(uuid.uuid4()), paper, "kimi") is True
    stats = manager.get_deduplication_stats("kimi")
    assert (stats["total_files"], stats["storage_saved_bytes"]) == (1, 7)
    assert manager.cleanup_unreferenced_files("kimi") == {
        "files_found": 0, "files_deleted": 0, "storage_freed_bytes": 0, "errors": [], "dry_run": True
    }  # fmt: skip


@pytest.mark.parametrize(("path", "provider"), [("nowhere", "kimi"), (None, "moonshot")])
def test_what_it_is_asked_wrongly_it_says(there, paper, path, provider):
    with pytest.raises(ValueError, match=r"File not found|Invalid provider"):
        FileDeduplicationManager().check_duplicate(path or paper, provider)
