import logging
import os
from datetime import datetime

from prometheus_client import Counter

from src.storage.supabase_client import SupabaseStorageManager

logger = logging.getLogger(__name__)

audit_operations_total = Counter("audit_operations_total", "Operations in the audit trail", ["operation", "status"])


class AuditLogger:
    def __init__(self):
        self.supabase = SupabaseStorageManager()
        self.enabled = os.getenv("AUDIT_ENABLED", "true").lower() == "true"

    async def log_operation(
        self,
        file_id: str,
        operation: str,
        platform: str | None = None,
        status: str = "success",
        error_message: str | None = None,
        duration_ms: int | None = None,
        operation_details: dict | None = None,
    ):
        if not self.enabled:
            return
        audit_operations_total.labels(operation, status).inc()
        row = {"file_id": file_id, "operation": operation, "platform": platform, "status": status}
        row |= {"error_message": error_message, "duration_ms": duration_ms, "operation_details": operation_details}
        try:
            row["created_at"] = datetime.utcnow().isoformat()
            self.supabase.client.table("file_audit_trail").insert(row).execute()
        except Exception as error:
            logger.error("not in the audit trail: %s", error)
