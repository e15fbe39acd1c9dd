"""`src.file_management.health`: whether a platform still has a file. It is asked."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from exai_files.dropin.connection import OfTool, connected, forgiving
from exai_files.dropin.later.health import *  # noqa: F403
from exai_files.dropin.later.health import __all__ as _later
from exai_files.errors import Error, NotFoundError, PlatformTimeoutError

if TYPE_CHECKING:
    from exai_files.async_client import AsyncClient

__all__ = ["HealthChecker", *_later]

_UNUSABLE = ("error", "failed", "deleted")
"""Words of platforms for files that they cannot give."""


class HealthChecker(OfTool):
    """Looks at files, and notes what it saw in `file_health_checks`."""

    @forgiving(False)
    async def check_file_health(self, registry_id: str, platform: str, platform_file_id: str) -> bool:
        """Asks the platform for a file.

        Args:
            registry_id: Of its row in `platform_file_registry`.

        Returns:
            Whether it is there and usable; False also when it could not be asked or noted, which is logged.
        """
        there = await connected()
        seen = await _look(there.client, platform, platform_file_id)
        await there.rows.note_health({"registry_id": registry_id, **seen})
        return bool(seen["status"] == "healthy")


async def _look(client: AsyncClient, platform: str, remote_id: str) -> dict[str, Any]:
    begun = monotonic()
    seen: dict[str, Any] = {"status": "healthy"}
    try:
        file = await client.get_remote(platform, remote_id)
        if file.status in _UNUSABLE:
            seen = {"status": "unhealthy", "error_message": file.status_details or file.status}
    except Error as error:
        kinds = {NotFoundError: "unhealthy", PlatformTimeoutError: "timeout"}
        status = next((word for kind, word in kinds.items() if isinstance(error, kind)), "error")
        seen = {"status": status, "error_message": str(error), "error_code": error.code or type(error).__name__}
        seen["http_status_code"] = error.status
    return {**seen, "response_time_ms": round((monotonic() - begun) * 1000)}
