"""`src.providers.glm_files`: uploads to Z.ai, each content once, by one way.

The tool tried three SDKs in turn, three times each, and so could leave nine files. `sdk_client`, `http_client` and the
flags only say whose account it is.
"""

from __future__ import annotations

import os
from typing import Any

from exai_files.dropin import uploading
from exai_files.dropin.environment import whole_number

__all__ = ["GLMFileProvider", "upload", "upload_file"]


def upload(file_path: str, purpose: str = "agent") -> str:
    """By the environment's account. See `upload_file`."""
    return uploading.upload("zai", file_path, purpose, timeout=_timeout())


def upload_file(
    sdk_client: Any,
    http_client: Any,
    file_path: str,
    purpose: str = "file",
    use_sdk: bool = False,
    use_fallback_chain: bool = True,
) -> str:
    """Uploads a file, or finds the one that is there; gives its id.

    Args:
        sdk_client, http_client: The first with an `api_key` says whose account it is.
        use_sdk, use_fallback_chain: Without effect: there is one way.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: There is no such purpose, or the file is too large.
        exai_files.Error: Z.ai or the registry failed.
    """
    callers = (caller for caller in (sdk_client, http_client) if getattr(caller, "api_key", None))
    return uploading.upload("zai", file_path, purpose, next(callers, None), _timeout())


def _timeout() -> float | None:
    """Seconds; None where the tool's variables say nothing."""
    names = ("GLM_FILE_UPLOAD_TIMEOUT_SECS", "FILE_UPLOAD_TIMEOUT_SECS")
    name = next((name for name in names if os.environ.get(name, "").strip()), None)
    return float(whole_number(name, 120)) if name else None


class GLMFileProvider:
    """The same as an object."""

    provider_name = "glm"

    def __init__(self, sdk_client: Any = None, http_client: Any = None, use_sdk: bool = False) -> None:
        self.sdk_client, self.http_client, self.use_sdk = sdk_client, http_client, use_sdk

    def upload(
        self,
        file_path: str,
        purpose: str = "agent",
        sdk_client: Any = None,
        http_client: Any = None,
        use_sdk: bool | None = None,
    ) -> str:
        """See `upload_file`."""
        return upload_file(sdk_client or self.sdk_client, http_client or self.http_client, file_path, purpose)
