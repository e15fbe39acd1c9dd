"""Stands in for `src.file_management.exceptions`.

```
FileManagementError (exai_files.Error)
├── FileUploadError
├── FileDownloadError
├── FileDeleteError
├── FileDuplicateError (ConflictError)
├── FileNotFoundError (NotFoundError, and Python's own)
├── FileValidationError (InvalidRequestError, so ValueError)
└── ProviderNotFoundError (InvalidRequestError, so ValueError)
```
"""

from __future__ import annotations

import builtins
import errno
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from exai_files.dropin.tool_error import ToolError
from exai_files.errors import ConflictError, InvalidRequestError, NotFoundError

if TYPE_CHECKING:
    from exai_files.dropin.models import FileReference

__all__ = [
    "FileDeleteError",
    "FileDownloadError",
    "FileDuplicateError",
    "FileManagementError",
    "FileNotFoundError",
    "FileUploadError",
    "FileValidationError",
    "ProviderNotFoundError",
]


class FileManagementError(ToolError):
    """Base of the tool's exceptions of file operations."""

    provider: str | None
    error_code: str | None

    def __init__(self, message: str, provider: str | None = None, error_code: str | None = None) -> None:
        super().__init__(message, provider)
        self.provider = provider
        self.error_code = error_code

    def to_dict(self) -> dict[str, Any]:
        """What is known of it, for a log or an answer."""
        return {
            "error_type": type(self).__name__,
            "message": str(self),
            "provider": self.provider,
            "error_code": self.error_code,
        }


class FileUploadError(FileManagementError):
    """An upload failed.

    Attributes:
        retryable: Whether the same call may do better later.
    """

    def __init__(
        self, message: str, provider: str, error_code: str, retryable: bool = True, file_path: str | None = None
    ) -> None:
        super().__init__(message, provider, error_code)
        self.retryable = retryable
        self.file_path = file_path

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "retryable": self.retryable, "file_path": self.file_path}


class FileDownloadError(FileManagementError):
    """A download failed."""

    def __init__(self, message: str, provider: str, error_code: str, file_ref: FileReference | None = None) -> None:
        super().__init__(message, provider, error_code)
        self.file_ref = file_ref

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), **_reference("file_reference", self.file_ref)}


class FileDeleteError(FileManagementError):
    """A delete failed."""

    def __init__(self, message: str, provider: str, error_code: str, file_ref: FileReference | None = None) -> None:
        super().__init__(message, provider, error_code)
        self.file_ref = file_ref

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), **_reference("file_reference", self.file_ref)}


class FileDuplicateError(FileManagementError, ConflictError):
    """The same content is there already: `.existing_file`."""

    def __init__(self, message: str, existing_file: FileReference) -> None:
        super().__init__(message)
        self.existing_file = existing_file

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), **_reference("existing_file", self.existing_file)}


class FileNotFoundError(FileManagementError, NotFoundError, builtins.FileNotFoundError):
    """There is no such file, here or at the provider. Who catches Python's own catches this one too."""

    errno: int | None = errno.ENOENT
    filename: str | None = None

    def __init__(
        self, file_ref: FileReference | None = None, file_path: str | None = None, provider: str | None = None
    ) -> None:
        wanted = file_ref.internal_id if file_ref else file_path
        super().__init__(
            f"File not found: {wanted}" if wanted else "File not found", file_ref.provider if file_ref else provider
        )
        self.file_ref = file_ref
        self.file_path = self.filename = file_path

    def __reduce__(self) -> tuple[Any, ...]:
        # An OSError is made by its constructor only.
        return type(self), (self.file_ref, self.file_path, self.provider), dict(self.__dict__)

    def to_dict(self) -> dict[str, Any]:
        path = {"file_path": self.file_path} if self.file_path else {}
        return {**super().to_dict(), **_reference("file_reference", self.file_ref), **path}


class FileValidationError(FileManagementError, InvalidRequestError):
    """The file will not do.

    Args:
        message: Why.
        file_path: Which.
        validation_errors: What is wrong with it, by field. The tool's providers say (message, provider, code) instead;
            a text here is taken for that code.
    """

    file_path: str | None
    validation_errors: dict[str, Any]

    def __init__(self, message: str, file_path: str, validation_errors: Mapping[str, Any] | str | None = None) -> None:
        if isinstance(validation_errors, str):
            super().__init__(message, file_path, validation_errors)
            self.file_path, self.validation_errors = None, {}
        else:
            super().__init__(message)
            self.file_path, self.validation_errors = file_path, dict(validation_errors or {})

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "file_path": self.file_path, "validation_errors": self.validation_errors}


class ProviderNotFoundError(FileManagementError, InvalidRequestError):
    """There is no such provider."""

    def __init__(self, provider: str, available_providers: Iterable[str] | None = None) -> None:
        self.available_providers = list(available_providers or ())
        known = f". Available providers: {', '.join(self.available_providers)}" if self.available_providers else ""
        super().__init__(f"Provider not found: {provider}{known}", provider)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "available_providers": self.available_providers}


def _reference(key: str, reference: FileReference | None) -> dict[str, Any]:
    return {key: reference.model_dump()} if reference else {}
