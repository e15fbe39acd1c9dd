"""The names of the existing tool (dropin_contract.md §1.2–§1.7, §1.9, §2.1): each has the parameters it had, in order."""

from __future__ import annotations

import inspect
import subprocess
import sys
from enum import Enum
from importlib import import_module

import pytest

# As the contract writes them; a star says that it is a coroutine function.
SIGNATURES = {
    "exceptions": {
        "FileManagementError": "(message, provider=None, error_code=None)",
        "FileUploadError": "(message, provider, error_code, retryable=True, file_path=None)",
        "FileDownloadError": "(message, provider, error_code, file_ref=None)",
        "FileDeleteError": "(message, provider, error_code, file_ref=None)",
        "FileDuplicateError": "(message, existing_file)",
        "FileNotFoundError": "(file_ref=None, file_path=None, provider=None)",
        "FileValidationError": "(message, file_path, validation_errors=None)",
        "ProviderNotFoundError": "(provider, available_providers=None)",
        "FileManagementError.to_dict": "(self)",
    },
    "errors": {
        "ErrorDetail": "(code, message, provider=None, file_path=None, user_id=None, metadata=None)",
        "ErrorDetail.to_dict": "(self)",
        "ErrorDetail.to_http_response": "(self)",
        "StandardizedFileUploadError": "(code, message, provider=None, file_path=None, user_id=None, metadata=None)",
        "StandardizedFileUploadError.to_dict": "(self)",
        "StandardizedFileUploadError.to_http_response": "(self)",
        "FileValidationError": "(message, provider=None, file_path=None)",
        "QuotaExceededError": "(message, user_id=None)",
        "ProviderUnavailableError": "(message, provider=None)",
        "FileLockError": "(message, file_path=None)",
        "InvalidPurposeError": "(message, provider=None)",
        "create_error_from_code": "(code, message, **kwargs)",
    },
    "comprehensive_validator": {
        "FileValidationError": "(message, error_code='VALIDATION_ERROR')",
        "ComprehensiveFileValidator": "(max_file_size=536870912, allowed_mime_types=None, blocked_extensions=None)",
        "ComprehensiveFileValidator.validate": "*(self, file_path)",
        "get_file_validator": "()",
        "validate_file": "*(file_path)",
    },
    "persistent_circuit_breaker": {
        "PersistentCircuitBreaker": "(config, redis_client=None)",
        "PersistentCircuitBreaker.get_state": "*(self)",
        "PersistentCircuitBreaker.reset": "*(self)",
        "PersistentCircuitBreaker.get_metrics": "*(self)",
        "PersistentCircuitBreaker.cleanup": "*(self)",
    },
    "provider_isolation": {
        "ProviderIsolationManager": "(redis_client=None)",
        "ProviderIsolationManager.get_circuit_breaker": "(self, provider)",
        "ProviderIsolationManager.get_provider_health": "*(self, provider)",
        "ProviderIsolationManager.get_all_provider_health": "*(self)",
        "ProviderIsolationManager.select_provider": "*(self, preferred_provider=None, file_size=None)",
        "ProviderIsolationManager.execute_with_isolation": "*(self, provider, operation, *args, **kwargs)",
        "ProviderIsolationManager.reset_provider": "*(self, provider)",
        "ProviderIsolationManager.reset_all_providers": "*(self)",
        "ProviderIsolationManager.get_isolation_metrics": "*(self)",
        "ProviderIsolationManager.cleanup": "*(self)",
        "get_provider_isolation_manager": "(redis_manager=None)",
    },
    "file_lock_manager": {
        "FileLockManager": "(redis_client=None)",
        "FileLockManager.acquire": "(self, file_path, timeout=None)",
        "FileLockManager.is_locked": "*(self, file_path)",
        "FileLockManager.force_unlock": "*(self, file_path)",
        "FileLockManager.get_lock_stats": "(self)",
        "get_lock_manager": "()",
    },
    "file_metrics": {
        "record_upload_attempt": "(provider, user_id)",
        "record_upload_completion": "(provider, status, bytes_count, duration)",
        "record_deduplication_hit": "()",
        "record_circuit_breaker_trip": "(provider)",
        "record_file_deletion": "(provider, reason)",
        "init_file_metrics": "()",
    },
    "file_base": {
        "BaseFileProvider": "(provider_name)",
        "BaseFileProvider.upload_file": "*(self, file_path, purpose=FilePurpose.FILE_EXTRACT, chunk_size=None,"
        " progress_callback=None, **provider_kwargs)",
        "BaseFileProvider.download_file": "*(self, file_id, local_path, progress_callback=None)",
        "BaseFileProvider.delete_file": "*(self, file_id)",
        "BaseFileProvider.list_files": "*(self, purpose=None, limit=None, offset=None)",
        "BaseFileProvider.get_file_metadata": "*(self, file_id)",
        "FileMetadata": "(file_id, filename, size_bytes, mime_type, purpose, provider, created_at, updated_at=None,"
        " checksum_sha256=None, custom_metadata=None)",
        "UploadProgress": "(file_id, bytes_uploaded, total_bytes, chunk_number=None, total_chunks=None)",
        "UploadResult": "(file_id, metadata, chunks_uploaded=None, total_chunks=None, upload_duration_seconds=None)",
        **dict.fromkeys(
            ("FileOperationError", "UploadError", "DownloadError", "DeleteError", "ConcurrencyError"),
            "(message, error_code, provider_error=None)",
        ),
    },
    "later.recovery": {
        "RetryConfig": "(max_attempts=3, base_delay=1.0, max_delay=60.0, backoff_factor=2.0, jitter=True,"
        " retryable_exceptions=Exception)",
        "recovery_operation": "(manager)",
    },
    "later.lifecycle": {"load_config": "(config_path='lifecycle_config.json')"},
    "later.audit": {
        "log_file_operation": "*(audit_logger, operation, user_id, file_path, user_email=None, session_id=None,"
        " ip_address=None, **kwargs)",
        "log_user_activity": "*(audit_logger, activity, user_id, user_email=None, session_id=None, ip_address=None,"
        " **kwargs)",
    },
}
OVER_THE_CLIENT = {
    "registry": {
        "FileRegistry": "(registry_path=None)",
        "FileRegistry.register_file": "*(self, file_id, platform, platform_file_id, platform_url=None, metadata=None)",
        "FileRegistry.get_file_platforms": "*(self, file_id)",
    },
    "health": {
        "HealthChecker": "()",
        "HealthChecker.check_file_health": "*(self, registry_id, platform, platform_file_id)",
    },
    "lifecycle": {
        "LifecycleSync": "(config=None)",
        "LifecycleSync.sync_lifecycle": "*(self, file_id, platform, local_status)",
    },
    "recovery": {
        "RecoveryManager": "()",
        "RecoveryManager.execute_with_retry": "*(self, operation, file_id, operation_name, platform=None)",
    },
    "audit": {
        "AuditLogger": "(supabase_url=None, supabase_key=None)",
        "AuditLogger.log_operation": "*(self, file_id, operation, platform=None, status='success', error_message=None,"
        " duration_ms=None, operation_details=None)",
    },
    "deduplication": {
        "HashingService.compute_file_hash": "(file_source)",
        "HashingService.verify_hash": "(file_source, expected_hash)",
        "HashingService.compute_hash_from_bytes": "(data)",
        "DuplicateDetector": "(redis_client=None)",
        "DuplicateDetector.check_duplicate": "*(self, file_path, file_size, content_type=None)",
        "DuplicateDetector.register_file_hash": "*(self, file_id, file_hash, file_size, content_type=None,"
        " is_duplicate=False, original_file_id=None)",
    },
    "lifecycle_manager": {
        "CleanupResult": "(files_marked=0, files_deleted=0, bytes_freed=0, errors=<factory>, duration=0.0)",
        "FileLifecycleManager": "(supabase_client, retention_days=None, cleanup_interval_hours=None)",
        "FileLifecycleManager.start": "*(self)",
        "FileLifecycleManager.stop": "*(self)",
        "FileLifecycleManager.cleanup_expired_files": "*(self, dry_run=False)",
        "FileLifecycleManager.cleanup_orphaned_files": "*(self, dry_run=False)",
    },
    "providers": {
        **{
            f"{cls}{method}": signature
            for cls in ("KimiFileProvider", "GLMFileProvider")
            for method, signature in {
                "": "(provider)",
                ".upload_file": "*(self, file_path, metadata)",
                ".download_file": "*(self, file_ref, destination)",
                ".delete_file": "*(self, file_ref)",
                ".get_file_info": "*(self, file_ref)",
                ".list_files": "*(self, limit=None, offset=None)",
                ".check_file_exists": "*(self, file_hash)",
            }.items()
        },
    },
    "kimi_files": {
        "upload_file": "(client, file_path, purpose='assistants')",
        "KimiFileProvider": "(client=None)",
        "KimiFileProvider.upload": "(self, file_path, purpose='file-extract', client=None)",
    },
    "glm_files": {
        "upload_file": "(sdk_client, http_client, file_path, purpose='file', use_sdk=False, use_fallback_chain=True)",
        "GLMFileProvider": "(sdk_client=None, http_client=None, use_sdk=False)",
        "GLMFileProvider.upload": "(self, file_path, purpose='agent', sdk_client=None, http_client=None, use_sdk=None)",
    },
    "glm_sdk_fallback": {
        "GLMSDKFallback": "(api_key, base_url='https://api.z.ai/api/paas/v4', timeout=120.0, max_retries=3)",
        "GLMSDKFallback.upload_file": "(self, file_path, purpose='file')",
        "GLMSDKFallback.get_available_methods": "(self)",
        "GLMSDKFallback.health_check": "(self)",
        "upload_file_with_fallback": "(api_key, file_path, purpose='file', base_url='https://api.z.ai/api/paas/v4',"
        " timeout=120.0)",
    },
}
"""Of §1.2, §1.3, §1.5 and §1.7. The first three constructors also take what the later versions give them (§2.3)."""

