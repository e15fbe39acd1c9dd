"""`lifecycle`, later version: states, policies and records of a local archive."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from exai_files.dropin.later import NotTakenOver

__all__ = [
    "FileMetadata",
    "FileType",
    "LifecyclePolicy",
    "LifecycleScheduler",
    "LifecycleState",
    "SyncOperation",
    "load_config",
]

_log = logging.getLogger("exai_files.dropin")


class LifecycleState(Enum):
    """Where a file is in its life."""

    UPLOADED = "uploaded"
    PROCESSING = "processing"
    ARCHIVED = "archived"
    DELETED = "deleted"
    BACKUP_PENDING = "backup_pending"
    BACKUP_COMPLETE = "backup_complete"
    EXPIRED = "expired"


class FileType(Enum):
    """What kind of file it is."""

    DOCUMENT = "document"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    ARCHIVE = "archive"
    OTHER = "other"


@dataclass
class LifecyclePolicy:
    """How long files are kept, archived and backed up."""

    name: str
    file_types: list[FileType]
    retention_days: int
    archive_after_days: int
    delete_after_days: int
    backup_frequency_hours: int
    auto_archive: bool
    auto_delete: bool
    versioning_enabled: bool
    max_versions: int


@dataclass
class FileMetadata:
    """A file in the local archive."""

    file_id: str
    file_path: str
    file_name: str
    file_type: FileType
    file_size: int
    created_at: datetime
    modified_at: datetime
    accessed_at: datetime
    state: LifecycleState
    policy_name: str
    checksum: str
    version: int
    parent_id: str | None = None
    backup_path: str | None = None
    archive_path: str | None = None
    expiry_date: datetime | None = None
    last_state_change: datetime | None = None


@dataclass
class SyncOperation:
    """One step of the synchronisation."""

    operation_id: str
    file_id: str
    operation_type: str
    timestamp: datetime
    status: str
    details: str


class LifecycleScheduler(NotTakenOver):
    """Ran the synchronisation at set times."""

    _instead = "`exai-files watch --heal`, or Client.watch, looks after files at set times"


_DEFAULTS: dict[str, Any] = {
    "database_path": "file_registry.db",
    "local_storage_path": "./storage",
    "archive_path": "./archive",
    "backup_path": "./backup",
    "registry_sync_interval": 300,
    "cleanup_interval": 3600,
    "moonshot_api_base": "https://api.moonshot.cn",
    "moonshot_api_key": None,
}


def load_config(config_path: str = "lifecycle_config.json") -> dict[str, Any]:
    """The later version's settings: its defaults, and what a JSON file says instead.

    A file that cannot be read, or holds no object, changes nothing; the log says so.
    """
    try:
        return {**_DEFAULTS, **json.loads(Path(config_path).read_text(encoding="utf-8"))}
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError) as error:
        _log.warning("the lifecycle settings in %s are not used: %s", config_path, error)
    return dict(_DEFAULTS)
