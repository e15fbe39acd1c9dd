"""`src.file_management.audit`: what was done to which file, in `file_audit_trail`.

What our own client does is in its chained log besides (`exai_files.Client.audit`), which nobody can alter quietly.
"""

from __future__ import annotations

import os
from typing import Any

from exai_files.dropin.connection import OfTool, connected, forgiving
from exai_files.dropin.later.audit import *  # noqa: F403
from exai_files.dropin.later.audit import __all__ as _later
from exai_files.dropin.metrics import counter
from exai_files.dropin.rows import provider_of
from exai_files.errors import UnsupportedError

__all__ = ["AuditLogger", "audit_operations_total", *_later]

audit_operations_total = counter(
    "audit_operations_total", "Operations that are in the audit trail.", ["operation", "status"]
)


class AuditLogger(OfTool):
    """Writes the trail.

    Args:
        supabase_url, supabase_key: Of the later versions, whose logger could make no event.

    Attributes:
        enabled: AUDIT_ENABLED, or True.

    Raises:
        UnsupportedError: A URL or a key was given.
    """

    def __init__(self, supabase_url: str | None = None, supabase_key: str | None = None) -> None:
        if supabase_url is not None or supabase_key is not None:
            raise UnsupportedError(
                "AuditLogger(url, key) is not part of the drop-in",
                hint="AuditLogger() writes file_audit_trail; exai_files.Client().audit has a log that cannot be altered",
            )
        self.enabled = os.environ.get("AUDIT_ENABLED", "true").strip().lower() == "true"

    @forgiving(None)
    async def log_operation(
        self,
        file_id: str,
        operation: str,
        platform: str | None = None,
        status: str = "success",
        error_message: str | None = None,
        duration_ms: int | None = None,
        operation_details: dict[str, Any] | None = None,
    ) -> None:
        """Adds a row, and counts it once it is there. What goes wrong is logged."""
        if not self.enabled:
            return
        details = operation_details or {}
        user = details.get("user_id")
        row = {
            "file_id": file_id or None,
            "operation": operation,
            "platform": platform and provider_of(platform),
            "user_id": user if isinstance(user, str) else None,
            "operation_details": details,
            "status": status,
            "error_message": error_message,
            "duration_ms": None if duration_ms is None else round(duration_ms),
        }
        await (await connected()).rows.add("file_audit_trail", row)
        audit_operations_total.labels(operation=operation, status=status).inc()
