"""`src.file_management.registry`: which platform has which of the tool's files.

The later versions' `FileRegistry(path)` is an index of local files; it is another thing under the same name, and not here.
"""

from __future__ import annotations

from typing import Any

from exai_files.dropin.connection import OfTool, connected, forgiving
from exai_files.dropin.later.registry import *  # noqa: F403
from exai_files.dropin.later.registry import __all__ as _later
from exai_files.dropin.rows import Row, provider_of
from exai_files.errors import UnsupportedError

__all__ = ["FileRegistry", *_later]


class FileRegistry(OfTool):
    """Rows of `platform_file_registry`.

    Args:
        registry_path: Of the later versions' index of local files.

    Raises:
        UnsupportedError: A path was given.
    """

    def __init__(self, registry_path: str | None = None) -> None:
        if registry_path is not None:
            raise UnsupportedError(
                "FileRegistry(path), an index of local files, is not part of the drop-in",
                hint="exai_files.Client(registry=path) knows files by content, and where they are",
            )

    @forgiving(None)
    async def register_file(
        self,
        file_id: str,
        platform: str,
        platform_file_id: str,
        platform_url: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> str | None:
        """Notes that a platform has a file. One that is registered already keeps its row.

        Returns:
            The row's id, which `HealthChecker.check_file_health` takes; None when it failed, which is logged.
        """
        row = {
            "file_id": file_id,
            "platform": provider_of(platform),
            "platform_file_id": platform_file_id,
            "platform_url": platform_url,
            "platform_metadata": metadata or {},
            "status": "active",
        }
        return await (await connected()).rows.add("platform_file_registry", row)

    @forgiving([])
    async def get_file_platforms(self, file_id: str) -> list[Row]:
        """Rows that name this file, and of other files with its bytes; none when it failed, which is logged."""
        return await (await connected()).rows.platforms(file_id)
