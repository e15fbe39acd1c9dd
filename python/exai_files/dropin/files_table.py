"""The tool's table `files`, through its own Supabase client. All of it waits: call it in a thread."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exai_files.dropin.models import FileReference
    from exai_files.dropin.rows import Row

__all__ = ["FilesTable", "reference_of"]


class FilesTable:
    """Rows of files, one for each content: `sha256` is unique.

    Args:
        client: The tool's raw client.

    Raises:
        Exception: Whatever the client raises.
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    @classmethod
    def of(cls, storage: Any) -> FilesTable | None:
        """That of a storage manager; None where there is none, or it is switched off."""
        if not hasattr(storage, "get_client") or getattr(storage, "enabled", True) is False:
            return None
        return cls(storage.get_client())

    def row(self, file_id: str) -> Row | None:
        """The row of this id."""
        return self._first(self._select().eq("id", file_id))

    def with_digest(self, digest: str) -> Row | None:
        """The row of this SHA-256."""
        return self._first(self._select().eq("sha256", digest))

    def note(self, file: FileReference) -> str:
        """Notes a file; gives the id of its row.

        A content that has a row keeps it, also where it is the tool's own upload to its bucket or another provider's.
        """
        known = self.with_digest(file.file_hash)
        if known is None:
            row = {**file.to_supabase_dict(), "storage_path": _place(file)}
            try:
                self._table().insert({name: value for name, value in row.items() if value is not None}).execute()
            except Exception:
                known = self.with_digest(file.file_hash)
                if known is None:
                    raise
            else:
                return file.internal_id
        if known["provider"] in (None, file.provider):
            where = {"provider": file.provider, "provider_file_id": file.provider_id}
            self._table().update(where).eq("id", known["id"]).execute()
        return str(known["id"])

    def forget(self, file: FileReference) -> None:
        """Takes a file's provider out of its row; the row as well, where nothing else has the file."""
        self._table().delete().eq("storage_path", _place(file)).execute()
        nowhere = {"provider": None, "provider_file_id": None}
        gone = self._table().update(nowhere).eq("provider", file.provider)
        gone.eq("provider_file_id", file.provider_id).execute()

    def note_digest(self, file_id: str, digest: str) -> bool:
        """Says whether there is such a row."""
        return bool(self._table().update({"sha256": digest}).eq("id", file_id).execute().data)

    def without_digest(self, most: int, after: str | None = None) -> list[Row]:
        """Rows that lack one, by id, those after an id."""
        query = self._select().is_("sha256", "null").order("id").limit(most)
        found: list[Row] = (query.gt("id", after) if after else query).execute().data
        return found

    def _table(self) -> Any:
        return self.client.table("files")

    def _select(self) -> Any:
        return self._table().select("*")

    def _first(self, query: Any) -> Row | None:
        return next(iter(query.execute().data or ()), None)


def reference_of(row: Row) -> FileReference | None:
    """The file at its provider; None where the row names none."""
    from exai_files.dropin.models import FileReference

    with suppress(KeyError, ValueError):
        return FileReference.from_supabase_dict(row)
    return None


def _place(file: FileReference) -> str:
    """What stands for the path in the tool's bucket, which a provider's file is not in."""
    return f"{file.provider}:{file.provider_id}"
