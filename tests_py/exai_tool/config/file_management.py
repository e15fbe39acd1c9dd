"""Limits for files, read once."""

from .base import BaseConfig

MIB = 1024 * 1024


class FileManagementConfig(BaseConfig):
    MAX_FILE_SIZE = BaseConfig.get_int("MAX_FILE_SIZE", 100 * MIB)
    MAX_FILE_SIZE_KIMI = BaseConfig.get_int("MAX_FILE_SIZE_KIMI", 100 * MIB)
    MAX_FILE_SIZE_GLM = BaseConfig.get_int("MAX_FILE_SIZE_GLM", 20 * MIB)
    UPLOAD_TIMEOUT = BaseConfig.get_int("UPLOAD_TIMEOUT", 300)
    ENABLE_DEDUPLICATION = BaseConfig.get_bool("ENABLE_DEDUPLICATION", True)
    RETENTION_DAYS = BaseConfig.get_int("FILE_RETENTION_DAYS", 30)
    CLEANUP_INTERVAL_HOURS = BaseConfig.get_int("CLEANUP_INTERVAL_HOURS", 24)

    @classmethod
    def get_provider_limits(cls) -> dict:
        return {"kimi": cls.MAX_FILE_SIZE_KIMI, "glm": cls.MAX_FILE_SIZE_GLM}
