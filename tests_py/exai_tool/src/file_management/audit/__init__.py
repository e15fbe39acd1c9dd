from .audit_logger import AuditLogger

__all__ = ["AuditLogger"]
