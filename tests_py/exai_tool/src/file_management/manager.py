"""Uploads to whichever provider is asked for."""

import asyncio

from src.file_management.exceptions import FileUploadError, ProviderNotFoundError
from src.file_management.models import FileReference, FileUploadMetadata
from src.file_management.providers.base import FileProviderInterface


class UnifiedFileManager:
    def __init__(self, storage, logger, providers: dict[str, FileProviderInterface]):
        self.storage, self.logger, self.providers = storage, logger, providers

    async def upload_file_async(self, file_path, metadata=None, provider="kimi", allow_duplicates=False):
        if provider not in self.providers:
            raise ProviderNotFoundError(provider, list(self.providers))
        if not self.providers[provider].is_available:
            raise FileUploadError(f"{provider} is not available", provider, "PROVIDER_UNAVAILABLE")
        return await self.providers[provider].upload_file(file_path, metadata or FileUploadMetadata())

    def upload_file(self, file_path, metadata=None, provider="kimi", allow_duplicates=False) -> FileReference:
        return asyncio.run(self.upload_file_async(file_path, metadata, provider, allow_duplicates))

    def list_available_providers(self):
        return [name for name, provider in self.providers.items() if provider.is_available]