ROWS = [
    pytest.param(module, *row, id=f"{module}.{row[0]}")
    for module, rows in {**SIGNATURES, **OVER_THE_CLIENT}.items()
    for row in rows.items()
]

# `__all__` of the later packages, less the class that is the old version's too.
LATER = {
    "registry": {"FileMetadata", "FileType", "CrossPlatformPath"},
    "health": {
        "FileHealthChecker",
        "HealthStatus",
        "FileIntegrityCheck",
        "StorageQuotaInfo",
        "AccessibilityResult",
        "PerformanceMetrics",
        "HealthReport",
    },
    "lifecycle": {
        "LifecycleScheduler",
        "LifecycleState",
        "FileType",
        "LifecyclePolicy",
        "FileMetadata",
        "SyncOperation",
        "load_config",
    },
    "recovery": {
        "ErrorRecoveryManager",
        "ErrorType",
        "RecoveryStrategy",
        "ErrorContext",
        "CircuitBreaker",
        "CircuitBreakerState",
        "RetryConfig",
        "FileOperationRollback",
        "SupabaseErrorTracker",
        "RecoveryStrategyManager",
        "FallbackStorageManager",
        "recovery_operation",
    },
    "audit": {
        "AuditEvent",
        "AuditEventType",
        "SecurityLevel",
        "ComplianceStandard",
        "SecurityEventDetector",
        "log_file_operation",
        "log_user_activity",
    },
    "audit_config": {"AuditConfig", "AuditLoggerFactory", "FlaskAuditMiddleware"},
}
MODULES = [*SIGNATURES, "models", "purposes", *(f"later.{name}" for name in LATER)]


