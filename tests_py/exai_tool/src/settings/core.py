"""Models, paths and inputs."""

import json
import os

from .base import BaseConfig, env_bool, env_int

DEFAULT_MODEL = os.getenv("DEFAULT_MODEL", "glm-4.5-flash")
ENVIRONMENT = os.environ.get("ENVIRONMENT", "development")
WEB_BROWSING = env_bool("GLM_ENABLE_WEB_BROWSING", True)


class PathConfig(BaseConfig):
    ALLOW_EXTERNAL = BaseConfig.get_bool("EX_ALLOW_EXTERNAL_PATHS", False)
    ALLOW_RELATIVE = BaseConfig.get_bool("EX_ALLOW_RELATIVE_PATHS", True)
    PREFIXES = BaseConfig.get_list("EX_ALLOWED_EXTERNAL_PREFIXES", ["/app"])
    DEBUG_CONVERSION = os.getenv("EX_DEBUG_PATH_CONVERSION", "false").lower() == "true"

    @classmethod
    def drive_mappings(cls):
        try:
            return json.loads(os.environ["EX_DRIVE_MAPPINGS"])
        except (KeyError, ValueError):
            return {}

    @staticmethod
    def allowed_prefixes():
        return os.getenv("EX_ALLOWED_EXTERNAL_PREFIXES", "").split(os.pathsep)


def is_strict():
    return env_bool("SECURE_INPUTS_ENFORCED", True) and env_bool("STRICT_FILE_SIZE_REJECTION")


MAX_OUTPUT_TOKENS = {
    "default": env_int("DEFAULT_MAX_OUTPUT_TOKENS", 4096),
    "kimi": env_int("KIMI_MAX_OUTPUT_TOKENS", 16384),
    "glm": env_int("GLM_MAX_OUTPUT_TOKENS", 8192),
}
ENFORCE_MAX_TOKENS = os.getenv("ENFORCE_MAX_TOKENS", "true").strip().lower() in ("true", "1", "yes", "on")
TEST_FILES_DIR = os.environ.get("TEST_FILES_DIR") or "./test_files"
IS_ASYNC = env_bool("USE_ASYNC_PROVIDERS")
TOOL_CALL_MAX_SIZE = int(os.getenv("TOOL_CALL_MAX_SIZE", str(10 * 1024 * 1024)))


class ExpertConfig(BaseConfig):
    ENABLED = BaseConfig.get_bool("EXPERT_ANALYSIS_ENABLED", True)
    THINKING_MODE = BaseConfig.get_str("EXPERT_ANALYSIS_THINKING_MODE", "minimal")
    AUTO_UPGRADE = BaseConfig.get_bool("EXPERT_ANALYSIS_AUTO_UPGRADE", True)
    INCLUDE_FILES = BaseConfig.get_bool("EXPERT_ANALYSIS_INCLUDE_FILES", False)
    MAX_FILE_COUNT = BaseConfig.get_int("EXPERT_ANALYSIS_MAX_FILE_COUNT", 10)
    MAX_FILE_SIZE_KB = BaseConfig.get_int("EXPERT_ANALYSIS_MAX_FILE_SIZE_KB", 100)
    USES_ASSISTANT = BaseConfig.get_bool("DEFAULT_USE_ASSISTANT_MODEL", True)
    HEARTBEAT = BaseConfig.get_float("EXPERT_HEARTBEAT_INTERVAL_SECS", 2.0)


def thinking_mode(requested=None):
    return requested or os.getenv("EXPERT_ANALYSIS_THINKING_MODE", "high")
