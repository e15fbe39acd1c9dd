"""`health`, later version: what it says of a local disk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from exai_files.dropin.later import NotTakenOver

__all__ = [
    "AccessibilityResult",
    "FileHealthChecker",
    "FileIntegrityCheck",
    "HealthReport",
    "HealthStatus",
    "PerformanceMetrics",
    "StorageQuotaInfo",
]


class HealthStatus(Enum):
    """How something is."""

    HEALTHY = "healthy"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


@dataclass
class FileIntegrityCheck:
    """Whether a local file is what it was."""

    file_path: str
    file_size: int
    checksum: str
    expected_checksum: str | None
    is_valid: bool
    last_modified: datetime
    check_timestamp: datetime


@dataclass
class StorageQuotaInfo:
    """How full a disk is, in bytes; thresholds and usage in percent."""

    total_space: int
    used_space: int
    available_space: int
    usage_percentage: float
    warning_threshold: float
    critical_threshold: float
    check_timestamp: datetime


@dataclass
class AccessibilityResult:
    """What may be done with a local file."""

    file_path: str
    is_readable: bool
    is_writable: bool
    is_executable: bool
    permissions: str
    owner: str
    group: str
    check_timestamp: datetime


@dataclass
class PerformanceMetrics:
    """How fast the machine is."""

    upload_speed_mbps: float
    download_speed_mbps: float
    file_access_time_ms: float
    checksum_calculation_time_ms: float
    disk_io_read_mb: float
    disk_io_write_mb: float
    cpu_usage_percent: float
    memory_usage_percent: float
    check_timestamp: datetime


@dataclass
class HealthReport:
    """All of it together."""

    report_id: str
    timestamp: datetime
    overall_status: HealthStatus
    integrity_checks: list[FileIntegrityCheck]
    storage_quota: StorageQuotaInfo
    accessibility_results: list[AccessibilityResult]
    performance_metrics: PerformanceMetrics
    alerts: list[str]
    recommendations: list[str]


class FileHealthChecker(NotTakenOver):
    """Looked at files on the local disk."""

    _instead = "exai_files.Client.check asks a platform for a file, and Client.copies checks kept copies"
