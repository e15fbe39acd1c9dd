"""`src.providers.glm_sdk_fallback`: there is one way to Z.ai, and nothing to fall back from.

What it is called in the results, "http", the tool's callers know.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from exai_files.dropin import uploading
from exai_files.dropin.connection import failed
from exai_files.errors import Error

__all__ = ["GLMSDKFallback", "upload_file_with_fallback"]

_BASE_URL = "https://api.z.ai/api/paas/v4"


@dataclass
class GLMSDKFallback:
    """Uploads by one account.

    Attributes:
        timeout: Seconds.
        max_retries: Without effect: what is retried, and how often, is the configuration's.
    """

    api_key: str = field(repr=False)
    base_url: str = _BASE_URL
    timeout: float = 120.0
    max_retries: int = 3

    def upload_file(self, file_path: str | os.PathLike[str], purpose: str = "file") -> tuple[str | None, str]:
        """Uploads a file, or finds the one that is there; gives its id and the way it took.

        Returns:
            (None, "failed") when the platform or the registry failed, which is logged.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: There is no such purpose, or the file is too large.
        """
        try:
            return uploading.upload("zai", file_path, purpose, self, self.timeout), "http"
        except Error as error:
            if isinstance(error, (FileNotFoundError, ValueError)):
                raise
            failed("GLMSDKFallback.upload_file", error)
            return None, "failed"

    def get_available_methods(self) -> list[str]:
        """The ways there are."""
        return [method for method, is_there in self.health_check().items() if is_there]

    def health_check(self) -> dict[str, bool]:
        """Whether each way is there; nobody is asked. The SDKs are not used."""
        return {"zhipuai": False, "openai": False, "http": bool(self.api_key)}


def upload_file_with_fallback(
    api_key: str,
    file_path: str | os.PathLike[str],
    purpose: str = "file",
    base_url: str = _BASE_URL,
    timeout: float = 120.0,
) -> tuple[str | None, str]:
    """See `GLMSDKFallback.upload_file`."""
    return GLMSDKFallback(api_key, base_url, timeout).upload_file(file_path, purpose)
