"""Models, exceptions, standard errors, purposes and the provider's base of the drop-in (dropin_contract.md §1.6, §1.7)."""

from __future__ import annotations

import asyncio
import builtins
import gc
import inspect
import json
import pickle
from datetime import datetime, timezone

import pytest

import exai_files
from exai_files import errors as ours
from exai_files.dropin import comprehensive_validator, errors, exceptions, file_base, models, purposes
from exai_files.dropin.errors import FileUploadErrorCode as Code

UUID = "0b6dfa1c-6a0c-4a6f-9a3f-0123456789ab"
SHA = "ab" * 32
GIVEN = {
    "internal_id": UUID,
    "provider_id": "file-1",
    "provider": "kimi",
    "file_hash": SHA,
    "size": 3,
    "mime_type": "text/plain",
    "original_name": "a.txt",
}


def reference(**changes):
    return models.FileReference(**{**GIVEN, **changes})


REFUSED = [
    pytest.param("internal_id", UUID.replace("-", ""), id="uuid without hyphens"),
    pytest.param("internal_id", UUID[:-1] + "g", id="uuid that is none"),
    pytest.param("internal_id", UUID + "\n", id="uuid with a line end"),
    pytest.param("provider", "moonshot", id="provider by our name"),
    pytest.param("provider", "kimi\n", id="provider with a line end"),
    pytest.param("file_hash", "ab" * 31, id="short digest"),
    pytest.param("file_hash", "zz" * 32, id="digest that is none"),
    pytest.param("size", 0, id="empty file"),
    pytest.param("size", -1, id="negative size"),
    pytest.param("mime_type", "text", id="half a type"),
    pytest.param("mime_type", "text/plain; charset=utf-8", id="type with a parameter"),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_what_a_reference_refuses_it_refuses_later_too(name, value):
    with pytest.raises(ValueError, match=name):
        reference(**{name: value})
    there = reference()
    with pytest.raises(ValueError, match=name):
        setattr(there, name, value)
    assert getattr(there, name) == GIVEN[name]


@pytest.mark.parametrize("name", GIVEN)
def test_a_reference_needs_every_one(name):
    with pytest.raises(ValueError, match=name):
        models.FileReference(**{key: value for key, value in GIVEN.items() if key != name})


def test_ids_digests_and_types_are_kept_in_lower_case():
    loud = reference(internal_id=UUID.upper(), file_hash=SHA.upper(), mime_type="Image/SVG+XML")
    assert (loud.internal_id, loud.file_hash, loud.mime_type) == (UUID, SHA, "image/svg+xml")
    loud.file_hash = "CD" * 32
    assert loud.file_hash == "cd" * 32


def test_a_reference_becomes_a_row_and_comes_back():
    at = datetime(2025, 11, 3, 1, 2, 3, tzinfo=timezone.utc)
    there = reference(created_at=at, metadata={"a": [1]})
    row = there.to_supabase_dict()
    assert row == {
        "id": UUID,
        "provider_file_id": "file-1",
        "provider": "kimi",
        "sha256": SHA,
        "size_bytes": 3,
        "mime_type": "text/plain",
        "original_name": "a.txt",
        "created_at": "2025-11-03T01:02:03+00:00",
        "accessed_at": None,
        "metadata": {"a": [1]},
    }
    assert list(row) == list(models.FileReference(**GIVEN).to_supabase_dict())
    assert models.FileReference.from_supabase_dict(row) == there
    assert json.loads(there.model_dump_json())["created_at"] == "2025-11-03T01:02:03+00:00"


@pytest.mark.parametrize("written", ["2025-11-03T01:02:03.12345+00:00", "2025-11-03T01:02:03.12345Z"])
def test_times_are_read_as_postgrest_writes_them(written):
    row = {**reference().to_supabase_dict(), "created_at": written}
    at = models.FileReference.from_supabase_dict(row).created_at
    assert at == datetime(2025, 11, 3, 1, 2, 3, 123450, tzinfo=timezone.utc)


def test_defaults_are_the_tools_and_nobody_elses():
    first, second = models.FileUploadMetadata(), models.FileUploadMetadata()
    assert first.model_dump() == {
        "purpose": "file-extract",
        "context_id": None,
        "user_id": None,
        "tags": [],
        "custom_metadata": {},
    }
    first.tags.append("mine")
    assert second.tags == []
    assert reference().metadata == {}
    assert (reference().created_at, reference().accessed_at) == (None, None)


def test_a_result_drops_what_it_does_not_know():
    result = models.FileOperationResult(success=True, file_reference=reference(), metadata={"a": 1})
    assert set(result.model_dump()) == {"success", "file_reference", "error", "operation_id", "duration_ms"}
    assert result.file_reference.internal_id == UUID
    with pytest.raises(ValueError, match="success"):
        result.success = "perhaps"


def test_there_is_nothing_else_in_models():
    with pytest.raises(AttributeError, match="FileUploadResult"):
        _ = models.FileUploadResult
    assert {"FileReference", "FileUploadMetadata", "FileOperationResult"} <= set(dir(models))


BASE = {"message": "no", "provider": None, "error_code": None}
RAISED = [
    pytest.param(lambda: exceptions.FileManagementError("no"), BASE, id="base"),
    pytest.param(
        lambda: exceptions.FileUploadError("no", "kimi", "UPLOAD_FAILED"),
        {**BASE, "provider": "kimi", "error_code": "UPLOAD_FAILED", "retryable": True, "file_path": None},
        id="upload",
    ),
    pytest.param(
        lambda: exceptions.FileDownloadError("no", "glm", "X", reference()),
        {**BASE, "provider": "glm", "error_code": "X", "file_reference": reference().model_dump()},
        id="download",
    ),
    pytest.param(
        lambda: exceptions.FileDownloadError("no", "glm", "X"),
        {**BASE, "provider": "glm", "error_code": "X"},
        id="download of nothing known",
    ),
    pytest.param(
        lambda: exceptions.FileDeleteError("no", "kimi", "X", reference()),
        {**BASE, "provider": "kimi", "error_code": "X", "file_reference": reference().model_dump()},
        id="delete",
    ),
    pytest.param(
        lambda: exceptions.FileDuplicateError("no", reference()),
        {**BASE, "existing_file": reference().model_dump()},
        id="duplicate",
    ),
    pytest.param(
        lambda: exceptions.FileNotFoundError(reference(), "/a", "glm"),
        {
            "message": f"File not found: {UUID}",
            "provider": "kimi",
            "error_code": None,
            "file_reference": reference().model_dump(),
            "file_path": "/a",
        },
        id="reference not found",
    ),
    pytest.param(
        lambda: exceptions.FileNotFoundError(file_path="/a"),
        {**BASE, "message": "File not found: /a", "file_path": "/a"},
        id="path not found",
    ),
    pytest.param(
        lambda: exceptions.FileNotFoundError(provider="glm"),
        {**BASE, "message": "File not found", "provider": "glm"},
        id="not found",
    ),
    pytest.param(
        lambda: exceptions.FileValidationError("no", "/a", {"size": "0"}),
        {**BASE, "file_path": "/a", "validation_errors": {"size": "0"}},
        id="validation",
    ),
    pytest.param(
        lambda: exceptions.ProviderNotFoundError("openai", ["kimi", "glm"]),
        {
            "message": "Provider not found: openai. Available providers: kimi, glm",
            "provider": "openai",
            "error_code": None,
            "available_providers": ["kimi", "glm"],
        },
        id="provider",
    ),
    pytest.param(
        lambda: exceptions.ProviderNotFoundError("openai"),
        {**BASE, "message": "Provider not found: openai", "provider": "openai", "available_providers": []},
        id="provider, none known",
    ),
]


@pytest.mark.parametrize(("make", "wanted"), RAISED)
def test_an_exception_says_what_it_said(make, wanted):
    error = make()
    assert error.to_dict() == {"error_type": type(error).__name__, **wanted}
    assert (str(error), error.provider, error.error_code) == (
        wanted["message"],
        wanted["provider"],
        wanted["error_code"],
    )
    assert error.args == (wanted["message"],)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.to_dict()) == (type(error), str(error), error.to_dict())


