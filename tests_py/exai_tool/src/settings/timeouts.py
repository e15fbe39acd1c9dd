"""Who waits for how long, each longer than what it waits for."""

import os

from .base import env_bool, env_int

SIMPLE = int(os.getenv("SIMPLE_TOOL_TIMEOUT_SECS", "30"))
WORKFLOW = int(os.getenv("WORKFLOW_TOOL_TIMEOUT_SECS", "45"))
EXPERT = int(os.getenv("EXPERT_ANALYSIS_TIMEOUT_SECS", "60"))
HTTP = float(os.getenv("EX_HTTP_TIMEOUT_SECONDS", "60"))
GLM = env_int("GLM_TIMEOUT_SECS", 30)
KIMI = env_int("KIMI_TIMEOUT_SECS", 30)
KIMI_WEB_SEARCH = env_int("KIMI_WEB_SEARCH_TIMEOUT_SECS", 30)


def daemon_timeout():
    return int(WORKFLOW * 1.5)


def validate():
    if daemon_timeout() / WORKFLOW < 1.5:
        raise ValueError("the daemon has to wait at least 1.5 times as long as a workflow")


BREAKER = {
    "enabled": env_bool("CIRCUIT_BREAKER_ENABLED", True),
    "threshold": env_int("CIRCUIT_BREAKER_THRESHOLD", 5),
    "timeout": env_int("CIRCUIT_BREAKER_TIMEOUT_SECS", 60),
    "fallback": env_bool("FALLBACK_TO_WEBSOCKET", True),
}


def failures_until_open():
    return int(os.getenv("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "5"))


def failure_rate_until_open():
    return float(os.getenv("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "0.05"))
