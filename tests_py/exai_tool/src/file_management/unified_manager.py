"""It cannot be imported: there is no such provider."""

from dataclasses import dataclass
from enum import Enum

from src.file_management.providers.kimi_provider import KimiProvider
from src.storage.supabase_client import SupabaseStorageManager


class Provider(Enum):
    KIMI = "kimi"
    GLM = "glm"


@dataclass
class UploadRequest:
    file_path: str
    user_id: str
    purpose: str = "assistants"
    preferred_provider: Provider | None = None


class UnifiedFileManager:
    def __init__(self, config=None):
        self.providers, self.supabase = {Provider.KIMI: KimiProvider()}, SupabaseStorageManager()

    async def upload_file(self, request: UploadRequest):
        return await self.providers[Provider.KIMI].upload_file(request.file_path, request.purpose)