def test_a_providers_code_is_a_code_and_no_path():
    """Fault 39: every provider of the tool calls it so."""
    error = exceptions.FileValidationError("File validation failed: empty", "kimi", "VALIDATION_FAILED")
    assert (error.provider, error.error_code, error.file_path) == ("kimi", "VALIDATION_FAILED", None)
    assert error.validation_errors == {}


STANDARD = {
    "1001": ("VALIDATION_FAILED", 400),
    "1002": ("INVALID_FILE_TYPE", 400),
    "1003": ("FILE_TOO_LARGE", 400),
    "1004": ("FILE_NOT_FOUND", 404),
    "1005": ("INVALID_PATH", 400),
    "1006": ("MALICIOUS_FILE", 400),
    "1007": ("INVALID_EXTENSION", 400),
    "2001": ("UNAUTHORIZED", 401),
    "2002": ("INVALID_TOKEN", 401),
    "2003": ("TOKEN_EXPIRED", 401),
    "2004": ("QUOTA_EXCEEDED", 403),
    "2005": ("PERMISSION_DENIED", 403),
    "3001": ("PROVIDER_ERROR", 502),
    "3002": ("PROVIDER_UNAVAILABLE", 503),
    "3003": ("CIRCUIT_BREAKER_OPEN", 503),
    "3004": ("ALL_PROVIDERS_UNAVAILABLE", 503),
    "3005": ("INVALID_PURPOSE", 400),
    "3006": ("UPLOAD_FAILED", 502),
    "3007": ("DELETE_FAILED", 502),
    "4001": ("FILE_LOCKED", 423),
    "4002": ("LOCK_TIMEOUT", 408),
    "4003": ("CONCURRENT_UPLOAD", 409),
    "5001": ("STORAGE_ERROR", 500),
    "5002": ("SUPABASE_ERROR", 500),
    "5003": ("DATABASE_ERROR", 500),
    "9001": ("UNEXPECTED_ERROR", 500),
    "9002": ("CONFIGURATION_ERROR", 500),
    "9003": ("NETWORK_ERROR", 502),
}
CLASSES = {
    Code.VALIDATION_FAILED: errors.FileValidationError,
    Code.QUOTA_EXCEEDED: errors.QuotaExceededError,
    Code.PROVIDER_UNAVAILABLE: errors.ProviderUnavailableError,
    Code.FILE_LOCKED: errors.FileLockError,
    Code.INVALID_PURPOSE: errors.InvalidPurposeError,
}
DETAILS = {"provider": "glm", "file_path": "/a", "user_id": "eve", "metadata": {"a": 1}}


