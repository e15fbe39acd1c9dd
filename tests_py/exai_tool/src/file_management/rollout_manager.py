import hashlib
import random


class RolloutManager:
    def __init__(self, config):
        self.config = config

    def should_use_unified(self, tool_name, user_id=None):
        percentage = getattr(self.config, "KIMI_ROLLOUT_PERCENTAGE", 0)
        if not self.config.ENABLE_UNIFIED_MANAGER:
            return False
        if not user_id:
            return random.random() < percentage / 100
        return int(hashlib.md5(f"{tool_name}:{user_id}".encode()).hexdigest(), 16) % 100 < percentage

    def get_rollout_status(self):
        return {"unified_enabled": self.config.ENABLE_UNIFIED_MANAGER}
