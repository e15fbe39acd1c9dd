"""Which of the file managers is in use."""

from .base import BaseConfig


class MigrationConfig(BaseConfig):
    ENABLE_UNIFIED_MANAGER = BaseConfig.get_bool("ENABLE_UNIFIED_MANAGER", False)
    ENABLE_FALLBACK_TO_LEGACY = BaseConfig.get_bool("ENABLE_FALLBACK_TO_LEGACY", True)
    ENABLE_SHADOW_MODE = BaseConfig.get_bool("ENABLE_SHADOW_MODE", False)
    SHADOW_MODE_SAMPLE_RATE = BaseConfig.get_float("SHADOW_MODE_SAMPLE_RATE", 0.1)
    KIMI_ROLLOUT_PERCENTAGE = BaseConfig.get_int("KIMI_ROLLOUT_PERCENTAGE", 0)

    @classmethod
    def get_status(cls) -> dict:
        return {"unified": cls.ENABLE_UNIFIED_MANAGER, "shadow": cls.ENABLE_SHADOW_MODE}
