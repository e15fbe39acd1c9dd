"""Hand it a file once, and each AI platform you name has it, exactly once, for as long as you said.

    import exai_files

    with exai_files.Client() as files:
        paper = files.upload("paper.pdf", to=["moonshot", "zai"])
        print(files.text(paper, platform="moonshot"))

`Client` waits and `AsyncClient` awaits; `Simulator` runs both platforms on this machine, without a key. Errors are
drawn as a tree in `exai_files.errors`; the shell has the same verbs as `exai-files`.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING

from exai_files._core import __version__
from exai_files.errors import *  # noqa: F403
from exai_files.errors import __all__ as _errors

if TYPE_CHECKING:
    from exai_files import mcp as mcp
    from exai_files import metrics as metrics
    from exai_files import progress as progress
    from exai_files.async_client import AsyncClient
    from exai_files.audit import AsyncAudit, Audit, AuditFinding, AuditRecord, AuditReport, Checkpoint
    from exai_files.auth import AsyncAuth, Auth, CredentialStatus, DeviceCode
    from exai_files.client import Client
    from exai_files.copies import AsyncCopies, Copies, CopyCheck, CopyCollection
    from exai_files.database import (
        Database,
        DatabaseStatus,
        ImportReport,
        MaintenanceReport,
        RejectedRow,
        SchemaPlan,
        SchemaStep,
    )
    from exai_files.guards import CircuitBreaker, RateLimiter
    from exai_files.health import BreakerHealth, BudgetHealth, FileHealth, PaceHealth, PlatformHealth
    from exai_files.holds import AsyncLease, Hold, Lease, PendingLease
    from exai_files.lifecycle import (
        AsyncLifecycle,
        Departure,
        ErasedReplica,
        Erasure,
        Fate,
        Lifecycle,
        LifecycleStep,
    )
    from exai_files.listing import AsyncListing, Listing
    from exai_files.openai_facade import openai_files
    from exai_files.records import (
        Choice,
        Content,
        Difference,
        Download,
        Eviction,
        FileRecord,
        PlannedTarget,
        PlatformInfo,
        Reconciliation,
        RemoteFile,
        Replica,
        Setting,
        Transfer,
        Unasked,
        UploadPlan,
        WhenFull,
    )
    from exai_files.recovery import AsyncRecovery, PastAttempt, Recovery, RecoveryStep, Unfinished
    from exai_files.simulator import Simulator
    from exai_files.status import AccountStatus, Status
    from exai_files.users import Actor, UserQuota
    from exai_files.watching import AsyncWatch, Hook, Notice, Watch

__all__ = [
    "AccountStatus",
    "Actor",
    "AsyncAudit",
    "AsyncAuth",
    "AsyncClient",
    "AsyncCopies",
    "AsyncLease",
    "AsyncLifecycle",
    "AsyncListing",
    "AsyncRecovery",
    "AsyncWatch",
    "Audit",
    "AuditFinding",
    "AuditRecord",
    "AuditReport",
    "Auth",
    "BreakerHealth",
    "BudgetHealth",
    "Checkpoint",
    "Choice",
    "CircuitBreaker",
    "Client",
    "Content",
    "Copies",
    "CopyCheck",
    "CopyCollection",
    "CredentialStatus",
    "Database",
    "DatabaseStatus",
    "Departure",
    "DeviceCode",
    "Difference",
    "Download",
    "ErasedReplica",
    "Erasure",
    "Eviction",
    "Fate",
    "FileHealth",
    "FileRecord",
    "Hold",
    "Hook",
    "ImportReport",
    "Lease",
    "Lifecycle",
    "LifecycleStep",
    "Listing",
    "MaintenanceReport",
    "Notice",
    "PaceHealth",
    "PastAttempt",
    "PendingLease",
    "PlannedTarget",
    "PlatformHealth",
    "PlatformInfo",
    "RateLimiter",
    "Reconciliation",
    "Recovery",
    "RecoveryStep",
    "RejectedRow",
    "RemoteFile",
    "Replica",
    "SchemaPlan",
    "SchemaStep",
    "Setting",
    "Simulator",
    "Status",
    "Transfer",
    "Unasked",
    "Unfinished",
    "UploadPlan",
    "UserQuota",
    "Watch",
    "WhenFull",
    "__version__",
    "openai_files",
    *_errors,
]

logging.getLogger("exai_files").addHandler(logging.NullHandler())


_MODULES = {
    "AccountStatus": "status",
    "Actor": "users",
    "AsyncAudit": "audit",
    "AsyncAuth": "auth",
    "AsyncClient": "async_client",
    "AsyncCopies": "copies",
    "AsyncLease": "holds",
    "AsyncLifecycle": "lifecycle",
    "AsyncListing": "listing",
    "AsyncRecovery": "recovery",
    "AsyncWatch": "watching",
    "Audit": "audit",
    "AuditFinding": "audit",
    "AuditRecord": "audit",
    "AuditReport": "audit",
    "Auth": "auth",
    "BreakerHealth": "health",
    "BudgetHealth": "health",
    "Checkpoint": "audit",
    "CircuitBreaker": "guards",
    "Client": "client",
    "Copies": "copies",
    "CopyCheck": "copies",
    "CopyCollection": "copies",
    "CredentialStatus": "auth",
    "Database": "database",
    "DatabaseStatus": "database",
    "Departure": "lifecycle",
    "DeviceCode": "auth",
    "ErasedReplica": "lifecycle",
    "Erasure": "lifecycle",
    "Fate": "lifecycle",
    "FileHealth": "health",
    "Hold": "holds",
    "Hook": "watching",
    "ImportReport": "database",
    "Lease": "holds",
    "Lifecycle": "lifecycle",
    "LifecycleStep": "lifecycle",
    "Listing": "listing",
    "MaintenanceReport": "database",
    "Notice": "watching",
    "PaceHealth": "health",
    "PastAttempt": "recovery",
    "PendingLease": "holds",
    "PlatformHealth": "health",
    "RateLimiter": "guards",
    "Recovery": "recovery",
    "RecoveryStep": "recovery",
    "RejectedRow": "database",
    "SchemaPlan": "database",
    "SchemaStep": "database",
    "Simulator": "simulator",
    "Status": "status",
    "Unfinished": "recovery",
    "UserQuota": "users",
    "Watch": "watching",
    "openai_files": "openai_facade",
}

_SUBMODULES = ("mcp", "metrics", "progress")
"""Those that are used as attributes, such as `exai_files.metrics.collector()`."""


def __getattr__(name: str) -> object:
    """Loads what is first asked for only then: asyncio and the records are most of the command's start-up."""
    if name in _SUBMODULES:
        return import_module(f"exai_files.{name}")
    if name in __all__:
        loaded: object = getattr(import_module(f"exai_files.{_MODULES.get(name, 'records')}"), name)
        globals()[name] = loaded
        return loaded
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBMODULES])
