"""The existing tool's records of a file, as pydantic models. Import them from `exai_files.dropin.models`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_serializer

__all__ = ["FileOperationResult", "FileReference", "FileUploadMetadata"]

_Uuid = Annotated[
    str,
    StringConstraints(
        pattern="^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$", to_lower=True
    ),
]
_Sha256 = Annotated[str, StringConstraints(pattern="^[0-9A-Fa-f]{64}$", to_lower=True)]
_MimeType = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]+/[A-Za-z0-9\-+.]+$", to_lower=True)]


class FileReference(BaseModel):
    """One file at one provider, and what is known of its content.

    Attributes:
        internal_id: The tool's own UUID.
        provider_id: The provider's id.
        file_hash: SHA-256, in hexadecimal.
        size: In bytes. An empty file has no reference.
    """

    model_config = ConfigDict(validate_assignment=True)

    internal_id: _Uuid
    provider_id: str
    provider: Literal["kimi", "glm", "local", "supabase"]
    file_hash: _Sha256
    size: int = Field(gt=0)
    mime_type: _MimeType
    original_name: str
    created_at: datetime | None = None
    accessed_at: datetime | None = None
    metadata: dict[str, Any] | None = Field(default_factory=dict)

    @field_serializer("created_at", "accessed_at", when_used="json-unless-none")
    def _iso(self, time: datetime) -> str:
        return time.isoformat()

    def to_supabase_dict(self) -> dict[str, Any]:
        """The row of the table `files`."""
        return {
            "id": self.internal_id,
            "provider_file_id": self.provider_id,
            "provider": self.provider,
            "sha256": self.file_hash,
            "size_bytes": self.size,
            "mime_type": self.mime_type,
            "original_name": self.original_name,
            "created_at": self.created_at and self.created_at.isoformat(),
            "accessed_at": self.accessed_at and self.accessed_at.isoformat(),
            "metadata": self.metadata,
        }

    @classmethod
    def from_supabase_dict(cls, data: Mapping[str, Any]) -> FileReference:
        """From such a row.

        Raises:
            KeyError: A column is missing that every row has.
            pydantic.ValidationError: A value will not do; also a ValueError.
        """
        return cls(
            internal_id=data["id"],
            provider_id=data["provider_file_id"],
            provider=data["provider"],
            file_hash=data["sha256"],
            size=data["size_bytes"],
            mime_type=data["mime_type"],
            original_name=data["original_name"],
            created_at=data.get("created_at") or None,
            accessed_at=data.get("accessed_at") or None,
            metadata=data.get("metadata", {}),
        )


class FileUploadMetadata(BaseModel):
    """What an upload is for, and for whom."""

    model_config = ConfigDict(validate_assignment=True)

    purpose: str = "file-extract"
    context_id: str | None = None
    user_id: str | None = None
    tags: list[Any] | None = Field(default_factory=list)
    custom_metadata: dict[str, Any] | None = Field(default_factory=dict)


class FileOperationResult(BaseModel):
    """What came of an operation. Keywords it does not know are dropped, as the tool's callers count on."""

    model_config = ConfigDict(validate_assignment=True)

    success: bool
    file_reference: FileReference | None = None
    error: str | None = None
    operation_id: str | None = None
    duration_ms: float | None = None
