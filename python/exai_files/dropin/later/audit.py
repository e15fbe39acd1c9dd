"""`audit`, later version: its events, and two ways to log one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from typing import Any

from exai_files.dropin.later import NotTakenOver, NotTakenOverError

__all__ = [
    "AuditEvent",
    "AuditEventType",
    "ComplianceStandard",
    "SecurityEventDetector",
    "SecurityLevel",
    "log_file_operation",
    "log_user_activity",
]


class AuditEventType(Enum):
    """What happened."""

    FILE_UPLOAD = "file_upload"
    FILE_DOWNLOAD = "file_download"
    FILE_DELETE = "file_delete"
    FILE_MODIFY = "file_modify"
    FILE_ACCESS = "file_access"
    FILE_SHARE = "file_share"
    FOLDER_CREATE = "folder_create"
    FOLDER_DELETE = "folder_delete"
    USER_LOGIN = "user_login"
    USER_LOGOUT = "user_logout"
    USER_ACTIVITY = "user_activity"
    PERMISSION_CHANGE = "permission_change"
    SYSTEM_EVENT = "system_event"
    SECURITY_EVENT = "security_event"


class SecurityLevel(Enum):
    """How grave it is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class ComplianceStandard(Enum):
    """Rules that an event may matter to."""

    GDPR = "gdpr"
    HIPAA = "hipaa"
    SOX = "sox"
    PCI_DSS = "pci_dss"
    ISO_27001 = "iso_27001"
    CIS = "cis"


@dataclass
class AuditEvent:
    """One thing that happened, who did it, and to what."""

    event_id: str
    timestamp: datetime
    event_type: AuditEventType
    user_id: str
    user_email: str | None
    session_id: str
    ip_address: str
    user_agent: str
    resource_path: str
    resource_id: str | None
    action: str
    status: str
    details: dict[str, Any]
    security_level: SecurityLevel
    compliance_tags: list[ComplianceStandard]
    checksum: str
    parent_event_id: str | None = None
    metadata: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: enumerations by their values, the time in ISO 8601."""
        return {
            **{each.name: getattr(self, each.name) for each in fields(self)},
            "timestamp": self.timestamp.isoformat(),
            "event_type": self.event_type.value,
            "security_level": self.security_level.value,
            "compliance_tags": [tag.value for tag in self.compliance_tags],
        }

    def to_compliance_format(self, standard: ComplianceStandard) -> dict[str, Any]:
        """Stated what nobody had looked at, such as a segregation of duties.

        Raises:
            NotTakenOverError: Always.
        """
        raise NotTakenOverError(
            f"an event is not known to follow {standard.value}", hint="to_dict gives what is known of it"
        )


class SecurityEventDetector(NotTakenOver):
    """Looked for patterns of attacks among events."""

    _instead = "give `exai-files audit export` to a program made for it"


_OPERATIONS = {
    "upload": AuditEventType.FILE_UPLOAD,
    "download": AuditEventType.FILE_DOWNLOAD,
    "delete": AuditEventType.FILE_DELETE,
    "modify": AuditEventType.FILE_MODIFY,
    "access": AuditEventType.FILE_ACCESS,
}
_ACTIVITIES = {
    "login": AuditEventType.USER_LOGIN,
    "logout": AuditEventType.USER_LOGOUT,
    "activity": AuditEventType.USER_ACTIVITY,
}


async def log_file_operation(
    audit_logger: Any,
    operation: str,
    user_id: str,
    file_path: str,
    user_email: str | None = None,
    session_id: str | None = None,
    ip_address: str | None = None,
    **kwargs: Any,
) -> None:
    """Log what was done to a file, by `audit_logger.create_audit_event` and `log_event`."""
    event = audit_logger.create_audit_event(
        event_type=_OPERATIONS.get(operation.lower(), AuditEventType.FILE_ACCESS),
        user_id=user_id,
        action=f"file_{operation}",
        resource_path=file_path,
        user_email=user_email,
        session_id=session_id,
        ip_address=ip_address,
        **kwargs,
    )
    await audit_logger.log_event(event)


async def log_user_activity(
    audit_logger: Any,
    activity: str,
    user_id: str,
    user_email: str | None = None,
    session_id: str | None = None,
    ip_address: str | None = None,
    **kwargs: Any,
) -> None:
    """Log what a user did, in the same way."""
    event = audit_logger.create_audit_event(
        event_type=_ACTIVITIES.get(activity.lower(), AuditEventType.USER_ACTIVITY),
        user_id=user_id,
        action=activity,
        resource_path="/user/activity",
        user_email=user_email,
        session_id=session_id,
        ip_address=ip_address,
        **kwargs,
    )
    await audit_logger.log_event(event)
