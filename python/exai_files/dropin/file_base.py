"""Stands in for `src.providers.file_base`: what a provider of files has to do, and its records."""

from __future__ import annotations

import mimetypes
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from exai_files import errors
from exai_files.dropin.tool_error import ToolError

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "BaseFileProvider",
    "ConcurrencyError",
    "DeleteError",
    "DownloadError",
    "FileErrorCode",
    "FileMetadata",
    "FileOperationError",
    "FilePurpose",
    "UploadError",
    "UploadProgress",
    "UploadResult",
]


class FilePurpose(Enum):
    """What a file is for. `exai_files.dropin.purposes` says what each platform makes of it."""

    FILE_EXTRACT = "file-extract"
    AGENT = "agent"
    ASSISTANTS = "assistants"
    TRAINING = "training"
    CUSTOM = "custom"


class FileErrorCode(Enum):
    """What went wrong."""

    FILE_NOT_FOUND = "FILE_NOT_FOUND"
    UPLOAD_FAILED = "UPLOAD_FAILED"
    DOWNLOAD_FAILED = "DOWNLOAD_FAILED"
    DELETE_FAILED = "DELETE_FAILED"
    LIST_FAILED = "LIST_FAILED"
    INVALID_FILE_PATH = "INVALID_FILE_PATH"
    FILE_TOO_LARGE = "FILE_TOO_LARGE"
    CONCURRENT_UPLOAD = "CONCURRENT_UPLOAD"
    NETWORK_ERROR = "NETWORK_ERROR"
    AUTHENTICATION_ERROR = "AUTHENTICATION_ERROR"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    PROVIDER_ERROR = "PROVIDER_ERROR"
    UNSUPPORTED_OPERATION = "UNSUPPORTED_OPERATION"


@dataclass
class FileMetadata:
    """A file at a provider."""

    file_id: str
    filename: str
    size_bytes: int
    mime_type: str
    purpose: FilePurpose
    provider: str
    created_at: datetime
    updated_at: datetime | None = None
    checksum_sha256: str | None = None
    custom_metadata: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the purpose as text, times in ISO 8601."""
        times = {"created_at": self.created_at.isoformat()}
        if self.updated_at:
            times["updated_at"] = self.updated_at.isoformat()
        return {**asdict(self), "purpose": self.purpose.value, **times}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FileMetadata:
        """From what `to_dict` gives."""
        times = {name: datetime.fromisoformat(data[name]) for name in ("created_at", "updated_at") if data.get(name)}
        return cls(**{**data, "purpose": FilePurpose(data["purpose"]), **times})


@dataclass
class UploadProgress:
    """How far an upload is."""

    file_id: str | None
    bytes_uploaded: int
    total_bytes: int
    chunk_number: int | None = None
    total_chunks: int | None = None

    @property
    def percentage(self) -> float:
        """From 0 to 100; 0 for an empty file."""
        return self.bytes_uploaded / self.total_bytes * 100 if self.total_bytes else 0.0


@dataclass
class UploadResult:
    """What came of an upload."""

    file_id: str
    metadata: FileMetadata
    chunks_uploaded: int | None = None
    total_chunks: int | None = None
    upload_duration_seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "metadata": self.metadata.to_dict()}


class FileOperationError(ToolError):
    """Base of what a provider raises."""

    def __init__(self, message: str, error_code: FileErrorCode, provider_error: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.error_code = error_code
        self.provider_error = provider_error or {}

    def to_dict(self) -> dict[str, Any]:
        """For a log or an answer."""
        return {
            "message": self.message,
            "error_code": self.error_code.value,
            "provider_error": self.provider_error,
        }


class UploadError(FileOperationError):
    """An upload failed."""


class DownloadError(FileOperationError):
    """A download failed."""


class DeleteError(FileOperationError):
    """A delete failed."""


class ConcurrencyError(FileOperationError, errors.ConflictError):
    """Another operation has the file."""


# The first that fits counts.
_CODES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], FileErrorCode], ...] = (
    ((FileNotFoundError, errors.NotFoundError), FileErrorCode.FILE_NOT_FOUND),
    (errors.FileTooLargeError, FileErrorCode.FILE_TOO_LARGE),
    (errors.UnsupportedError, FileErrorCode.UNSUPPORTED_OPERATION),
    ((errors.QuotaExceededError, errors.BillingError), FileErrorCode.QUOTA_EXCEEDED),
    ((errors.AuthenticationError, errors.PermissionDeniedError), FileErrorCode.AUTHENTICATION_ERROR),
    (errors.ConflictError, FileErrorCode.CONCURRENT_UPLOAD),
    ((errors.PlatformUnavailableError, TimeoutError, ConnectionError), FileErrorCode.NETWORK_ERROR),
    (PermissionError, FileErrorCode.INVALID_FILE_PATH),
)


class BaseFileProvider(ABC):
    """A provider of files, to be derived from.

    Args:
        provider_name: "kimi", "glm" or another.
    """

    def __init__(self, provider_name: str) -> None:
        self.provider_name = provider_name
        self.default_chunk_size = 50 * 1024 * 1024
        self._upload_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @abstractmethod
    async def upload_file(
        self,
        file_path: str,
        purpose: FilePurpose = FilePurpose.FILE_EXTRACT,
        chunk_size: int | None = None,
        progress_callback: Callable[[UploadProgress], None] | None = None,
        **provider_kwargs: Any,
    ) -> UploadResult:
        """Upload a file.

        Raises:
            UploadError: It failed.
        """

    @abstractmethod
    async def download_file(
        self, file_id: str, local_path: str, progress_callback: Callable[[UploadProgress], None] | None = None
    ) -> FileMetadata:
        """Download a file.

        Raises:
            DownloadError: It failed.
        """

    @abstractmethod
    async def delete_file(self, file_id: str) -> bool:
        """Delete a file.

        Raises:
            DeleteError: It failed.
        """

    @abstractmethod
    async def list_files(
        self, purpose: FilePurpose | None = None, limit: int | None = None, offset: int | None = None
    ) -> list[FileMetadata]:
        """The provider's files.

        Raises:
            FileOperationError: It failed.
        """

    @abstractmethod
    async def get_file_metadata(self, file_id: str) -> FileMetadata:
        """One of them.

        Raises:
            FileOperationError: It failed.
        """

    async def _get_upload_lock(self, file_path: str) -> asyncio.Lock:
        """The lock of a path, kept for as long as anyone has it."""
        import asyncio

        return self._upload_locks.setdefault(file_path, asyncio.Lock())

    def _should_chunk_upload(self, file_size: int, chunk_threshold: int | None = None) -> bool:
        return file_size > (chunk_threshold or self.default_chunk_size)

    def _calculate_checksum(self, file_path: str) -> str:
        import hashlib

        digest = hashlib.sha256()
        with open(file_path, "rb", buffering=0) as file:  # noqa: PTH123
            while piece := file.read(1 << 20):
                digest.update(piece)
        return digest.hexdigest()

    def _get_mime_type(self, file_path: str) -> str:
        return mimetypes.guess_type(file_path)[0] or "application/octet-stream"

    def _handle_provider_error(self, error: Exception, operation: str) -> FileOperationError:
        """What went wrong at the provider, as a provider says it."""
        code = next((code for kinds, code in _CODES if isinstance(error, kinds)), FileErrorCode.PROVIDER_ERROR)
        details = {"original_error": str(error), "error_type": type(error).__name__}
        return FileOperationError(f"{operation} failed: {error}", code, details)
