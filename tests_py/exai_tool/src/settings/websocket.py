"""The daemon's socket, its limits and its sessions."""

import os

from .base import BaseConfig, env_bool, env_float, env_int

PREFIX = "EXAI_WS_"


def ws_int(name, default):
    return env_int(PREFIX + name, default)


HOST = os.getenv("EXAI_WS_HOST", "127.0.0.1")
PORT = int(os.getenv("EXAI_WS_PORT", "8079"))
TOKEN = os.getenv("EXAI_WS_TOKEN", "")
MAX_BYTES = ws_int("MAX_BYTES", 16 * 1024 * 1024)
INFLIGHT_TTL = ws_int("INFLIGHT_TTL_SECS", 180)
RESULT_TTL = ws_int("RESULT_TTL", 600)
RETRY_AFTER = ws_int("RETRY_AFTER_SECS", 1)
HELLO_TIMEOUT = env_float("EXAI_WS_HELLO_TIMEOUT", 15)
PING_INTERVAL = int(os.getenv("EXAI_WS_PING_INTERVAL", "45"))
PING_TIMEOUT = int(os.getenv("EXAI_WS_PING_TIMEOUT", "30"))
CLOSE_TIMEOUT = float(os.getenv("EXAI_WS_CLOSE_TIMEOUT", "1.0"))
PROGRESS_INTERVAL = float(os.getenv("EXAI_WS_PROGRESS_INTERVAL_SECS", "8.0"))

INFLIGHT = {
    name: int(os.getenv(f"EXAI_WS_{name}_MAX_INFLIGHT", default))
    for name, default in (("GLOBAL", "24"), ("SESSION", "8"), ("KIMI", "6"), ("GLM", "4"))
}

HEALTH_WRITER_INTERVAL = env_int("EXAI_HEALTH_WRITER_INTERVAL", 10)
HEALTH_WRITER_ENABLED = env_bool("EXAI_HEALTH_WRITER_ENABLED", True)
SEMAPHORE_CHECK = env_int("EXAI_SEMAPHORE_HEALTH_CHECK_INTERVAL", 30)
PORT_CHECK_TIMEOUT = env_float("EXAI_PORT_CHECK_TIMEOUT", 0.25)


def shim_port():
    return int(os.environ.get("EXAI_WS_PORT", 8765))


class LimitConfig(BaseConfig):
    MAX_CONNECTIONS = BaseConfig.get_int("MAX_CONNECTIONS", 50)
    MAX_CONNECTIONS_PER_IP = BaseConfig.get_int("MAX_CONNECTIONS_PER_IP", 5)


def rate_limit(scope):
    """Capacity and refill of one bucket."""
    defaults = {"GLOBAL": (500, 50), "IP": (100, 10), "USER": (50, 5)}
    capacity, refill = defaults[scope]
    return (
        int(os.getenv(f"RATE_LIMIT_{scope}_CAPACITY", capacity)),
        int(os.getenv(f"RATE_LIMIT_{scope}_REFILL_RATE", refill)),
    )


BUCKETS = [rate_limit(scope) for scope in ("GLOBAL", "IP", "USER")]

SESSION_TIMEOUT = env_int("SESSION_TIMEOUT_SECS", 3600)
SESSION_MAX_CONCURRENT = env_int("SESSION_MAX_CONCURRENT", 100)
SESSION_CLEANUP_INTERVAL = env_int("SESSION_CLEANUP_INTERVAL", 300)
