"""`audit.config`, later version: the settings of its audit logger."""

from __future__ import annotations

from exai_files.dropin.later import NotTakenOver, NotTakenOverError
from exai_files.dropin.later.audit import ComplianceStandard

__all__ = [
    "AuditConfig",
    "AuditLoggerFactory",
    "FlaskAuditMiddleware",
    "setup_compliance_audit_logger",
    "setup_development_audit_logger",
    "setup_fastapi_audit_middleware",
    "setup_production_audit_logger",
]

_INSTEAD = "AuditLogger() logs with what the environment says, and `exai-files audit` shows it"


class AuditConfig:
    """What the later audit logger is told. The key shows in no text of it."""

    def __init__(
        self,
        supabase_url: str,
        supabase_key: str,
        environment: str = "development",
        compliance_standards: list[ComplianceStandard] | None = None,
        retention_days: int = 2555,
        enable_streaming: bool = True,
        enable_security_detection: bool = True,
    ) -> None:
        self.supabase_url = supabase_url
        self.supabase_key = supabase_key
        self.environment = environment
        self.compliance_standards = list(compliance_standards or ())
        self.retention_days = retention_days
        self.enable_streaming = enable_streaming
        self.enable_security_detection = enable_security_detection


class AuditLoggerFactory(NotTakenOver):
    """Made audit loggers."""

    _instead = _INSTEAD


class FlaskAuditMiddleware(NotTakenOver):
    """Logged the requests of a Flask application."""

    _instead = _INSTEAD


async def setup_production_audit_logger() -> object:
    """Made an audit logger.

    Raises:
        NotTakenOverError: Always; so do the others.
    """
    raise NotTakenOverError("setup_production_audit_logger is not taken over", hint=_INSTEAD)


async def setup_compliance_audit_logger(standards: list[ComplianceStandard]) -> object:
    """As `setup_production_audit_logger`."""
    raise NotTakenOverError("setup_compliance_audit_logger is not taken over", hint=_INSTEAD)


async def setup_development_audit_logger() -> object:
    """As `setup_production_audit_logger`."""
    raise NotTakenOverError("setup_development_audit_logger is not taken over", hint=_INSTEAD)


async def setup_fastapi_audit_middleware() -> object:
    """As `setup_production_audit_logger`."""
    raise NotTakenOverError("setup_fastapi_audit_middleware is not taken over", hint=_INSTEAD)
