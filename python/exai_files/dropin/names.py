"""Which modules of the existing tool this package stands in for, and under which names each is used.

The one table: `install` writes from it, `activate` serves from it, and a test holds every module to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["STAND_INS", "Place", "StandIn", "State", "modules", "shim"]

State = Literal["original", "replaced", "changed since", "missing", "other version"]
"""What is in a module's place; "missing" where the tool has no such module."""


@dataclass(frozen=True)
class Place:
    """One module of the tool, and what is in its place.

    Attributes:
        module: Its name in the tool, such as "src.file_management.registry".
        by: Our module that stands in for it, or whose function its class calls.
        remark: What else there is to say, or nothing.
    """

    module: str
    by: str
    state: State
    remark: str = ""

    def __str__(self) -> str:
        return f"{self.module}: {self.state}" + (f" ({self.remark})" if self.remark else "")


@dataclass(frozen=True)
class StandIn:
    """One module of ours.

    Attributes:
        paths: The tool's modules that it stands in for; a package and the modules in it are several.
        names: What they have for others.
        later: What the tool's versions from 2025-11-04 on have besides. These resolve; see the module for what they do.
    """

    paths: tuple[str, ...]
    names: tuple[str, ...]
    later: tuple[str, ...] = ()


_FILES = "src.file_management"

