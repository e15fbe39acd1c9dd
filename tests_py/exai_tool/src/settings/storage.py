"""Where conversations and files are kept."""

import os
from os import environ, getenv

from .base import env_bool, env_int

BACKEND = getenv("CONVERSATION_STORAGE_BACKEND", "dual").lower()
CONVERSATION_HOURS = env_int("CONVERSATION_TIMEOUT_HOURS", 24)
IS_IMMEDIATE = env_bool("UPLOAD_FILES_IMMEDIATELY", True)
HAS_FALLBACK = env_bool("ENABLE_FALLBACK", True)
MESSAGE_ARRAYS = env_bool("USE_MESSAGE_ARRAYS")


def redis_url():
    url = environ.get("REDIS_URL")
    if url:
        return url
    password = environ.get("REDIS_PASSWORD", "")
    return f"redis://:{password}@redis:6379/0" if password else "redis://localhost:6379/0"


class SupabaseConfig:
    def __init__(self):
        for name in ("URL", "ANON_KEY", "SERVICE_ROLE_KEY", "PROJECT_ID", "JWT_SECRET", "KEY"):
            setattr(self, name.lower(), os.getenv("SUPABASE_" + name))
        self.db_url = environ.get("SUPABASE_DB_URL")

    @property
    def is_enabled(self):
        return bool(self.url) and "SUPABASE_SERVICE_ROLE_KEY" in os.environ
