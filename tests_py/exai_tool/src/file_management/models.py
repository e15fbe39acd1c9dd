from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator


class FileReference(BaseModel):
    model_config = ConfigDict(validate_assignment=True)

    internal_id: str
    provider_id: str
    provider: str = Field(pattern="^(kimi|glm|local|supabase)$")
    file_hash: str = Field(min_length=64, max_length=64)
    size: int = Field(gt=0)
    mime_type: str
    original_name: str
    created_at: datetime | None = None
    accessed_at: datetime | None = None
    metadata: dict[str, Any] | None = {}

    @field_validator("internal_id")
    @classmethod
    def _uuid(cls, value):
        return str(UUID(value))

    @field_validator("file_hash", "mime_type")
    @classmethod
    def _lower(cls, value):
        return value.lower()

    def to_supabase_dict(self):
        row = self.model_dump(include={"provider", "mime_type", "original_name", "metadata"})
        row |= {"id": self.internal_id, "provider_file_id": self.provider_id, "sha256": self.file_hash}
        return row | {"size_bytes": self.size, "created_at": self.created_at, "accessed_at": self.accessed_at}

    @classmethod
    def from_supabase_dict(cls, row):
        names = {"id": "internal_id", "provider_file_id": "provider_id", "sha256": "file_hash", "size_bytes": "size"}
        return cls(**{names.get(name, name): value for name, value in row.items()})


class FileUploadMetadata(BaseModel):
    purpose: str = "file-extract"
    context_id: str | None = None
    user_id: str | None = None
    tags: list[str] = []
    custom_metadata: dict[str, Any] = {}


class FileOperationResult(BaseModel):
    success: bool
    file_reference: FileReference | None = None
    error: str | None = None
    operation_id: str | None = None
    duration_ms: float | None = None
