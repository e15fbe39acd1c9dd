"""Stands in for `src.file_management.errors`: the standard errors, their codes, and the HTTP answers they become."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from exai_files import errors
from exai_files.dropin.tool_error import ToolError

__all__ = [
    "ERROR_CODE_TO_EXCEPTION",
    "ErrorDetail",
    "FileLockError",
    "FileUploadErrorCode",
    "FileValidationError",
    "InvalidPurposeError",
    "ProviderUnavailableError",
    "QuotaExceededError",
    "StandardizedFileUploadError",
    "create_error_from_code",
]


class FileUploadErrorCode(Enum):
    """What went wrong: 1xxx the file, 2xxx the user, 3xxx the provider, 4xxx locks, 5xxx our store, 9xxx the rest."""

    VALIDATION_FAILED = "1001"
    INVALID_FILE_TYPE = "1002"
    FILE_TOO_LARGE = "1003"
    FILE_NOT_FOUND = "1004"
    INVALID_PATH = "1005"
    MALICIOUS_FILE = "1006"
    INVALID_EXTENSION = "1007"
    UNAUTHORIZED = "2001"
    INVALID_TOKEN = "2002"
    TOKEN_EXPIRED = "2003"
    QUOTA_EXCEEDED = "2004"
    PERMISSION_DENIED = "2005"
    PROVIDER_ERROR = "3001"
    PROVIDER_UNAVAILABLE = "3002"
    CIRCUIT_BREAKER_OPEN = "3003"
    ALL_PROVIDERS_UNAVAILABLE = "3004"
    INVALID_PURPOSE = "3005"
    UPLOAD_FAILED = "3006"
    DELETE_FAILED = "3007"
    FILE_LOCKED = "4001"
    LOCK_TIMEOUT = "4002"
    CONCURRENT_UPLOAD = "4003"
    STORAGE_ERROR = "5001"
    SUPABASE_ERROR = "5002"
    DATABASE_ERROR = "5003"
    UNEXPECTED_ERROR = "9001"
    CONFIGURATION_ERROR = "9002"
    NETWORK_ERROR = "9003"


_HTTP_STATUS = {
    FileUploadErrorCode.VALIDATION_FAILED: 400,
    FileUploadErrorCode.INVALID_FILE_TYPE: 400,
    FileUploadErrorCode.FILE_TOO_LARGE: 400,
    FileUploadErrorCode.FILE_NOT_FOUND: 404,
    FileUploadErrorCode.INVALID_PATH: 400,
    FileUploadErrorCode.MALICIOUS_FILE: 400,
    FileUploadErrorCode.INVALID_EXTENSION: 400,
    FileUploadErrorCode.UNAUTHORIZED: 401,
    FileUploadErrorCode.INVALID_TOKEN: 401,
    FileUploadErrorCode.TOKEN_EXPIRED: 401,
    FileUploadErrorCode.QUOTA_EXCEEDED: 403,
    FileUploadErrorCode.PERMISSION_DENIED: 403,
    FileUploadErrorCode.PROVIDER_ERROR: 502,
    FileUploadErrorCode.PROVIDER_UNAVAILABLE: 503,
    FileUploadErrorCode.CIRCUIT_BREAKER_OPEN: 503,
    FileUploadErrorCode.ALL_PROVIDERS_UNAVAILABLE: 503,
    FileUploadErrorCode.INVALID_PURPOSE: 400,
    FileUploadErrorCode.UPLOAD_FAILED: 502,
    FileUploadErrorCode.DELETE_FAILED: 502,
    FileUploadErrorCode.FILE_LOCKED: 423,
    FileUploadErrorCode.LOCK_TIMEOUT: 408,
    FileUploadErrorCode.CONCURRENT_UPLOAD: 409,
    FileUploadErrorCode.STORAGE_ERROR: 500,
    FileUploadErrorCode.SUPABASE_ERROR: 500,
    FileUploadErrorCode.DATABASE_ERROR: 500,
    FileUploadErrorCode.UNEXPECTED_ERROR: 500,
    FileUploadErrorCode.CONFIGURATION_ERROR: 500,
    FileUploadErrorCode.NETWORK_ERROR: 502,
}


@dataclass
class ErrorDetail:
    """Everything that is known of an error."""

    code: FileUploadErrorCode
    message: str
    provider: str | None = None
    file_path: str | None = None
    user_id: str | None = None
    metadata: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """For a log or an answer."""
        return {
            "error_code": self.code.value,
            "error_name": self.code.name,
            "message": self.message,
            "provider": self.provider,
            "file_path": self.file_path,
            "user_id": self.user_id,
            "metadata": self.metadata or {},
        }

    def to_http_response(self) -> tuple[int, dict[str, Any]]:
        """The status of the answer, and its body."""
        return _HTTP_STATUS[self.code], {"success": False, "error": self.to_dict()}


class StandardizedFileUploadError(ToolError):
    """Base of the standard errors. Everything about it is in `.detail`."""

    detail: ErrorDetail

    def __init__(
        self,
        code: FileUploadErrorCode,
        message: str,
        provider: str | None = None,
        file_path: str | None = None,
        user_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, provider)
        self.detail = ErrorDetail(code, message, provider, file_path, user_id, metadata)

    def to_dict(self) -> dict[str, Any]:
        """As `ErrorDetail.to_dict`."""
        return self.detail.to_dict()

    def to_http_response(self) -> tuple[int, dict[str, Any]]:
        """As `ErrorDetail.to_http_response`."""
        return self.detail.to_http_response()


class FileValidationError(StandardizedFileUploadError, errors.InvalidRequestError):
    """The file will not do."""

    def __init__(self, message: str, provider: str | None = None, file_path: str | None = None) -> None:
        super().__init__(FileUploadErrorCode.VALIDATION_FAILED, message, provider=provider, file_path=file_path)


class QuotaExceededError(StandardizedFileUploadError, errors.QuotaExceededError):
    """The user has used up what is theirs."""

    def __init__(self, message: str, user_id: str | None = None) -> None:
        super().__init__(FileUploadErrorCode.QUOTA_EXCEEDED, message, user_id=user_id)


class ProviderUnavailableError(StandardizedFileUploadError, errors.PlatformUnavailableError):
    """The provider is down, overloaded or unreachable."""

    def __init__(self, message: str, provider: str | None = None) -> None:
        super().__init__(FileUploadErrorCode.PROVIDER_UNAVAILABLE, message, provider=provider)


class FileLockError(StandardizedFileUploadError, errors.ConflictError):
    """Another upload of the file is under way."""

    def __init__(self, message: str, file_path: str | None = None) -> None:
        super().__init__(FileUploadErrorCode.FILE_LOCKED, message, file_path=file_path)


class InvalidPurposeError(StandardizedFileUploadError, errors.InvalidRequestError):
    """The provider has no such purpose; also a ValueError, as the tool's upload functions raise."""

    def __init__(self, message: str, provider: str | None = None) -> None:
        super().__init__(FileUploadErrorCode.INVALID_PURPOSE, message, provider=provider)


ERROR_CODE_TO_EXCEPTION: dict[FileUploadErrorCode, type[StandardizedFileUploadError]] = {
    FileUploadErrorCode.VALIDATION_FAILED: FileValidationError,
    FileUploadErrorCode.QUOTA_EXCEEDED: QuotaExceededError,
    FileUploadErrorCode.PROVIDER_UNAVAILABLE: ProviderUnavailableError,
    FileUploadErrorCode.FILE_LOCKED: FileLockError,
    FileUploadErrorCode.INVALID_PURPOSE: InvalidPurposeError,
}


def create_error_from_code(
    code: FileUploadErrorCode,
    message: str,
    **kwargs: Any,
) -> StandardizedFileUploadError:
    """The exception for a code, of the class that the code has, or else of the base.

    Args:
        code: What went wrong.
        message: The same, in words.
        **kwargs: Any of `provider`, `file_path`, `user_id` and `metadata`, whatever the class.

    Raises:
        ValueError: There is no such code.
    """
    code = FileUploadErrorCode(code)
    cls = ERROR_CODE_TO_EXCEPTION.get(code, StandardizedFileUploadError)
    error = cls.__new__(cls)
    StandardizedFileUploadError.__init__(error, code, message, **kwargs)
    return error
