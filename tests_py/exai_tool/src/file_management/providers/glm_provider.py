import os

from src.file_management.exceptions import FileUploadError
from src.file_management.models import FileReference, FileUploadMetadata
from src.file_management.providers.kimi_provider import KimiFileProvider


class GLMFileProvider(KimiFileProvider):
    @property
    def provider_name(self) -> str:
        return "glm"

    @property
    def is_available(self) -> bool:
        return bool(os.getenv("GLM_API_KEY"))

    async def upload_file(self, file_path: str, metadata: FileUploadMetadata) -> FileReference:
        if metadata.purpose != "file":
            raise FileUploadError(f"Invalid purpose: {metadata.purpose}", "glm", "INVALID_PURPOSE", retryable=False)
        return await super().upload_file(file_path, metadata.model_copy(update={"purpose": "assistants"}))
