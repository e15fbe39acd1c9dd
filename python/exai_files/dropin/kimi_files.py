"""`src.providers.kimi_files`: uploads to Moonshot, each content once.

The purposes that callers and functions disagree about are all understood; see `exai_files.dropin.purposes`.
"""

from __future__ import annotations

from typing import Any

from exai_files.dropin import uploading

__all__ = ["KimiFileProvider", "upload", "upload_file"]


def upload(file_path: str, purpose: str = "file-extract") -> str:
    """By the environment's account. See `upload_file`."""
    return uploading.upload("moonshot", file_path, purpose)


def upload_file(client: Any, file_path: str, purpose: str = "assistants") -> str:
    """Uploads a file, or finds the one that is there; gives its id.

    Args:
        client: An OpenAI client: its key says whose account it is.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: There is no such purpose, or the file is too large.
        exai_files.Error: Moonshot or the registry failed.
    """
    return uploading.upload("moonshot", file_path, purpose, client)


class KimiFileProvider:
    """The same as an object."""

    provider_name = "kimi"

    def __init__(self, client: Any = None) -> None:
        self.client = client

    def upload(self, file_path: str, purpose: str = "file-extract", client: Any = None) -> str:
        """See `upload_file`."""
        return upload_file(client or self.client, file_path, purpose)
