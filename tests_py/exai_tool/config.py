"""From before there was a package `config`, which hides this file."""

from config import MigrationConfig, TimeoutConfig

DEFAULT_TIMEOUT = TimeoutConfig.get_daemon_timeout()
SHADOW_MODE = MigrationConfig.ENABLE_SHADOW_MODE
