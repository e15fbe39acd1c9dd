"""`src.file_management.mcp_storage_adapter`: files in the tool's own bucket, by its storage manager. Nothing is raised."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from exai_files.dropin.connection import OfTool
from exai_files.dropin.deduplication import HashingService
from exai_files.dropin.files_table import FilesTable
from exai_files.errors import Error, NotFoundError, UnsupportedError

__all__ = ["MCPStorageAdapter", "MCPStorageResult"]

P = ParamSpec("P")

log = logging.getLogger("exai_files.dropin")


@dataclass
class MCPStorageResult:
    """What came of it: `error` says why not."""

    success: bool
    data: Any = None
    error: str | None = None
    metadata: dict[str, Any] | None = None


Verb = Callable[Concatenate["MCPStorageAdapter", P], MCPStorageResult]


def _never_raises(verb: Verb[P]) -> Verb[P]:
    @functools.wraps(verb)
    def run(self: MCPStorageAdapter, /, *args: P.args, **kwargs: P.kwargs) -> MCPStorageResult:
        try:
            return verb(self, *args, **kwargs)
        except Exception as error:
            log.error("%s failed: %s", verb.__qualname__, error)
            return MCPStorageResult(success=False, error=str(error) or type(error).__name__)

    return run


class MCPStorageAdapter(OfTool):
    """The bucket, and the table `files`.

    Attributes:
        project_id: SUPABASE_PROJECT_ID. The tool had somebody's project for a default; here there is none.
    """

    def __init__(self) -> None:
        self.project_id = os.environ.get("SUPABASE_PROJECT_ID", "")

    @_never_raises
    def download_file(self, file_id: str, storage_path: str) -> MCPStorageResult:
        """The bytes, in `data`."""
        data = self._storage().download_file(file_id=file_id)
        if data is None:
            raise NotFoundError(f"Download of {file_id} returned no data")
        about = {"file_id": file_id, "storage_path": storage_path, "size_bytes": len(data)}
        return MCPStorageResult(success=True, data=data, metadata=about)

    @_never_raises
    def upload_file(
        self, file_path: str, original_name: str, mime_type: str = "application/octet-stream"
    ) -> MCPStorageResult:
        """Puts a file into the bucket, under its digest and name; its id is in `data`."""
        digest = HashingService.compute_file_hash(file_path)
        about = {"original_name": original_name, "mime_type": mime_type}
        with Path(file_path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file_id = self._storage().upload_file(file_path=f"{digest}/{original_name}", file_obj=file, **about)
        if file_id is None:
            raise Error(f"Upload of {original_name} returned no file ID")
        about |= {"file_id": file_id, "sha256": digest}
        return MCPStorageResult(success=True, data=file_id, metadata={**about, "size_bytes": size})

    @_never_raises
    def delete_file(self, file_id: str, storage_path: str) -> MCPStorageResult:
        """Takes a file out of the bucket, and its row with it."""
        if not self._storage().delete_file(file_id=file_id):
            raise Error(f"Deletion of {file_id} failed")
        return MCPStorageResult(success=True, metadata={"file_id": file_id, "storage_path": storage_path})

    @_never_raises
    def execute_sql(self, query: str, params: dict[str, Any] | None = None) -> MCPStorageResult:
        """Fails: the storage manager runs no SQL. The tool ran none either, and said that it had."""
        error = "nothing was run: the tool's storage manager takes no SQL"
        return MCPStorageResult(success=False, error=error, metadata={"query": query, "params": params})

    @_never_raises
    def update_file_hash(self, file_id: str, sha256_hash: str) -> MCPStorageResult:
        """Sets `files.sha256`."""
        table = FilesTable.of(self._storage())
        if table is None or not table.note_digest(file_id, sha256_hash):
            raise NotFoundError(f"File {file_id} not found in database")
        return MCPStorageResult(success=True, metadata={"file_id": file_id, "sha256": sha256_hash})

    def _storage(self) -> Any:
        storage = self.supabase
        if storage is None:
            raise UnsupportedError("there is no src.storage.supabase_client: files cannot be kept in its bucket")
        return storage
