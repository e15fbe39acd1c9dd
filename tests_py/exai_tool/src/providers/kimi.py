import os

from utils.http_client import HttpClient

from . import kimi_files


class KimiModelProvider:
    """Answers with Kimi's models; of them there is nothing here."""

    DEFAULT_BASE_URL = os.getenv("KIMI_API_URL", "https://api.moonshot.ai/v1")

    def __init__(self, api_key: str, base_url: str | None = None, **kwargs):
        self.api_key, self.base_url = api_key, base_url or self.DEFAULT_BASE_URL
        self.client = HttpClient(self.base_url, api_key)

    def upload_file(self, file_path: str, purpose: str = "file-extract") -> str:
        """Upload a file to Moonshot; its id."""
        return kimi_files.upload_file(self.client, file_path, purpose)
