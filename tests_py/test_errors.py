"""Errors: one class per remedy, with attributes, for every kind the core has."""

from __future__ import annotations

import pickle
from types import ModuleType

import pytest

import exai_files
from exai_files import _core, errors

# What the platform says, what is raised, and what it carries.
RAISED = [
    pytest.param(
        {"kind": "error", "type": "invalid_authentication_error"}, errors.AuthenticationError, {"status": 401}, id="key"
    ),
    pytest.param(
        {"kind": "error", "type": "permission_denied_error"},
        errors.PermissionDeniedError,
        {"status": 403},
        id="permission",
    ),
    pytest.param(
        {"kind": "error", "type": "content_filter"},
        errors.ContentRejectedError,
        {"code": "content_filter"},
        id="filtered",
    ),
    pytest.param(
        {"kind": "error", "type": "exceeded_current_quota_error"}, errors.BillingError, {"status": 429}, id="balance"
    ),
    pytest.param({"kind": "status", "status": 409, "body": {}}, errors.ConflictError, {"status": 409}, id="conflict"),
    pytest.param(
        {"kind": "status", "status": 501, "body": {}}, errors.UnsupportedError, {"status": 501}, id="unsupported"
    ),
    pytest.param(
        {"kind": "status", "status": 413, "body": {}}, errors.FileTooLargeError, {"status": 413}, id="too large"
    ),
    pytest.param(
        {"kind": "status", "status": 503, "body": {}}, errors.PlatformUnavailableError, {"status": 503}, id="down"
    ),
    pytest.param({"kind": "html", "status": 504}, errors.PlatformTimeoutError, {"status": 504}, id="gateway"),
    pytest.param({"kind": "html", "status": 200}, errors.ContractDriftError, {"status": 200}, id="drift"),
    pytest.param(
        {
            "kind": "error",
            "type": "rate_limit_reached_error",
            "message": "organization TPD rate limit, current:2, limit:1",
        },
        errors.QuotaExceededError,
        {"code": "rate_limit_reached_error"},
        id="daily quota",
    ),
    pytest.param(
        {"kind": "rate_limited", "seconds": 3000}, errors.RateLimitError, {"retry_after": 3000.0}, id="too fast"
    ),
]


@pytest.mark.parametrize(("fault", "cls", "carried"), RAISED)
def test_each_answer_raises_its_own_class(files, sim, fault, cls, carried):
    sim.moonshot.fault(fault, operation="list")
    with pytest.raises(cls) as raised:
        files.list_remote("moonshot", timeout=20)
    error = raised.value
    assert isinstance(error, exai_files.Error)
    assert (error.platform, error.operation) == ("moonshot", "list")
    for name, value in carried.items():
        assert getattr(error, name) == value
    assert error.hint in str(error)
    assert len(error.attempts) >= 1


def test_every_kind_of_the_core_has_a_class_and_the_tree_is_whole():
    assert set(_core.error_kinds()) == set(errors._CLASSES)
    assert len(set(errors._CLASSES.values())) == len(errors._CLASSES)
    public = {getattr(errors, name) for name in errors.__all__}
    assert public == set(errors._CLASSES.values()) | {errors.Error, errors.PlatformError}
    for cls in public:
        assert issubclass(cls, errors.Error)
        assert cls.__doc__
        assert cls.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("cls", sorted(errors._CLASSES.values(), key=lambda cls: cls.__name__))
def test_errors_pickle_with_all_they_carry(cls):
    error = cls("it broke", hint="mend it", platform="zai", retry_after=2.5, attempts=("one", "two"))
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert (str(copy), copy.retry_after, copy.attempts) == ("it broke; mend it", 2.5, ("one", "two"))


def test_errors_are_also_what_python_calls_them():
    for cls, builtin in [
        (errors.ConfigError, ValueError),
        (errors.InvalidRequestError, ValueError),
        (errors.SourceNotFoundError, FileNotFoundError),
        (errors.NotFoundError, LookupError),
        (errors.PlatformTimeoutError, TimeoutError),
    ]:
        assert issubclass(cls, builtin)


def test_partial_uploads_carry_the_record_and_the_failures(files, sim):
    sim.zai.fault({"kind": "error", "code": "1113"}, operation="upload")
    with pytest.raises(errors.PartialUploadError) as raised:
        files.upload(b"hello", name="a.txt", to=["moonshot", "zai"])
    assert [replica.platform for replica in raised.value.record.replicas] == ["moonshot"]
    assert isinstance(raised.value.failures["zai"], errors.BillingError)
    assert "moonshot" in str(raised.value)
    copy = pickle.loads(pickle.dumps(raised.value))
    assert copy.record == raised.value.record


def test_all_names_are_exported():
    public = {
        name
        for name, value in vars(exai_files).items()
        if not name.startswith(("_", "@")) and not isinstance(value, ModuleType)
    }
    assert public - {"TYPE_CHECKING", "annotations", "import_module"} <= set(exai_files.__all__)
    for name in exai_files.__all__:
        assert getattr(exai_files, name) is not None
