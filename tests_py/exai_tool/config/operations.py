"""How the tool runs."""

from .base import BaseConfig


class OperationsConfig(BaseConfig):
    """Settings of a running tool."""

    LOG_LEVEL: str = BaseConfig.get_str("LOG_LEVEL", "INFO")
    MAX_RETRIES: int = BaseConfig.get_int("MAX_RETRIES", 3)

    # Tools
    SIMPLE_TOOL_TIMEOUT_SECS: int = BaseConfig.get_int("SIMPLE_TOOL_TIMEOUT_SECS", 30)
    WORKFLOW_TOOL_TIMEOUT_SECS: int = BaseConfig.get_int("WORKFLOW_TOOL_TIMEOUT_SECS", 45)
    EXPERT_ANALYSIS_TIMEOUT_SECS: int = BaseConfig.get_int("EXPERT_ANALYSIS_TIMEOUT_SECS", 60)

    # Platforms
    GLM_TIMEOUT_SECS: int = BaseConfig.get_int("GLM_TIMEOUT_SECS", 30)
    KIMI_TIMEOUT_SECS: int = BaseConfig.get_int("KIMI_TIMEOUT_SECS", 40)
    KIMI_WEB_SEARCH_TIMEOUT_SECS: int = BaseConfig.get_int("KIMI_WEB_SEARCH_TIMEOUT_SECS", 30)

    MODEL_TIMEOUT_MULTIPLIERS = {"slow-model": 1.5, "quick-model": 0.6}  # noqa: RUF012

    @classmethod
    def get_model_timeout(cls, model_name: str, base_timeout: float) -> float:
        """Seconds for a model."""
        return base_timeout * cls.MODEL_TIMEOUT_MULTIPLIERS.get(model_name, 1.0)

    @classmethod
    def get_daemon_timeout(cls) -> int:
        return int(cls.WORKFLOW_TOOL_TIMEOUT_SECS * 1.5)

    @classmethod
    def get_shim_timeout(cls) -> int:
        return int(cls.WORKFLOW_TOOL_TIMEOUT_SECS * 2.0)

    @classmethod
    def get_client_timeout(cls) -> int:
        return int(cls.WORKFLOW_TOOL_TIMEOUT_SECS * 2.5)


LOG_LEVEL = OperationsConfig.LOG_LEVEL
MAX_RETRIES = OperationsConfig.MAX_RETRIES