def test_the_codes_are_all_there_and_no_others():
    assert {code.value: code.name for code in Code} == {value: name for value, (name, _) in STANDARD.items()}
    assert errors.ERROR_CODE_TO_EXCEPTION == CLASSES


@pytest.mark.parametrize("given", [DETAILS, {}], ids=["all known", "nothing known"])
@pytest.mark.parametrize("value", STANDARD)
def test_every_code_makes_an_error(value, given):
    """Fault 41: the tool could make five of them."""
    name, status = STANDARD[value]
    error = errors.create_error_from_code(Code[name], "no", **given)
    assert type(error) is CLASSES.get(Code[name], errors.StandardizedFileUploadError)
    said = {"error_code": value, "error_name": name, "message": "no"}
    said |= {**dict.fromkeys(DETAILS), "metadata": {}, **given}
    assert error.to_dict() == error.detail.to_dict() == said
    assert error.to_http_response() == (status, {"success": False, "error": said})
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.to_dict()) == (type(error), "no", said)


def test_a_code_may_be_given_as_text_and_must_be_one():
    assert errors.create_error_from_code("3005", "no").detail.code is Code.INVALID_PURPOSE
    with pytest.raises(ValueError, match="7777"):
        errors.create_error_from_code("7777", "no")


MADE = [
    (errors.FileValidationError("no", "kimi", "/a"), Code.VALIDATION_FAILED, {"provider": "kimi", "file_path": "/a"}),
    (errors.QuotaExceededError("no", "eve"), Code.QUOTA_EXCEEDED, {"user_id": "eve"}),
    (errors.ProviderUnavailableError("no", "glm"), Code.PROVIDER_UNAVAILABLE, {"provider": "glm"}),
    (errors.FileLockError("no", "/a"), Code.FILE_LOCKED, {"file_path": "/a"}),
    (errors.InvalidPurposeError("no", "kimi"), Code.INVALID_PURPOSE, {"provider": "kimi"}),
]


