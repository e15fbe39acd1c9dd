from dataclasses import dataclass
from enum import Enum


class FileUploadErrorCode(Enum):
    VALIDATION_FAILED = "1001"
    FILE_TOO_LARGE = "1003"
    FILE_NOT_FOUND = "1004"
    QUOTA_EXCEEDED = "2004"
    PROVIDER_UNAVAILABLE = "3002"
    INVALID_PURPOSE = "3005"
    FILE_LOCKED = "4001"
    UNEXPECTED_ERROR = "9001"


STATUS = {"1004": 404, "2004": 403, "3002": 503, "3005": 400, "4001": 423, "1001": 400, "1003": 400}


@dataclass
class ErrorDetail:
    code: FileUploadErrorCode
    message: str

    def to_dict(self):
        return {"code": self.code.value, "message": self.message}

    def to_http_response(self):
        return {"status_code": STATUS.get(self.code.value, 500), "error": self.to_dict()}


class StandardizedFileUploadError(Exception):
    def __init__(self, code, message, provider=None, file_path=None, user_id=None, metadata=None):
        super().__init__(message)
        self.code, self.provider, self.detail = code, provider, ErrorDetail(code, message)


class FileValidationError(StandardizedFileUploadError):
    def __init__(self, message, **more):
        super().__init__(FileUploadErrorCode.VALIDATION_FAILED, message, **more)


ERROR_CODE_TO_EXCEPTION = {FileUploadErrorCode.VALIDATION_FAILED: FileValidationError}


def create_error_from_code(code, message, **kwargs):
    # A fault: of all but one code this makes a TypeError.
    return ERROR_CODE_TO_EXCEPTION.get(code)(message, **kwargs)
