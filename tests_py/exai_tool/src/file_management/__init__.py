"""One way in for all files. Importing it imports the managers, the models and the providers."""

from src.file_management.exceptions import (
    FileDeleteError,
    FileDownloadError,
    FileDuplicateError,
    FileManagementError,
    FileNotFoundError,
    FileUploadError,
    FileValidationError,
    ProviderNotFoundError,
)
from src.file_management.manager import UnifiedFileManager
from src.file_management.models import FileOperationResult, FileReference, FileUploadMetadata
from src.file_management.providers import GLMFileProvider, KimiFileProvider

__all__ = [
    "FileDeleteError",
    "FileDownloadError",
    "FileDuplicateError",
    "FileManagementError",
    "FileNotFoundError",
    "FileOperationResult",
    "FileReference",
    "FileUploadError",
    "FileUploadMetadata",
    "FileValidationError",
    "GLMFileProvider",
    "KimiFileProvider",
    "ProviderNotFoundError",
    "UnifiedFileManager",
]
