"""How settings are read."""

import logging
import os

logger = logging.getLogger(__name__)

TRUE_WORDS = ("true", "1", "yes", "on")


def load_env(path=".env", override=True):
    """The file beats the environment of the process."""
    from dotenv import load_dotenv

    return load_dotenv(path, override=override)


def env_bool(name, default=False):
    return os.getenv(name, str(default)).strip().lower() in TRUE_WORDS


def env_int(name: str, default: int) -> int:
    raw = os.getenv(name)
    if raw is None or raw == "":
        return default
    try:
        return int(raw)
    except ValueError:
        logger.warning("%s is no number; it counts as %s", name, default)
        return default


def env_float(name, default):
    return float(os.environ.get(name, default))


def first_of(*names, default=None):
    for name in names:
        value = os.environ.get(name)
        if value:
            return value
    return default


class BaseConfig:
    @classmethod
    def get_str(cls, key, default=""):
        return os.getenv(key, default)

    @classmethod
    def get_int(cls, key, default=0):
        return int(os.getenv(key, str(default)))

    @classmethod
    def get_float(cls, key, default=0.0):
        return float(cls.get_str(key, str(default)))

    @classmethod
    def get_bool(cls, key, default=False):
        value = os.getenv(key)
        if value is None:
            return default
        return value.lower() in ("true", "1", "yes", "on")

    @classmethod
    def get_list(cls, key, default=None, separator=","):
        value = os.getenv(key)
        if not value:
            return default or []
        return [part.strip() for part in value.split(separator) if part.strip()]
