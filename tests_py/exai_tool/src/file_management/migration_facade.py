"""The unified manager, or the hub."""

from src.file_management.manager import UnifiedFileManager
from src.file_management.models import FileOperationResult
from src.file_management.rollout_manager import RolloutManager


class ShadowModeMetrics:
    def __init__(self):
        self.comparison_count = self.error_count = self.discrepancy_count = 0


class FileManagementFacade:
    def __init__(
        self, unified_manager: UnifiedFileManager, rollout_manager: RolloutManager, config, legacy_handlers=None
    ):
        self.unified_manager, self.rollout_manager, self.config = unified_manager, rollout_manager, config
        self.shadow_metrics = ShadowModeMetrics()

    async def upload_file(
        self, file_path, metadata=None, provider="kimi", context_id=None, user_id=None, allow_duplicates=False
    ):
        if self.rollout_manager.should_use_unified(f"{provider}_upload", user_id):
            try:
                # A fault: a reference has no `success`, and so everything is uploaded again.
                result = await self.unified_manager.upload_file_async(file_path, metadata, provider, allow_duplicates)
                return FileOperationResult(success=result.success, file_reference=result)
            except Exception:
                return await self._legacy_upload(file_path, metadata, provider, context_id)
        return await self._legacy_upload(file_path, metadata, provider, context_id)

    async def _legacy_upload(self, file_path, metadata, provider, context_id):
        from tools.supabase_upload import upload_file_with_provider

        result = upload_file_with_provider(None, file_path, provider, user_id="system")
        # A fault: the hub has no such key.
        return FileOperationResult(success=bool(result["kimi_file_id"]))