STAND_INS: dict[str, StandIn] = {
    "registry": StandIn(
        (f"{_FILES}.registry", f"{_FILES}.registry.file_registry"),
        ("FileRegistry",),
        ("CrossPlatformPath", "FileMetadata", "FileType"),
    ),
    "health": StandIn(
        (f"{_FILES}.health", f"{_FILES}.health.health_checker"),
        ("HealthChecker",),
        (
            *("AccessibilityResult", "FileHealthChecker", "FileIntegrityCheck", "HealthReport", "HealthStatus"),
            *("PerformanceMetrics", "StorageQuotaInfo"),
        ),
    ),
    "lifecycle": StandIn(
        (f"{_FILES}.lifecycle", f"{_FILES}.lifecycle.lifecycle_sync"),
        ("LifecycleSync",),
        (
            *("FileMetadata", "FileType", "LifecyclePolicy", "LifecycleScheduler", "LifecycleState", "SyncOperation"),
            "load_config",
        ),
    ),
    "recovery": StandIn(
        (f"{_FILES}.recovery", f"{_FILES}.recovery.recovery_manager"),
        ("RecoveryManager",),
        (
            *("CircuitBreaker", "CircuitBreakerState", "ErrorContext", "ErrorRecoveryManager", "ErrorType"),
            *("FallbackStorageManager", "FileOperationRollback", "RecoveryStrategy", "RecoveryStrategyManager"),
            *("RetryConfig", "SupabaseErrorTracker", "recovery_operation"),
        ),
    ),
    "audit": StandIn(
        (f"{_FILES}.audit", f"{_FILES}.audit.audit_logger"),
        ("AuditLogger", "audit_operations_total"),
        (
            *("AuditEvent", "AuditEventType", "ComplianceStandard", "SecurityEventDetector", "SecurityLevel"),
            *("log_file_operation", "log_user_activity"),
        ),
    ),
    "deduplication": StandIn(
        (
            f"{_FILES}.deduplication",
            f"{_FILES}.deduplication.duplicate_detector",
            f"{_FILES}.deduplication.hashing_service",
        ),
        ("DuplicateDetector", "HashingService"),
    ),
    "persistent_circuit_breaker": StandIn(
        (f"{_FILES}.persistent_circuit_breaker",),
        ("CircuitBreakerConfig", "CircuitBreakerState", "CircuitState", "PersistentCircuitBreaker"),
    ),
    "provider_isolation": StandIn(
        (f"{_FILES}.provider_isolation",),
        ("ProviderHealth", "ProviderIsolationManager", "ProviderType", "get_provider_isolation_manager"),
    ),
    "file_lock_manager": StandIn((f"{_FILES}.file_lock_manager",), ("FileLockManager", "get_lock_manager")),
    "lifecycle_manager": StandIn((f"{_FILES}.lifecycle_manager",), ("CleanupResult", "FileLifecycleManager")),
    "providers": StandIn(
        (
            f"{_FILES}.providers",
            f"{_FILES}.providers.base",
            f"{_FILES}.providers.glm_provider",
            f"{_FILES}.providers.kimi_provider",
        ),
        ("FileProviderInterface", "GLMFileProvider", "KimiFileProvider"),
    ),
    "models": StandIn((f"{_FILES}.models",), ("FileOperationResult", "FileReference", "FileUploadMetadata")),
    "exceptions": StandIn(
        (f"{_FILES}.exceptions",),
        (
            *("FileDeleteError", "FileDownloadError", "FileDuplicateError", "FileManagementError"),
            *("FileNotFoundError", "FileUploadError", "FileValidationError", "ProviderNotFoundError"),
        ),
    ),
    "errors": StandIn(
        (f"{_FILES}.errors",),
        (
            *("ERROR_CODE_TO_EXCEPTION", "ErrorDetail", "FileLockError", "FileUploadErrorCode", "FileValidationError"),
            *("InvalidPurposeError", "ProviderUnavailableError", "QuotaExceededError", "StandardizedFileUploadError"),
            "create_error_from_code",
        ),
    ),
    "comprehensive_validator": StandIn(
        (f"{_FILES}.comprehensive_validator",),
        ("ComprehensiveFileValidator", "FileValidationError", "get_file_validator", "validate_file"),
    ),
    "manager": StandIn((f"{_FILES}.manager",), ("UnifiedFileManager",)),
    "unified_manager": StandIn(
        (f"{_FILES}.unified_manager",),
        ("FileUploadMetrics", "Provider", "UnifiedFileManager", "UploadRequest", "UploadResult"),
    ),
    "rollout_manager": StandIn((f"{_FILES}.rollout_manager",), ("RolloutManager",)),
    "migration_facade": StandIn((f"{_FILES}.migration_facade",), ("FileManagementFacade", "ShadowModeMetrics")),
    "mcp_storage_adapter": StandIn((f"{_FILES}.mcp_storage_adapter",), ("MCPStorageAdapter", "MCPStorageResult")),
    "backfill_file_hashes": StandIn((f"{_FILES}.migrations.backfill_file_hashes",), ("FileHashBackfill", "main")),
    "file_metrics": StandIn(
        ("src.monitoring.file_metrics",),
        (
            *("init_file_metrics", "record_circuit_breaker_trip", "record_deduplication_hit", "record_file_deletion"),
            *("record_upload_attempt", "record_upload_completion"),
        ),
    ),
    "kimi_files": StandIn(("src.providers.kimi_files",), ("KimiFileProvider", "upload_file")),
    "glm_files": StandIn(("src.providers.glm_files",), ("GLMFileProvider", "upload_file")),
    "glm_sdk_fallback": StandIn(("src.providers.glm_sdk_fallback",), ("GLMSDKFallback", "upload_file_with_fallback")),
    "file_base": StandIn(
        ("src.providers.file_base",),
        (
            *("BaseFileProvider", "ConcurrencyError", "DeleteError", "DownloadError", "FileErrorCode"),
            *("FileMetadata", "FileOperationError", "FilePurpose", "UploadError", "UploadProgress", "UploadResult"),
        ),
    ),
    "file_deduplication": StandIn(
        ("utils.file.deduplication",),
        ("FileDeduplicationManager", "get_dedup_metrics", "reset_dedup_metrics", "sha256_file_async"),
    ),
}
"""By our modules in `exai_files.dropin`."""


def modules() -> dict[str, str]:
    """The tool's modules, each with our module that stands in for it."""
    return {path: f"{__package__}.{ours}" for ours, each in STAND_INS.items() for path in each.paths}


def shim(by: str, submodules: Sequence[str] = ()) -> str:
    """What stands in for a module: one line, which gives all our module has, private names too, and runs its command.

    Args:
        by: Our module.
        submodules: For a package, those that are stood in for too: it has always had them as attributes.
    """
    package, _, name = by.rpartition(".")
    parts = [f"from {by} import *", f"from {package} import {name} as _exai_files"]
    if submodules:
        parts.append(f"from . import {', '.join(submodules)}")
    parts.append("__getattr__ = _exai_files.__getattribute__")
    if name in STAND_INS and "main" in STAND_INS[name].names:
        parts.append('__name__ == "__main__" and _exai_files.main()')
    return f"{'; '.join(parts)}  # fmt: skip # noqa # the original: python -m exai_files.dropin uninstall\n"
