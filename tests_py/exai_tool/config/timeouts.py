"""Who waits for how long: each layer half as long again as the one within."""

import logging
import os

logger = logging.getLogger(__name__)

LONGEST_SECS = 3600

DEFAULT_TIMEOUT_SECS = 30


class TimeoutConfig:
    """All time limits, from the inside out."""

    # Tools
    SIMPLE_TOOL_TIMEOUT_SECS = int(os.getenv("SIMPLE_TOOL_TIMEOUT_SECS", "30"))
    WORKFLOW_TOOL_TIMEOUT_SECS = int(os.getenv("WORKFLOW_TOOL_TIMEOUT_SECS", "45"))
    EXPERT_ANALYSIS_TIMEOUT_SECS = int(os.getenv("EXPERT_ANALYSIS_TIMEOUT_SECS", "60"))

    # Platforms
    GLM_TIMEOUT_SECS = int(os.getenv("GLM_TIMEOUT_SECS", "30"))
    KIMI_TIMEOUT_SECS = int(os.getenv("KIMI_TIMEOUT_SECS", "40"))
    KIMI_WEB_SEARCH_TIMEOUT_SECS = int(os.getenv("KIMI_WEB_SEARCH_TIMEOUT_SECS", "30"))

    MODEL_TIMEOUT_MULTIPLIERS = {  # noqa: RUF012
        "slow-model": 1.5,  # thinks
        "quick-model": 0.6,
    }

    @classmethod
    def get_model_timeout(cls, model_name: str, base_timeout: float) -> float:
        """Seconds for a model: `TimeoutConfig.get_model_timeout("slow-model", 300)` is 450.0."""
        return base_timeout * cls.MODEL_TIMEOUT_MULTIPLIERS.get(model_name, 1.0)

    @classmethod
    def get_daemon_timeout(cls) -> int:
        """One and a half times the longest tool's."""
        return int(cls.WORKFLOW_TOOL_TIMEOUT_SECS * 1.5)

    @classmethod
    def get_shim_timeout(cls) -> int:
        return int(cls.WORKFLOW_TOOL_TIMEOUT_SECS * 2.0)

    @classmethod
    def get_client_timeout(cls) -> int:
        return int(cls.WORKFLOW_TOOL_TIMEOUT_SECS * 2.5)

    @classmethod
    def validate_all(cls) -> None:
        """Looks at everything once, when the tool starts."""
        cls._validate_timeout_values()
        cls.validate_hierarchy()
        cls._log_timeout_config()

    # Values that are no accident
    @classmethod
    def _validate_timeout_values(cls) -> None:
        for name in ("SIMPLE_TOOL_TIMEOUT_SECS", "WORKFLOW_TOOL_TIMEOUT_SECS", "EXPERT_ANALYSIS_TIMEOUT_SECS"):
            value = getattr(cls, name)
            if not 0 < value <= LONGEST_SECS:
                raise ValueError(f"{name} cannot be {value}")

    @classmethod
    def _log_timeout_config(cls) -> None:
        logger.info("tools %s s, daemon %s s", cls.WORKFLOW_TOOL_TIMEOUT_SECS, cls.get_daemon_timeout())

    @classmethod
    def validate_hierarchy(cls) -> bool:
        tool, daemon = TimeoutConfig.WORKFLOW_TOOL_TIMEOUT_SECS, cls.get_daemon_timeout()
        if daemon / tool < 1.5:
            raise ValueError(f"the daemon waits {daemon / tool:.2f} times as long as a tool, and not 1.5 times")
        return True

    @classmethod
    def get_timeout_summary(cls) -> dict:
        return {"tool": cls.WORKFLOW_TOOL_TIMEOUT_SECS, "daemon": cls.get_daemon_timeout()}


try:
    TimeoutConfig.validate_hierarchy()
except ValueError as error:
    logger.warning("time limits: %s", error)
