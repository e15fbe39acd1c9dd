"""`src.file_management.rollout_manager`: who already goes through the unified manager."""

from __future__ import annotations

import hashlib
import random
from typing import Any

__all__ = ["RolloutManager"]

_PERCENTAGES = {
    "smart_handler": "SMART_HANDLER_ROLLOUT_PERCENTAGE",
    "smart": "SMART_HANDLER_ROLLOUT_PERCENTAGE",
    "supabase": "SUPABASE_ROLLOUT_PERCENTAGE",
}
"""By tool; all others go by KIMI_ROLLOUT_PERCENTAGE, those for GLM too."""


class RolloutManager:
    """Decides by the tool's percentages.

    Args:
        config: With ENABLE_UNIFIED_MANAGER and the percentages as attributes; one that is missing is 0.
    """

    def __init__(self, config: Any) -> None:
        self.config = config

    def should_use_unified(self, tool_name: str, user_id: str | None = None) -> bool:
        """Whether a call does. A user always gets the same answer; without one it is drawn."""
        if not self.config.ENABLE_UNIFIED_MANAGER:
            return False
        percentage = self._percentage(_PERCENTAGES.get(tool_name.lower(), "KIMI_ROLLOUT_PERCENTAGE"))
        return (_bucket(tool_name, user_id) if user_id else random.random() * 100) < percentage

    def get_rollout_status(self) -> dict[str, Any]:
        """What is set."""
        return {
            "unified_enabled": self.config.ENABLE_UNIFIED_MANAGER,
            "kimi_rollout": self._percentage("KIMI_ROLLOUT_PERCENTAGE"),
            "smart_handler_rollout": self._percentage("SMART_HANDLER_ROLLOUT_PERCENTAGE"),
            "supabase_rollout": self._percentage("SUPABASE_ROLLOUT_PERCENTAGE"),
            "fallback_enabled": getattr(self.config, "ENABLE_FALLBACK_TO_LEGACY", True),
        }

    def _percentage(self, name: str) -> float:
        percentage: float = getattr(self.config, name, 0)
        return percentage


def _bucket(tool_name: str, user_id: str) -> int:
    """0 to 99. The tool's own formula: another one would move users from one side to the other."""
    return int(hashlib.md5(f"{tool_name}:{user_id}".encode(), usedforsecurity=False).hexdigest(), 16) % 100
