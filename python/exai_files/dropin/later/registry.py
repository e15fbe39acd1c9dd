"""`registry`, later version: records and paths. `FileRegistry` is in `exai_files.dropin.registry`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

__all__ = ["CrossPlatformPath", "FileMetadata", "FileType"]


class FileType(Enum):
    """What kind of file it is."""

    DOCUMENT = "document"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    ARCHIVE = "archive"
    CODE = "code"
    DATA = "data"
    OTHER = "other"


@dataclass
class FileMetadata:
    """A file in the later version's local registry. Times are ISO 8601 texts."""

    id: str
    name: str
    original_name: str
    path: str
    absolute_path: str
    size: int
    file_type: str
    mime_type: str
    extension: str
    upload_timestamp: str
    modification_timestamp: str
    checksum: str
    parent_directory: str
    is_hidden: bool
    permissions: str
    tags: list[str]
    custom_metadata: dict[str, Any]
    storage_provider: str = "local"
    storage_path: str | None = None
    retrieval_count: int = 0
    last_accessed: str | None = None


class CrossPlatformPath:
    """Paths, with slashes on every system."""

    @staticmethod
    def normalize_path(path: str | Path) -> str:
        """Without "." and "..", and with slashes."""
        return os.path.normpath(path).replace(os.sep, "/")

    @staticmethod
    def get_absolute_path(path: str | Path) -> str:
        """The same, from the root."""
        return os.path.normpath(Path(path).absolute())

    @staticmethod
    def split_path(path: str | Path) -> tuple[str, str]:
        """Directory and name."""
        return os.path.split(CrossPlatformPath.normalize_path(path))

    @staticmethod
    def join_path(*parts: str | Path) -> str:
        """Put together, and normalised."""
        return CrossPlatformPath.normalize_path(Path(*parts))
