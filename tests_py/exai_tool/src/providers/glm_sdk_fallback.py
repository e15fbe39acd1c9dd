from pathlib import Path

from utils.http_client import HttpClient


class GLMSDKFallback:
    def __init__(
        self,
        api_key: str,
        base_url: str = "https://api.z.ai/api/paas/v4",
        timeout: float = 120.0,
        max_retries: int = 3,
    ):
        self.timeout, self._http = timeout, HttpClient(base_url, api_key)

    def upload_file(self, file_path: str, purpose: str = "file"):
        try:
            form = {"files": {"file": Path(file_path)}, "data": {"purpose": purpose}}
            return self._http.post_multipart("/files", **form, timeout=self.timeout).get("id"), "http"
        except Exception:
            return None, "failed"

    def get_available_methods(self) -> list[str]:
        return ["http"]

    def health_check(self) -> dict[str, bool]:
        return {"zhipuai": False, "openai": False, "http": True}


def upload_file_with_fallback(
    api_key: str,
    file_path: str,
    purpose: str = "file",
    base_url: str = "https://api.z.ai/api/paas/v4",
    timeout: float = 120.0,
):
    return GLMSDKFallback(api_key, base_url, timeout).upload_file(file_path, purpose)