@pytest.mark.parametrize(("error", "code", "known"), MADE, ids=[code.name for _, code, _ in MADE])
def test_a_class_has_its_code(error, code, known):
    assert error.detail == errors.ErrorDetail(code, "no", **known)


CAUGHT = [
    (exceptions.FileNotFoundError, (builtins.FileNotFoundError, ours.NotFoundError)),
    (exceptions.FileValidationError, (ValueError, ours.InvalidRequestError)),
    (exceptions.FileDuplicateError, (ours.ConflictError,)),
    (exceptions.ProviderNotFoundError, (ours.InvalidRequestError,)),
    (errors.FileValidationError, (ValueError, ours.InvalidRequestError)),
    (errors.QuotaExceededError, (ours.QuotaExceededError,)),
    (errors.ProviderUnavailableError, (ours.PlatformUnavailableError,)),
    (errors.FileLockError, (ours.ConflictError,)),
    (errors.InvalidPurposeError, (ValueError,)),
    (comprehensive_validator.FileValidationError, (ValueError, ours.InvalidRequestError)),
    (file_base.ConcurrencyError, (ours.ConflictError,)),
]


@pytest.mark.parametrize(("cls", "also"), CAUGHT, ids=[f"{cls.__module__}.{cls.__name__}" for cls, _ in CAUGHT])
def test_who_catches_our_errors_or_pythons_catches_the_tools(cls, also):
    assert all(issubclass(cls, each) for each in (exai_files.Error, *also))


def test_the_three_validation_errors_are_three():
    three = [module.FileValidationError for module in (exceptions, errors, comprehensive_validator)]
    assert not [(a, b) for a in three for b in three if a is not b and issubclass(a, b)]


def test_the_missing_file_is_told_as_python_tells_it():
    with pytest.raises(builtins.FileNotFoundError) as raised:
        raise exceptions.FileNotFoundError(file_path="/a")
    assert (raised.value.errno, raised.value.filename) == (2, "/a")
    assert exceptions.FileNotFoundError(reference()).platform == "moonshot"


