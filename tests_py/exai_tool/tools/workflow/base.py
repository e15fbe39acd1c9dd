from __future__ import annotations

from typing import TYPE_CHECKING

from config import MAX_RETRIES, TimeoutConfig

if TYPE_CHECKING:
    from config.migration import MigrationConfig

__all__ = ["WorkflowTool"]


class WorkflowTool:
    timeout = TimeoutConfig.WORKFLOW_TOOL_TIMEOUT_SECS
    retries = MAX_RETRIES

    def __init__(self, migration: MigrationConfig | None = None):
        self.migration = migration
