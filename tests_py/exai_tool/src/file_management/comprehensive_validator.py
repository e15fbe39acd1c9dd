import hashlib
import mimetypes
from pathlib import Path

BLOCKED = {".exe", ".bat", ".sh", ".ps1", ".js", ".jar"}


class FileValidationError(Exception):
    def __init__(self, message, error_code="VALIDATION_ERROR"):
        super().__init__(message)
        self.error_code = error_code


class ComprehensiveFileValidator:
    def __init__(self, max_file_size=512 * 1024 * 1024, allowed_mime_types=None, blocked_extensions=None):
        self.max_file_size, self.allowed_mime_types = max_file_size, allowed_mime_types
        self.blocked_extensions = blocked_extensions or BLOCKED

    async def validate(self, file_path):
        path = Path(file_path)
        if not path.exists():
            raise FileValidationError(f"File not found: {file_path}", "FILE_NOT_FOUND")
        if path.suffix.lower() in self.blocked_extensions:
            raise FileValidationError(f"Blocked extension: {path.suffix}", "BLOCKED_EXTENSION")
        size = path.stat().st_size
        if size > self.max_file_size:
            raise FileValidationError(f"File too large: {size}", "FILE_TOO_LARGE")
        metadata = {"size": size, "extension": path.suffix.lower(), "mime_type": mimetypes.guess_type(path.name)[0]}
        metadata["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        return {"path": str(file_path), "valid": True, "errors": [], "metadata": metadata}


def get_file_validator():
    return ComprehensiveFileValidator()


async def validate_file(file_path):
    return await get_file_validator().validate(file_path)
