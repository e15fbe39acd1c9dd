"""Settings of the tool, passed on from the modules below so that callers write `from config import X`.

- operations.py: how it runs
- timeouts.py: who waits for how long
- file_handling.py: what models are told about files
"""

# ruff: noqa: F401, I001, RUF022
from .base import BaseConfig
from .file_management import FileManagementConfig

# How it runs
from .operations import (
    LOG_LEVEL,
    MAX_RETRIES,  # of a request
    OperationsConfig,
)

# Who waits for how long
from .timeouts import DEFAULT_TIMEOUT_SECS, TimeoutConfig

# Which file manager is in use
from config.migration import MigrationConfig

# What models are told about files, where there is something
try:
    from .file_handling import FILE_PATH_GUIDANCE, FILE_UPLOAD_GUIDANCE
except ImportError:
    FILE_PATH_GUIDANCE = None
    FILE_UPLOAD_GUIDANCE = None


__all__ = [
    # How it runs
    "LOG_LEVEL",
    "MAX_RETRIES",
    # Classes
    "BaseConfig",
    "OperationsConfig",
    "TimeoutConfig",
    "FileManagementConfig",
    "MigrationConfig",
    # Files
    "FILE_PATH_GUIDANCE",
    "FILE_UPLOAD_GUIDANCE",
]
