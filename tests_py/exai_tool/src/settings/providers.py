"""Kimi, GLM, and what finds things for them."""

import os

from .base import BaseConfig, env_bool, env_float, env_int, first_of

MIB = 1024 * 1024
DEFAULT_KIMI_URL = "https://api.moonshot.ai/v1"


def api_key(provider):
    return os.getenv(f"{provider}_API_KEY", "")


def kimi():
    return {
        "api_key": api_key("KIMI"),
        "base_url": os.getenv("KIMI_BASE_URL", DEFAULT_KIMI_URL),
        "model": os.getenv("KIMI_DEFAULT_MODEL", "kimi-k2-0905-preview"),
        "max_header": env_int("KIMI_MAX_HEADER_LEN", 4096),
    }


def glm():
    return {
        "api_key": first_of("GLM_API_KEY", "ZHIPUAI_API_KEY", default=""),
        "base_url": os.getenv("GLM_BASE_URL", "https://api.z.ai/api/paas/v4"),
        "upload_url": first_of("GLM_API_URL", "ZHIPUAI_API_URL", default="https://api.z.ai/api/paas/v4"),
        "model": os.environ.get("GLM_DEFAULT_MODEL", "glm-4.5-flash"),
        "speed_model": os.environ.get("GLM_SPEED_MODEL", "glm-4.5-air"),
    }


def glm_sdk():
    return os.getenv("GLM_BASE_URL", "https://open.bigmodel.cn/api/paas/v4")


def kimi_http():
    return os.getenv("KIMI_API_URL") or os.getenv("KIMI_BASE_URL") or DEFAULT_KIMI_URL


class KimiFilesConfig(BaseConfig):
    MAX_SIZE = BaseConfig.get_int("KIMI_FILES_MAX_SIZE_MB", 20) * MIB
    MAX_COUNT = BaseConfig.get_int("KIMI_FILES_MAX_COUNT", 0)
    PARALLEL_UPLOADS = BaseConfig.get_bool("KIMI_FILES_PARALLEL_UPLOADS", True)
    MAX_PARALLEL = BaseConfig.get_int("KIMI_FILES_MAX_PARALLEL", 3)
    UPLOAD_TIMEOUT = BaseConfig.get_float("KIMI_FILES_UPLOAD_TIMEOUT_SECS", 90)
    ON_OVERSIZE = BaseConfig.get_str("KIMI_FILES_BEHAVIOR_ON_OVERSIZE", "skip")
    CHAT_TIMEOUT = BaseConfig.get_float("KIMI_MF_CHAT_TIMEOUT_SECS", 80)


KIMI_MODELS = {
    "fast": os.getenv("KIMI_SPEED_MODEL", "kimi-k2-turbo-preview"),
    "good": os.getenv("KIMI_QUALITY_MODEL", "kimi-k2-0905-preview"),
}


def kimi_fallback():
    return [os.getenv("KIMI_SPEED_MODEL", "moonshot-v1-8k"), os.getenv("KIMI_QUALITY_MODEL", "kimi-thinking-preview")]


def chat_model():
    return os.getenv("KIMI_DEFAULT_MODEL", "moonshot-v1-128k")


CACHE_TTL = int(os.getenv("KIMI_CACHE_TOKEN_TTL_SECS", "180"))
CACHE_SIZE = int(os.getenv("KIMI_CACHE_TOKEN_LRU_MAX", "256"))
IS_LOGGED = os.getenv("AGENTIC_ENABLE_LOGGING", "true").lower() == "true"

EMBEDDINGS = dict(
    provider=os.getenv("EMBEDDINGS_PROVIDER", "external").strip().lower(),
    kimi_model=os.getenv("KIMI_EMBED_MODEL", "text-embedding-3-large"),
    glm_model=os.getenv("GLM_EMBED_MODEL", "embedding-3"),
    timeout=env_float("EMBEDDINGS_TIMEOUT_SECS", 30),
)

WEB_SEARCH = {
    "kimi": env_bool("KIMI_ENABLE_INTERNET_SEARCH", True),
    "enabled": env_bool("EX_WEBSEARCH_ENABLED", True),
    "results": env_int("WEB_SEARCH_MAX_RESULTS", 5),
    "timeout": env_int("WEB_SEARCH_TIMEOUT_SECS", 20),
}


def streams(provider: str) -> bool:
    name = provider.upper() + "_STREAM_ENABLED"
    return env_bool(name, False)


STREAMS = [streams("kimi"), streams("glm")]
STREAM_TIMEOUTS = {"kimi": env_int("KIMI_STREAM_TIMEOUT", 600), "glm": env_int("GLM_STREAM_TIMEOUT", 300)}
TOOL_STREAM = env_bool("GLM_TOOL_STREAM_ENABLED", True)
CHUNK_TIMEOUT = env_float("STREAM_CHUNK_TIMEOUT_SECS", 30.0)
STREAM_HEARTBEAT = env_float("STREAM_HEARTBEAT_SECS", 5.0)
STREAM_BUFFER = int(os.environ.get("EXAI_STREAM_BUFFER_SIZE", 64 * 1024))
CHAT_TIMEOUTS = (
    float(os.getenv("KIMI_CHAT_TOOL_TIMEOUT_SECS", "180")),
    float(os.getenv("KIMI_CHAT_TOOL_TIMEOUT_WEB_SECS", "300")),
)