def module(name):
    return import_module(f"exai_files.dropin.{name}")


def written(default):
    if isinstance(default, Enum):
        return str(default)
    return default[0].__name__ if isinstance(default, tuple) else repr(default)


def signature(function):
    """Without types, as the contract writes it."""
    shown = []
    for each in inspect.signature(function).parameters.values():
        stars = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        shown.append(f"{stars}{each.name}" + ("" if each.default is each.empty else f"={written(each.default)}"))
    return ("*" if inspect.iscoroutinefunction(function) else "") + f"({', '.join(shown)})"


@pytest.mark.parametrize(("where", "name", "wanted"), ROWS)
def test_each_takes_what_it_took(where, name, wanted):
    found = module(where)
    for part in name.split("."):
        found = getattr(found, part)
    assert signature(found) == wanted


@pytest.mark.parametrize(("where", "names"), LATER.items(), ids=str)
def test_the_later_names_resolve(where, names):
    there = module(f"later.{where}")
    assert names <= set(there.__all__)
    assert all(getattr(there, name) for name in there.__all__)


@pytest.mark.parametrize("name", sorted(set(MODULES)))
def test_each_imports_alone_without_what_is_heavy(name):
    """Neither pydantic nor prometheus_client: whoever has no model and counts nothing need not load them."""
    code = (
        f"import sys, exai_files; before = set(sys.modules); import exai_files.dropin.{name};"
        "heavy = {'asyncio', 'openai', 'prometheus_client', 'pydantic', 'redis'};"
        "print(*heavy & (set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_they_import_in_any_order_twice():
    names = [f"exai_files.dropin.{name}" for name in MODULES]
    code = (
        ";".join(f"import {name}" for order in (names, names[::-1]) for name in [*order, *order])
        + ";from exai_files.dropin.models import *;from exai_files.dropin.file_metrics import *;FileReference;ACTIVE_UPLOADS"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
