"""Reads settings from the environment."""

import os


class BaseConfig:
    @classmethod
    def get_str(cls, key, default=""):
        return os.getenv(key, default)

    @classmethod
    def get_int(cls, key, default=0):
        return int(os.getenv(key, str(default)))

    @classmethod
    def get_float(cls, key, default=0.0):
        return float(os.getenv(key, str(default)))

    @classmethod
    def get_bool(cls, key, default=False):
        return os.getenv(key, str(default)).strip().lower() in ("true", "1", "yes", "on")

    @classmethod
    def get_list(cls, key, default=(), separator=","):
        value = os.getenv(key)
        return [part.strip() for part in value.split(separator)] if value else list(default)

    @classmethod
    def validate(cls):
        return True
