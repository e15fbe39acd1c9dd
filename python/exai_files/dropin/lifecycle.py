"""`src.file_management.lifecycle`: whether a file is on its platform as the tool believes. The platform is asked.

The later versions' `LifecycleSync(config)` watches local folders, and is not here; `exai_files.Client.lifecycle` has rules.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from exai_files.dropin.connection import Connection, OfTool, connected, forgiving
from exai_files.dropin.later.lifecycle import *  # noqa: F403
from exai_files.dropin.later.lifecycle import __all__ as _later
from exai_files.dropin.rows import provider_of, timestamp
from exai_files.errors import Error, NotFoundError, UnsupportedError

__all__ = ["LifecycleSync", *_later]

AGAIN = timedelta(minutes=5)
"""When a file that is not as it should be is to be looked at again."""


class LifecycleSync(OfTool):
    """Compares, and notes it in `file_lifecycle_sync`.

    Args:
        config: Of the later versions.

    Raises:
        UnsupportedError: A configuration was given.
    """

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        if config is not None:
            raise UnsupportedError(
                "LifecycleSync(config), which watches local folders, is not part of the drop-in",
                hint="exai_files.Client().lifecycle applies rules about how long files stay",
            )

    @forgiving(None)
    async def sync_lifecycle(self, file_id: str, platform: str, local_status: str) -> None:
        """Asks the platform for a file, and notes whether it agrees with `local_status` (active, archived, deleted).

        Nothing is deleted or uploaded. What went wrong is logged, and in the row.
        """
        there, provider = await connected(), provider_of(platform)
        status, error = await _asked(there, file_id, provider)
        is_wanted, is_known = local_status != "deleted", status != "unknown"
        is_synced = is_known and is_wanted == (status == "active")
        if is_known and not is_synced:
            error = f"it is {local_status} here, and {status} there"
        earlier = await there.rows.find("file_lifecycle_sync", "file_id", file_id)
        row = {
            "file_id": file_id,
            "platform": provider,
            "local_status": local_status,
            "platform_status": status,
            "sync_status": "synced" if is_synced else "conflict" if is_known else "error",
            "sync_error": error,
            "next_sync_at": None if is_synced else timestamp(datetime.now(timezone.utc) + AGAIN),
            "sync_attempt_count": 1 + _failed_so_far(earlier, provider),
        }
        await there.rows.add("file_lifecycle_sync", row)


async def _asked(there: Connection, file_id: str, provider: str) -> tuple[str, str | None]:
    """What a platform says of a file: "active", "deleted" or "unknown", and why it is not known."""
    copies = [row for row in await there.rows.platforms(file_id) if row["platform"] == provider]
    if not copies:
        return "unknown", f"no copy on {provider} is registered"
    for copy in reversed(copies):
        try:
            await there.client.get_remote(provider, copy["platform_file_id"])
        except NotFoundError:
            continue
        except Error as error:
            return "unknown", str(error)
        return "active", None
    return "deleted", None


def _failed_so_far(rows: list[dict[str, Any]], provider: str) -> int:
    """Rows since it was last as it should be."""
    count = 0
    for row in rows:
        if row["platform"] == provider:
            count = 0 if row["sync_status"] == "synced" else count + 1
    return count
