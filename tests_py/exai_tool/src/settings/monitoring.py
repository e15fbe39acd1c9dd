"""What is watched, and where it is shown."""

import os

ENDPOINTS = (
    ("MONITORING_ENABLED", "true"),
    ("MONITORING_HOST", "0.0.0.0"),
    ("MONITORING_PORT", "8080"),
    ("HEALTH_CHECK_ENABLED", "true"),
    ("HEALTH_CHECK_HOST", "0.0.0.0"),
    ("HEALTH_CHECK_PORT", "8082"),
    ("METRICS_ENABLED", "true"),
    ("METRICS_PORT", "8000"),
)


def endpoints():
    found = {}
    for name, default in ENDPOINTS:
        found[name.lower()] = os.getenv(name, default)
    return found


LOG_LEVEL = os.getenv("LOG_LEVEL", "INFO").upper()
IS_DIAGNOSED = os.getenv("DIAGNOSTICS", "false").strip().lower() == "true"
BUFFER_SIZE = int(os.getenv("METRICS_BUFFER_SIZE", "2000"))
SAMPLE_RATE = float(os.getenv("METRICS_SAMPLE_RATE", "0.03"))
FLUSH_INTERVAL = float(os.getenv("METRICS_FLUSH_INTERVAL", "1.0"))


def collector():
    return {
        "buffer": int(os.getenv("METRICS_BUFFER_SIZE", "50")),
        "sample": float(os.getenv("METRICS_SAMPLE_RATE", "0.1")),
        "level": os.getenv("LOG_LEVEL", "WARNING"),
    }
