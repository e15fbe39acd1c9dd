import os
from pathlib import Path
from typing import Any

__all__ = ["GLMFileProvider", "upload_file"]


def upload_file(
    sdk_client: Any,
    http_client: Any,
    file_path: str,
    purpose: str = "file",
    use_sdk: bool = False,
    use_fallback_chain: bool = True,
) -> str:
    if purpose != "file":
        raise ValueError(f"Invalid purpose: {purpose!r}")
    if use_fallback_chain and os.getenv("GLM_API_KEY"):
        from src.providers.glm_sdk_fallback import upload_file_with_fallback

        file_id, _ = upload_file_with_fallback(os.environ["GLM_API_KEY"], file_path, purpose)
        if file_id:
            return file_id
    return GLMFileProvider(sdk_client, http_client, use_sdk).upload(file_path, purpose)


class GLMFileProvider:
    def __init__(self, sdk_client: Any = None, http_client: Any = None, use_sdk: bool = False):
        self.sdk_client, self.http_client, self.use_sdk = sdk_client, http_client, use_sdk

    def upload(
        self,
        file_path: str,
        purpose: str = "agent",
        sdk_client: Any = None,
        http_client: Any = None,
        use_sdk: bool | None = None,
    ) -> str:
        path = Path(file_path)
        if not path.exists():
            raise FileNotFoundError(f"File not found: {file_path}")
        client = http_client or self.http_client
        result = client.post_multipart("/files", files={"file": path}, data={"purpose": purpose}, timeout=120)
        file_id = result.get("id") or result.get("data", {}).get("id")
        if not file_id:
            raise RuntimeError("GLM upload did not return an id")
        return file_id
