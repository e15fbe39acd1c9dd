import os

from utils.http_client import HttpClient

from . import glm_files


class GLMModelProvider:
    DEFAULT_BASE_URL = os.getenv("GLM_API_URL", "https://api.z.ai/api/paas/v4")

    def __init__(self, api_key: str, base_url: str | None = None, **kwargs):
        self.api_key, self.base_url = api_key, base_url or self.DEFAULT_BASE_URL
        self.client = HttpClient(self.base_url, api_key)

    def upload_file(self, file_path: str, purpose: str = "agent") -> str:
        """Upload a file to Z.ai; its id."""
        return glm_files.upload_file(sdk_client=None, http_client=self.client, file_path=file_path, purpose=purpose)
