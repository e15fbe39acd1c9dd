"""What later versions of the existing tool export besides (dropin_contract.md §2.1): enumerations and records are whole."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import random
from dataclasses import fields
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path

import pytest

import exai_files
from exai_files import errors
from exai_files.dropin.later import (
    NotTakenOver,
    NotTakenOverError,
    audit,
    audit_config,
    health,
    lifecycle,
    recovery,
    registry,
)

VALUES = {
    registry.FileType: "document image video audio archive code data other",
    health.HealthStatus: "healthy warning critical unknown",
    lifecycle.LifecycleState: "uploaded processing archived deleted backup_pending backup_complete expired",
    lifecycle.FileType: "document image video audio archive other",
    recovery.ErrorType: "network_error storage_error authentication_error quota_exceeded file_not_found corrupted_data"
    " timeout_error rate_limit_error permission_error system_error unknown_error",
    recovery.RecoveryStrategy: "retry retry_with_backoff fallback_storage rollback skip_and_log escalate compensate",
    recovery.CircuitBreakerState: "closed open half_open",
    audit.AuditEventType: "file_upload file_download file_delete file_modify file_access file_share folder_create"
    " folder_delete user_login user_logout user_activity permission_change system_event security_event",
    audit.SecurityLevel: "low medium high critical",
    audit.ComplianceStandard: "gdpr hipaa sox pci_dss iso_27001 cis",
}


@pytest.mark.parametrize("cls", VALUES, ids=lambda cls: f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}")
def test_an_enumeration_has_its_values_and_their_names(cls):
    assert [member.value for member in cls] == VALUES[cls].split()
    assert all(member.name == member.value.upper() for member in cls)


COUNTS = {
    registry.FileMetadata: (21, 17),
    health.FileIntegrityCheck: (7, 7),
    health.StorageQuotaInfo: (7, 7),
    health.AccessibilityResult: (8, 8),
    health.PerformanceMetrics: (9, 9),
    health.HealthReport: (9, 9),
    lifecycle.LifecyclePolicy: (10, 10),
    lifecycle.FileMetadata: (17, 12),
    lifecycle.SyncOperation: (6, 6),
    recovery.ErrorContext: (7, 2),
    recovery.CircuitBreakerConfig: (4, 0),
    audit.AuditEvent: (18, 16),
}


@pytest.mark.parametrize("cls", COUNTS, ids=lambda cls: f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}")
def test_a_record_is_made_of_its_fields_in_order(cls):
    count, needed = COUNTS[cls]
    names = [each.name for each in fields(cls)]
    assert len(names) == count
    given = [object() for _ in range(needed)]
    there = cls(*given)
    assert [getattr(there, name) for name in names[:needed]] == given
    if needed:
        with pytest.raises(TypeError):
            cls(*given[:-1])


def test_an_error_context_begins_now_and_is_its_own():
    first, second = (recovery.ErrorContext(recovery.ErrorType.NETWORK_ERROR, "upload") for _ in range(2))
    assert first.metadata is not second.metadata
    assert (first.file_path, first.retry_count, first.original_error) == (None, 0, None)
    assert abs((datetime.now(timezone.utc) - first.timestamp).total_seconds()) < 60


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 1), (2, 2), (5, 16), (7, 60), (1000, 60)])
def test_delays_double_up_to_the_longest(attempt, seconds):
    assert recovery.RetryConfig(jitter=False).calculate_delay(attempt) == seconds


def test_jitter_takes_up_to_half():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    random.seed(seed)
    delays = {recovery.RetryConfig().calculate_delay(3) for _ in range(100)}
    assert len(delays) > 1
    assert all(2 <= delay <= 4 for delay in delays)


TOLD = [
    (errors.QuotaExceededError("a"), "quota_exceeded"),
    (errors.RateLimitError("a"), "rate_limit_error"),
    (errors.AuthenticationError("a"), "authentication_error"),
    (errors.PermissionDeniedError("a"), "permission_error"),
    (errors.NotFoundError("a"), "file_not_found"),
    (FileNotFoundError("a"), "file_not_found"),
    (errors.IntegrityError("a"), "corrupted_data"),
    (errors.PlatformTimeoutError("a"), "timeout_error"),
    (errors.PlatformUnavailableError("a"), "network_error"),
    (ConnectionError("disk quota exceeded: unauthorized"), "network_error"),
    (errors.RegistryError("a"), "storage_error"),
    (OSError("a"), "system_error"),
    (ValueError("no connection"), "unknown_error"),
]


@pytest.mark.parametrize(("error", "kind"), TOLD, ids=[f"{type(error).__name__}-{kind}" for error, kind in TOLD])
def test_an_error_is_told_by_its_class_and_not_by_its_words(error, kind):
    assert recovery.RecoveryStrategyManager().determine_error_type(error).value == kind


@pytest.mark.parametrize("kind", recovery.ErrorType)
def test_there_is_something_to_do_about_every_error(kind):
    strategies = recovery.RecoveryStrategyManager().get_recovery_strategies(kind)
    assert strategies
    assert all(isinstance(each, recovery.RecoveryStrategy) for each in strategies)


class Manager:
    async def execute_with_recovery(self, operation, operation_name, file_path=None, create_backup=True):
        assert (file_path, create_backup) == (None, True)
        try:
            return True, await operation(), None
        except ValueError as error:
            return False, None, f"{operation_name}: {error}"


def test_a_decorated_operation_keeps_its_arguments_and_its_name():
    @recovery.recovery_operation(Manager())
    async def upload(path, *, user):
        """Uploads."""
        if not path:
            raise ValueError("no path")
        return path, user

    assert asyncio.run(upload("/a", user="eve")) == ("/a", "eve")
    assert (upload.__name__, upload.__doc__) == ("upload", "Uploads.")
    with pytest.raises(exai_files.Error, match="no path"):
        asyncio.run(upload("", user="eve"))


def event(**changes):
    given = {each.name: each.name for each in fields(audit.AuditEvent)}
    given |= {
        "timestamp": datetime(2025, 11, 4, tzinfo=timezone.utc),
        "event_type": audit.AuditEventType.FILE_UPLOAD,
        "security_level": audit.SecurityLevel.HIGH,
        "compliance_tags": [audit.ComplianceStandard.GDPR],
        "details": {"size": 1},
        "metadata": None,
    }
    return audit.AuditEvent(**{**given, **changes})


def test_an_event_becomes_json():
    written = json.loads(json.dumps(event().to_dict()))
    assert list(written) == [each.name for each in fields(audit.AuditEvent)]
    assert written["timestamp"] == "2025-11-04T00:00:00+00:00"
    assert (written["event_type"], written["security_level"]) == ("file_upload", "high")
    assert (written["compliance_tags"], written["details"]) == (["gdpr"], {"size": 1})


def test_no_event_states_what_nobody_knows():
    with pytest.raises(errors.UnsupportedError, match="sox"):
        event().to_compliance_format(audit.ComplianceStandard.SOX)


class Logger:
    def __init__(self):
        self.logged = []

    def create_audit_event(self, **given):
        return given

    async def log_event(self, event):
        self.logged.append(event)


@pytest.mark.parametrize(
    ("log", "word", "kind", "action"),
    [
        (audit.log_file_operation, "Upload", audit.AuditEventType.FILE_UPLOAD, "file_Upload"),
        (audit.log_file_operation, "paint", audit.AuditEventType.FILE_ACCESS, "file_paint"),
        (audit.log_user_activity, "login", audit.AuditEventType.USER_LOGIN, "login"),
        (audit.log_user_activity, "sleep", audit.AuditEventType.USER_ACTIVITY, "sleep"),
    ],
    ids=["upload", "another operation", "login", "another activity"],
)
def test_what_was_done_is_logged_as_its_kind(log, word, kind, action):
    logger = Logger()
    where = ("/a",) if log is audit.log_file_operation else ()
    asyncio.run(log(logger, word, "eve", *where, ip_address="::1", status="failed"))
    (logged,) = logger.logged
    assert (logged["event_type"], logged["action"], logged["user_id"]) == (kind, action, "eve")
    assert (logged["ip_address"], logged["status"]) == ("::1", "failed")


def test_paths_have_no_detours():
    paths = registry.CrossPlatformPath
    assert paths.normalize_path(Path("a/./b/../c")) == "a/c"
    assert paths.get_absolute_path("a/../b") == str(Path.cwd() / "b")
    assert paths.split_path("a//b/c.txt") == ("a/b", "c.txt")
    assert paths.join_path("a", "..", Path("b")) == "b"


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, []), ("{", ["Expecting"]), ("[]", ["not a mapping"]), (b"\xff", ["decode"])],
    ids=["none", "broken", "no object", "no text"],
)
def test_settings_that_cannot_be_read_change_nothing(tmp_path, caplog, content, words):
    path = tmp_path / "lifecycle.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    settings = lifecycle.load_config(str(path))
    assert (settings["registry_sync_interval"], settings["moonshot_api_key"]) == (300, None)
    assert len(caplog.records) == len(words)
    settings["registry_sync_interval"] = 1
    path.write_text('{"cleanup_interval": 7}')
    settings = lifecycle.load_config(str(path))
    assert (settings["registry_sync_interval"], settings["cleanup_interval"]) == (300, 7)


MADE = [
    pytest.param(cls, id=cls.__name__)
    for module in (health, lifecycle, recovery, audit, audit_config)
    for cls in vars(module).values()
    if isinstance(cls, type) and issubclass(cls, NotTakenOver) and cls is not NotTakenOver
]


@pytest.mark.parametrize("cls", MADE)
def test_what_is_not_taken_over_is_made_and_says_so_when_it_is_used(cls):
    there = cls()
    assert cls("https://example.invalid", key="k")
    with pytest.raises(errors.UnsupportedError, match=rf"{cls.__name__}\.start is not taken over; .*\w"):
        there.start()
    assert not hasattr(there, "start")
    assert type(copy.copy(there)) is type(pickle.loads(pickle.dumps(there))) is cls


def test_later_settings_show_no_key():
    settings = audit_config.AuditConfig("https://example.invalid", "s3cret")
    assert (settings.environment, settings.retention_days, settings.compliance_standards) == ("development", 2555, [])
    assert "s3cret" not in f"{settings!r}{settings}"
    with pytest.raises(NotTakenOverError):
        asyncio.run(audit_config.setup_production_audit_logger())
    assert issubclass(audit.AuditEventType, Enum)
