"""`src.file_management.manager`: uploads, downloads and deletions, whichever provider they go to.

Which files there are is said by the tool's table `files`, where the storage that is given has a client for it; otherwise by
our registry, through the providers. A digest is of what is in the file now, and none is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from uuid import uuid4

from exai_files.dropin.connection import connected, failed
from exai_files.dropin.deduplication import HashingService
from exai_files.dropin.exceptions import (
    FileDuplicateError,
    FileManagementError,
    FileNotFoundError,
    FileUploadError,
    ProviderNotFoundError,
)
from exai_files.dropin.files_table import FilesTable, reference_of
from exai_files.dropin.recovery import is_temporary
from exai_files.dropin.threads import in_thread
from exai_files.errors import InvalidRequestError

if TYPE_CHECKING:
    from exai_files.dropin.models import FileReference, FileUploadMetadata
    from exai_files.dropin.providers import FileProviderInterface

__all__ = ["UnifiedFileManager"]

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("exai_files.dropin")


class UnifiedFileManager:
    """One way in to several providers.

    Args:
        storage: The tool's storage manager, or None.
        logger: The tool's `FileOperationsLogger`: one line for each operation, when it is over. Another one is told nothing.
        providers: By name.
    """

    def __init__(self, storage: Any, logger: Any, providers: Mapping[str, FileProviderInterface]) -> None:
        self.storage = storage
        self.logger = logger
        self.providers = providers

    async def upload_file_async(
        self,
        file_path: str,
        metadata: FileUploadMetadata | None = None,
        provider: str = "kimi",
        allow_duplicates: bool = False,
    ) -> FileReference:
        """Puts a file on a provider.

        Args:
            allow_duplicates: Also one that is there already. Our providers then give the copy that is there.

        Raises:
            FileDuplicateError: The provider has it already; `.existing_file` is it.
            FileNotFoundError: There is no such file.
            ProviderNotFoundError: There is no such provider.
            FileUploadError: PROVIDER_UNAVAILABLE, METADATA_STORAGE_FAILED, UPLOAD_FAILED, or the provider's own code.
        """
        from exai_files.dropin.models import FileUploadMetadata

        metadata = metadata or FileUploadMetadata()
        with self._logged("upload", file_path, provider, user_id=metadata.user_id) as line:
            there = self._provider(provider)
            path = Path(file_path)
            if not path.is_file():
                raise FileNotFoundError(file_path=file_path, provider=provider)
            line["file_size"] = path.stat().st_size
            if not there.is_available:
                raise FileUploadError(f"Provider {provider} is not available", provider, "PROVIDER_UNAVAILABLE")
            try:
                file = await self._upload(file_path, metadata, provider, there, allow_duplicates)
            except FileManagementError:
                raise
            except Exception as error:
                again = is_temporary(error)
                raise FileUploadError(f"Upload failed: {error}", provider, "UPLOAD_FAILED", again, file_path) from error
            line["file_id"] = file.internal_id
        return file

    async def download_file_async(self, file_ref: FileReference, destination: str) -> bool:
        """Writes a file's bytes to a path.

        Raises:
            ProviderNotFoundError: There is no such provider.
            FileManagementError: The provider's own.
        """
        with self._logged("download", destination, file_ref.provider, file_ref) as line:
            line["success"] = await self._provider(file_ref.provider).download_file(file_ref, destination)
        return bool(line["success"])

    async def delete_file_async(self, file_ref: FileReference) -> bool:
        """Deletes a file at its provider, and notes that.

        Raises:
            ProviderNotFoundError: There is no such provider.
            FileManagementError: The provider's own.
        """
        with self._logged("delete", file_ref.original_name, file_ref.provider, file_ref) as line:
            line["success"] = await self._provider(file_ref.provider).delete_file(file_ref)
            if line["success"]:
                await self._forget(file_ref)
        return bool(line["success"])

    async def reference_async(self, file_id: str) -> FileReference:
        """The file of this id, at one of the providers.

        Raises:
            FileNotFoundError: There is none.
        """
        table = await in_thread(FilesTable.of, self.storage)
        row = await in_thread(table.row, file_id) if table else None
        file = reference_of(row) if row else await self._registered(file_id)
        if file is None:
            raise FileNotFoundError(file_path=file_id)
        return file

    def upload_file(
        self,
        file_path: str,
        metadata: FileUploadMetadata | None = None,
        provider: str = "kimi",
        allow_duplicates: bool = False,
    ) -> FileReference:
        """As `upload_file_async`, for code that waits.

        Raises:
            RuntimeError: There is an event loop, which it would stop.
        """
        return _waited(self.upload_file_async, file_path, metadata, provider, allow_duplicates)

    def download_file(self, file_ref: FileReference, destination: str) -> bool:
        """As `download_file_async`; see `upload_file`."""
        return _waited(self.download_file_async, file_ref, destination)

    def delete_file(self, file_ref: FileReference) -> bool:
        """As `delete_file_async`; see `upload_file`."""
        return _waited(self.delete_file_async, file_ref)

    def get_provider_status(self) -> dict[str, bool]:
        """Which providers are available."""
        return {name: provider.is_available for name, provider in self.providers.items()}

    def list_available_providers(self) -> list[str]:
        """Those that are."""
        return [name for name, is_available in self.get_provider_status().items() if is_available]

    def _provider(self, name: str) -> FileProviderInterface:
        if name not in self.providers:
            raise ProviderNotFoundError(name, self.providers)
        return self.providers[name]

    async def _upload(
        self,
        file_path: str,
        metadata: FileUploadMetadata,
        provider: str,
        there: FileProviderInterface,
        allow_duplicates: bool,
    ) -> FileReference:
        # Before anything is sent: a table that cannot be read now will not be written to afterwards.
        table = await _asked(provider, FilesTable.of, self.storage)
        if not allow_duplicates:
            digest = await in_thread(HashingService.compute_file_hash, file_path)
            if table is None:
                existing = await there.check_file_exists(digest)
            else:
                row = await _asked(provider, table.with_digest, digest)
                existing = reference_of(row) if row and row["provider"] == provider else None
            if existing is not None:
                raise FileDuplicateError(f"File already exists: {existing.internal_id}", existing)
        file = await there.upload_file(file_path, metadata)
        if table is None:
            return file
        try:
            file_id = await _asked(provider, table.note, file)
        except FileUploadError:
            await _take_back(there, file)
            raise
        return file.model_copy(update={"internal_id": file_id})

    async def _registered(self, file_id: str) -> FileReference | None:
        """By our registry."""
        try:
            rows = await (await connected()).rows.find("file_uploads", "id", file_id)
        except InvalidRequestError:  # it is no UUID
            return None
        for row in rows:
            for provider in self.providers.values():
                file = await provider.check_file_exists(row["file_hash"])
                if file is not None:
                    return file
        return None

    async def _forget(self, file: FileReference) -> None:
        try:
            table = await in_thread(FilesTable.of, self.storage)
            if table is not None:
                await in_thread(table.forget, file)
        except Exception as error:
            failed("UnifiedFileManager.delete_file_async", error)

    @contextmanager
    def _logged(
        self, what: str, path: str, provider: str, file: FileReference | None = None, user_id: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """One line in the tool's log, whatever comes of it."""
        line: dict[str, Any] = {"file_path": path, "file_size": 0, "user_id": user_id, "provider": provider}
        line |= {"success": True, "operation_id": str(uuid4())}
        if file is not None:
            line |= {"file_size": file.size, "file_id": file.internal_id}
        begun = monotonic()
        try:
            yield line
        except FileDuplicateError as error:
            line |= {"file_id": error.existing_file.internal_id, "duplicate": True}
            raise
        except BaseException as error:
            line |= {"success": False, "error": str(error) or type(error).__name__}
            raise
        finally:
            self._write(what, {**line, "duration_ms": (monotonic() - begun) * 1000})

    def _write(self, what: str, line: dict[str, Any]) -> None:
        write = getattr(self.logger, f"log_{what}", None)
        try:
            if write is not None:
                write(**line)
        except Exception as error:
            log.warning("the tool's log took no line: %s", error)


async def _asked(provider: str, question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return await in_thread(question, *args, **kwargs)
    except Exception as error:
        raise FileUploadError(f"the table of files failed: {error}", provider, "METADATA_STORAGE_FAILED") from error


async def _take_back(there: FileProviderInterface, file: FileReference) -> None:
    """Deletes a file that nobody would know of. One that our registry knows is found by the next upload, and stays."""
    try:
        if await there.check_file_exists(file.file_hash) is None:
            await there.delete_file(file)
    except Exception as error:
        log.error("%s %s is left behind: %s", file.provider, file.provider_id, error)


def _waited(verb: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(verb(*args, **kwargs))
    name = verb.__name__
    raise RuntimeError(f"Cannot call {name.removesuffix('_async')}() from async context. Use {name}() instead.")
