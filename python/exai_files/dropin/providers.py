"""`src.file_management.providers`: the tool's providers of files, over the client.

An upload gives a `FileReference` whose `internal_id` is the row of `file_uploads`. Of a file that Moonshot has read, it gives
back only its own reading; that is no download.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from exai_files.dropin import uploading
from exai_files.dropin.connection import Connection, connected
from exai_files.dropin.errors import InvalidPurposeError
from exai_files.dropin.exceptions import FileDeleteError, FileDownloadError, FileNotFoundError, FileUploadError
from exai_files.dropin.purposes import purpose_on
from exai_files.errors import (
    Error,
    FileTooLargeError,
    NotFoundError,
    SourceNotFoundError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from exai_files.dropin.models import FileReference, FileUploadMetadata
    from exai_files.records import FileRecord, Replica

__all__ = ["FileProviderInterface", "GLMFileProvider", "KimiFileProvider"]


class FileProviderInterface(Protocol):
    """What the tool asks of a provider of files."""

    async def upload_file(self, file_path: str, metadata: FileUploadMetadata) -> FileReference: ...
    async def download_file(self, file_ref: FileReference, destination: str) -> bool: ...
    async def delete_file(self, file_ref: FileReference) -> bool: ...
    async def get_file_info(self, file_ref: FileReference) -> dict[str, Any]: ...
    async def list_files(self, limit: int | None = None, offset: int | None = None) -> list[FileReference]: ...
    async def check_file_exists(self, file_hash: str) -> FileReference | None: ...

    @property
    def provider_name(self) -> str: ...
    @property
    def is_available(self) -> bool: ...


class _FileProvider:
    _platform: str
    _name: str
    _keys: tuple[str, ...]

    def __init__(self, provider: Any) -> None:
        if not hasattr(provider, "upload_file"):
            raise ValueError(f"{type(provider).__name__} has no upload_file: it is no model provider")
        self.provider = provider

    @property
    def provider_name(self) -> str:
        """The tool's name of it."""
        return self._name

    @property
    def is_available(self) -> bool:
        """Whether there is a key."""
        return any(os.environ.get(name) for name in self._keys)

    async def upload_file(self, file_path: str, metadata: FileUploadMetadata) -> FileReference:
        """Puts a file there, unless it is there already.

        Raises:
            FileNotFoundError: There is no such local file; also the builtin one.
            FileUploadError: It failed; `error_code` and `retryable` say how.
        """
        there = await connected()
        try:
            meant = purpose_on(self._platform, metadata.purpose)
            with uploading.counted(self._name, metadata.user_id or "system", file_path) as outcome:
                record = await there.client.upload(
                    file_path,
                    to=self._platform,
                    purpose=meant,
                    owner=metadata.user_id,
                    tags=[str(tag) for tag in metadata.tags or ()],
                    metadata=_labels(metadata),
                )
                copy = uploading.copy_of(record, self._platform, meant)
                uploading.note_origin(outcome, copy)
        except SourceNotFoundError as error:
            raise FileNotFoundError(file_path=file_path, provider=self._name) from error
        except (Error, ValueError) as error:
            code = _code(error)
            raise FileUploadError(str(error), self._name, code, code == "UPLOAD_FAILED", file_path) from error
        return await self._reference(there, record, copy, metadata.custom_metadata)

    async def download_file(self, file_ref: FileReference, destination: str) -> bool:
        """Writes a file's bytes to a path.

        Raises:
            FileNotFoundError: The platform does not have it.
            FileDownloadError: It gives none back (DOWNLOAD_NOT_SUPPORTED), or failed (DOWNLOAD_FAILED).
        """
        there = await connected()
        try:
            content = next((copy.content for copy in await self._copies(there, file_ref)), "opaque")
            if content != "bytes":
                raise UnsupportedError(f"{self._name} does not give back the bytes of {file_ref.original_name}")
            await there.client.download(file_ref.provider_id, destination, platform=self._platform)
        except NotFoundError as error:
            raise FileNotFoundError(file_ref=file_ref) from error
        except Error as error:
            code = "DOWNLOAD_NOT_SUPPORTED" if isinstance(error, UnsupportedError) else "DOWNLOAD_FAILED"
            raise FileDownloadError(str(error), self._name, code, file_ref) from error
        return True

    async def delete_file(self, file_ref: FileReference) -> bool:
        """Deletes it there; one that is gone already counts.

        Raises:
            FileDeleteError: It was refused, or failed.
        """
        try:
            await (await connected()).client.delete_remote(self._platform, file_ref.provider_id)
        except NotFoundError:
            return True
        except Error as error:
            raise FileDeleteError(str(error), self._name, "DELETE_FAILED", file_ref) from error
        return True

    async def get_file_info(self, file_ref: FileReference) -> dict[str, Any]:
        """What the platform says of it.

        Raises:
            FileNotFoundError: It does not have it.
            exai_files.Error: It refused or failed.
        """
        try:
            file = await (await connected()).client.get_remote(self._platform, file_ref.provider_id)
        except NotFoundError as error:
            raise FileNotFoundError(file_ref=file_ref) from error
        about = {"size": file.size, "purpose": file.purpose, "status": file.status, "created_at": file.created_at}
        return {"provider_id": file.id, "provider": self._name, "name": file.name, **about}

    async def list_files(self, limit: int | None = None, offset: int | None = None) -> list[FileReference]:
        """Files that the registry knows to be there, newest first."""
        there = await connected()
        # There is no reference to an empty file.
        records = [record async for record in there.client.list(platform=self._platform, larger_than=0)]
        first = offset or 0
        wanted = records[first:] if limit is None else records[first : first + limit]
        return [await self._reference(there, record, self._copy(record)) for record in wanted]

    async def check_file_exists(self, file_hash: str) -> FileReference | None:
        """The file of this SHA-256, if the registry knows it to be there."""
        there = await connected()
        async for record in there.client.list(platform=self._platform, digest=file_hash.lower()):
            return await self._reference(there, record, self._copy(record))
        return None

    async def _copies(self, there: Connection, file_ref: FileReference) -> list[Replica]:
        record = await there.client.get(file_ref.provider_id)
        return [copy for copy in record.replicas if copy.remote_id == file_ref.provider_id]

    def _copy(self, record: FileRecord) -> Replica:
        """Ours, or else what was registered."""
        try:
            return uploading.copy_of(record, self._platform)
        except StopIteration:
            return next(copy for copy in record.replicas if copy.platform == self._platform)

    async def _reference(
        self, there: Connection, record: FileRecord, copy: Replica, metadata: dict[str, Any] | None = None
    ) -> FileReference:
        from exai_files.dropin.models import FileReference

        digest = record.digest.removeprefix("sha256:")
        rows = await there.rows.find("file_uploads", "file_hash", digest)
        return FileReference(
            internal_id=next((row for row in rows if row["filename"] == record.name), rows[0])["id"],
            provider_id=copy.remote_id,
            provider=self._name,  # type: ignore[arg-type]
            file_hash=digest,
            size=record.size,
            mime_type=record.mime,
            original_name=record.name,
            created_at=record.created_at,
            accessed_at=copy.used_at,
            metadata={**record.metadata, **(metadata or {})},
        )


def _labels(metadata: FileUploadMetadata) -> dict[str, Any] | None:
    labels = dict(metadata.custom_metadata or {})
    return {**labels, "context_id": metadata.context_id} if metadata.context_id else labels or None


def _code(error: Exception) -> str:
    """The tool's code for it; UPLOAD_FAILED may go better another time."""
    if isinstance(error, FileTooLargeError):
        return "FILE_TOO_LARGE"
    if isinstance(error, InvalidPurposeError):
        return "INVALID_PURPOSE"
    return "VALIDATION_FAILED" if isinstance(error, ValueError) else "UPLOAD_FAILED"


class KimiFileProvider(_FileProvider):
    """Moonshot.

    Args:
        provider: The tool's `KimiModelProvider`.

    Raises:
        ValueError: It has no `upload_file`.
    """

    _platform, _name, _keys = "moonshot", "kimi", ("KIMI_API_KEY", "MOONSHOT_API_KEY")


class GLMFileProvider(_FileProvider):
    """Z.ai.

    Args:
        provider: The tool's `GLMModelProvider`.

    Raises:
        ValueError: It has no `upload_file`.
    """

    _platform, _name, _keys = "zai", "glm", ("GLM_API_KEY", "ZAI_API_KEY")