SPELLINGS = {
    "file-extract": ("file-extract", "agent"),
    "assistants": ("file-extract", "agent"),
    "vision": ("image", "agent"),
    "batch": ("batch", "batch"),
    "batch_output": ("batch_output", "batch"),
    "lambda": ("lambda", "agent"),
    "fine-tune": ("file-extract", "fine-tune"),
    "agent": ("file-extract", "agent"),
    "file": ("file-extract", "agent"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_understood_on_both(spelling):
    """Faults 36, 61 and 62: the tool's own defaults were refused by its own functions."""
    moonshot, zai = SPELLINGS[spelling]
    assert purposes.purpose_on("moonshot", spelling) == purposes.purpose_on("kimi", spelling) == moonshot
    assert purposes.purpose_on("zai", spelling) == purposes.purpose_on("glm", f" {spelling.upper()} ") == zai


@pytest.mark.parametrize("purpose", file_base.FilePurpose)
@pytest.mark.parametrize("platform", purposes.PURPOSES)
def test_every_purpose_of_the_base_is_understood(platform, purpose):
    assert purposes.purpose_on(platform, purpose) in purposes.PURPOSES[platform].values()


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_purpose_is_left_to_the_files_type(nothing):
    assert purposes.purpose_on("kimi", nothing) is None


def test_an_unknown_purpose_names_the_known_ones():
    with pytest.raises(ValueError, match=r"zai has no purpose 'poetry'; known are: agent, .*vision") as raised:
        purposes.purpose_on("glm", "poetry")
    assert raised.value.to_http_response()[0] == 400
    with pytest.raises(ValueError, match="moonshot, zai"):
        purposes.purpose_on("openai", "file")


@pytest.mark.parametrize("platform", purposes.PURPOSES)
def test_the_core_takes_every_purpose_that_is_made_of_them(sim, platform):
    with sim.client() as files:
        taken = {rule["wire"] for rule in files.capabilities(platform)["purposes"]}
    assert set(purposes.PURPOSES[platform].values()) <= taken


def test_the_default_purpose_reaches_both_platforms(sim):
    default = models.FileUploadMetadata().purpose
    with sim.client() as files:
        for platform in ("moonshot", "zai"):
            record = files.upload(b"a", name="a.txt", to=platform, purpose=purposes.purpose_on(platform, default))
            assert record.on(platform)


class Provider(file_base.BaseFileProvider):
    async def upload_file(self, file_path, purpose=file_base.FilePurpose.FILE_EXTRACT, *rest, **more):
        async with await self._get_upload_lock(file_path):
            await asyncio.sleep(0)
            return len(self._upload_locks)

    download_file = delete_file = list_files = get_file_metadata = upload_file


def test_a_provider_has_to_do_all_five():
    names = {"upload_file", "download_file", "delete_file", "list_files", "get_file_metadata"}
    assert file_base.BaseFileProvider.__abstractmethods__ == names
    with pytest.raises(TypeError, match="abstract"):
        file_base.BaseFileProvider("kimi")
    assert all(inspect.iscoroutinefunction(getattr(file_base.BaseFileProvider, name)) for name in names)


def test_locks_of_paths_are_shared_and_do_not_pile_up():
    """Fault 69."""
    provider = Provider("kimi")

    async def upload_all():
        mine = await provider._get_upload_lock("a")
        assert mine is await provider._get_upload_lock("a")
        del mine
        await asyncio.gather(*(provider.upload_file(f"{number}") for number in range(100)))

    asyncio.run(upload_all())
    gc.collect()
    assert len(provider._upload_locks) == 0


def test_the_bases_records_become_json_and_come_back():
    at = datetime(2025, 11, 3, tzinfo=timezone.utc)
    there = file_base.FileMetadata("f", "a.txt", 1, "text/plain", file_base.FilePurpose.AGENT, "glm", at, at)
    written = json.loads(json.dumps(there.to_dict()))
    assert written["purpose"] == "agent"
    assert written["created_at"] == written["updated_at"] == "2025-11-03T00:00:00+00:00"
    assert file_base.FileMetadata.from_dict(written) == there
    assert file_base.UploadResult("f", there).to_dict() == {
        "file_id": "f",
        "metadata": there.to_dict(),
        "chunks_uploaded": None,
        "total_chunks": None,
        "upload_duration_seconds": None,
    }
    assert file_base.UploadProgress(None, 1, 4).percentage == 25.0
    assert file_base.UploadProgress(None, 0, 0).percentage == 0.0


TOLD = [
    (FileNotFoundError("a"), "FILE_NOT_FOUND"),
    (ours.NotFoundError("a"), "FILE_NOT_FOUND"),
    (ours.FileTooLargeError("a"), "FILE_TOO_LARGE"),
    (ours.UnsupportedError("a"), "UNSUPPORTED_OPERATION"),
    (ours.QuotaExceededError("a"), "QUOTA_EXCEEDED"),
    (ours.AuthenticationError("a"), "AUTHENTICATION_ERROR"),
    (ours.CircuitOpenError("a"), "NETWORK_ERROR"),
    (ConnectionResetError("a"), "NETWORK_ERROR"),
    (ValueError("a"), "PROVIDER_ERROR"),
]


@pytest.mark.parametrize(("error", "code"), TOLD, ids=[type(error).__name__ for error, _ in TOLD])
def test_what_a_platform_raises_is_told_by_its_code(error, code):
    told = Provider("kimi")._handle_provider_error(error, "upload")
    assert told.to_dict() == {
        "message": "upload failed: a",
        "error_code": code,
        "provider_error": {"original_error": "a", "error_type": type(error).__name__},
    }
    assert pickle.loads(pickle.dumps(told)).to_dict() == told.to_dict()
