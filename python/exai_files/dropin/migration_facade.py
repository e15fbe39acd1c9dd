"""`src.file_management.migration_facade`: the unified manager or the ways before it, as the rollout says.

What has been uploaded, or may have been, is not uploaded again by the other way. In shadow mode the other way is gone as well;
with the tool's providers wired to us, as `install` and `activate` do, the platform has one file after that too.
"""

from __future__ import annotations

import logging
import mimetypes
import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from exai_files.dropin.connection import OfTool
from exai_files.dropin.deduplication import HashingService
from exai_files.dropin.exceptions import FileDuplicateError, FileNotFoundError, FileUploadError
from exai_files.dropin.files_table import FilesTable
from exai_files.dropin.mcp_storage_adapter import MCPStorageAdapter, MCPStorageResult
from exai_files.dropin.threads import in_thread
from exai_files.errors import InvalidRequestError, OutcomeUnknownError

if TYPE_CHECKING:
    import asyncio

    from exai_files.dropin.manager import UnifiedFileManager
    from exai_files.dropin.models import FileOperationResult, FileReference, FileUploadMetadata
    from exai_files.dropin.rollout_manager import RolloutManager

__all__ = ["FileManagementFacade", "ShadowModeMetrics"]

log = logging.getLogger("exai_files.dropin")


class ShadowModeMetrics:
    """How often both ways were compared, and differed."""

    def __init__(self) -> None:
        self.reset()

    def record_comparison(self, status: str) -> None:
        """Counts one: "success", "error" or "discrepancy"."""
        self.comparison_count += 1
        self.error_count += status == "error"
        self.discrepancy_count += status == "discrepancy"

    def get_error_rate(self) -> float:
        """From 0 to 1."""
        return self.error_count / self.comparison_count if self.comparison_count else 0.0

    def reset(self) -> None:
        """All to 0."""
        self.comparison_count = self.error_count = self.discrepancy_count = 0
        self.last_reset = datetime.now(timezone.utc)


class FileManagementFacade(OfTool):
    """Chooses a way for each call.

    Args:
        config: With ENABLE_UNIFIED_MANAGER, ENABLE_SHADOW_MODE, SHADOW_MODE_SAMPLE_RATE and ENABLE_FALLBACK_TO_LEGACY.
        legacy_handlers: Kept, and without effect, as before.
    """

    def __init__(
        self,
        unified_manager: UnifiedFileManager,
        rollout_manager: RolloutManager,
        config: Any,
        legacy_handlers: dict[str, Any] | None = None,
    ) -> None:
        self.unified_manager = unified_manager
        self.rollout_manager = rollout_manager
        self.config = config
        self.legacy_handlers = legacy_handlers or {}
        self.shadow_metrics = ShadowModeMetrics()
        self._shadows: set[asyncio.Task[None]] = set()

    async def upload_file(
        self,
        file_path: str,
        metadata: FileUploadMetadata | None = None,
        provider: str = "kimi",
        context_id: str | None = None,
        user_id: str | None = None,
        allow_duplicates: bool = False,
    ) -> FileOperationResult:
        """Uploads a file. One that the provider has already is a success.

        Raises:
            FileManagementError: The unified manager failed, and there is nothing to fall back to.
        """
        import asyncio

        use_unified = self._should_use_unified(f"{provider}_upload", user_id)

        async def legacy() -> FileOperationResult:
            return await self._legacy_upload(file_path, metadata, provider, context_id)

        async def unified() -> FileOperationResult:
            return await self._unified_upload(file_path, metadata, provider, allow_duplicates)

        result = await self._either(use_unified, unified, legacy)
        if self._should_run_shadow_mode():
            given = (file_path, metadata, provider, context_id, allow_duplicates)
            task = asyncio.create_task(self._run_shadow_mode_comparison(*given, result, use_unified))
            self._shadows.add(task)
            task.add_done_callback(self._shadows.discard)
        return result

    async def download_file(
        self, file_id: str, destination: str | None = None, user_id: str | None = None
    ) -> FileOperationResult:
        """Downloads a file, by its id in the table `files` or in our registry.

        Raises:
            FileManagementError: As `upload_file`.
        """

        async def unified() -> FileOperationResult:
            if destination is None:
                raise InvalidRequestError("the unified manager downloads to a path, and none is given")
            file = await self.unified_manager.reference_async(file_id)
            return _result(file, success=await self.unified_manager.download_file_async(file, destination))

        use_unified = self._should_use_unified("download", user_id)
        return await self._either(use_unified, unified, lambda: self._legacy_download(file_id, destination))

    async def delete_file(self, file_id: str, user_id: str | None = None) -> FileOperationResult:
        """Deletes a file, by its id in the table `files` or in our registry.

        Raises:
            FileManagementError: As `upload_file`.
        """

        async def unified() -> FileOperationResult:
            file = await self.unified_manager.reference_async(file_id)
            return _result(file, success=await self.unified_manager.delete_file_async(file))

        use_unified = self._should_use_unified("delete", user_id)
        return await self._either(use_unified, unified, lambda: self._legacy_delete(file_id))

    def _should_use_unified(self, tool_name: str, user_id: str | None = None) -> bool:
        return bool(self.config.ENABLE_UNIFIED_MANAGER) and self.rollout_manager.should_use_unified(tool_name, user_id)

    def _should_run_shadow_mode(self) -> bool:
        return bool(self.config.ENABLE_SHADOW_MODE) and random.random() < self.config.SHADOW_MODE_SAMPLE_RATE

    async def _either(
        self,
        use_unified: bool,
        unified: Callable[[], Awaitable[FileOperationResult]],
        legacy: Callable[[], Awaitable[FileOperationResult]],
    ) -> FileOperationResult:
        if not use_unified:
            return await legacy()
        try:
            return await unified()
        except Exception as error:
            if _may_be_done(error) or not self.config.ENABLE_FALLBACK_TO_LEGACY:
                raise
            log.error("the unified manager failed; the way before it is tried: %s", error)
            return await legacy()

    async def _unified_upload(
        self, file_path: str, metadata: FileUploadMetadata | None, provider: str, allow_duplicates: bool
    ) -> FileOperationResult:
        try:
            file = await self.unified_manager.upload_file_async(
                file_path=file_path, metadata=metadata, provider=provider, allow_duplicates=allow_duplicates
            )
        except FileDuplicateError as error:
            file = error.existing_file
        return _result(file)

    async def _legacy_upload(
        self, file_path: str, metadata: FileUploadMetadata | None, provider: str, context_id: str | None
    ) -> FileOperationResult:
        if provider == "kimi":
            return await self._legacy_kimi_upload(file_path, metadata)
        return _failure(f"Unsupported provider for legacy upload: {provider}")

    async def _legacy_kimi_upload(self, file_path: str, metadata: FileUploadMetadata | None) -> FileOperationResult:
        """Through the tool's hub."""
        try:
            return _result(await in_thread(self._through_the_hub, file_path, metadata))
        except Exception as error:
            log.error("the hub's upload of %s failed: %s", file_path, error)
            return _failure(f"Kimi upload error: {error}")

    def _through_the_hub(self, file_path: str, metadata: FileUploadMetadata | None) -> FileReference:
        from tools.supabase_upload import upload_file_with_provider  # type: ignore[import-not-found]

        from exai_files.dropin.models import FileReference

        done = upload_file_with_provider(
            supabase_client=self.supabase.get_client(),
            file_path=file_path,
            provider="kimi",
            user_id=(metadata and metadata.user_id) or "system",
        )
        if not done.get("provider_file_id"):
            raise FileUploadError(done.get("error") or "the hub gave no id", "kimi", "UPLOAD_FAILED")
        return FileReference(
            internal_id=done["supabase_file_id"],
            provider_id=done["provider_file_id"],
            provider="kimi",
            file_hash=HashingService.compute_file_hash(file_path),
            size=done["file_size"],
            mime_type=mimetypes.guess_type(done["filename"])[0] or "application/octet-stream",
            original_name=done["filename"],
            created_at=done["upload_time"],
            metadata={"supabase_hub_upload": True},
        )

    async def _legacy_download(self, file_id: str, destination: str | None) -> FileOperationResult:
        """Out of the tool's bucket."""

        def download(adapter: MCPStorageAdapter, place: str) -> MCPStorageResult:
            done = adapter.download_file(file_id, place)
            if done.success and destination is not None:
                Path(destination).write_bytes(done.data)
            return done

        return await self._in_the_bucket(file_id, download)

    async def _legacy_delete(self, file_id: str) -> FileOperationResult:
        """Out of the tool's bucket."""
        return await self._in_the_bucket(file_id, lambda adapter, place: adapter.delete_file(file_id, place))

    async def _in_the_bucket(
        self, file_id: str, act: Callable[[MCPStorageAdapter, str], MCPStorageResult]
    ) -> FileOperationResult:
        def run() -> MCPStorageResult:
            table = FilesTable.of(self.supabase)
            row = table.row(file_id) if table else None
            if row is None:
                raise FileNotFoundError(file_path=file_id)
            return act(MCPStorageAdapter(), row["storage_path"])

        try:
            done = await in_thread(run)
        except Exception as error:
            return _failure(str(error))
        return _result(None) if done.success else _failure(str(done.error))

    async def _run_shadow_mode_comparison(
        self,
        file_path: str,
        metadata: FileUploadMetadata | None,
        provider: str,
        context_id: str | None,
        allow_duplicates: bool,
        primary_result: FileOperationResult,
        primary_used_unified: bool,
    ) -> None:
        """Goes the other way, and compares. The caller has its result already, and nothing is raised."""
        begun = monotonic()
        try:
            if primary_used_unified:
                shadow = await self._legacy_upload(file_path, metadata, provider, context_id)
            else:
                shadow = await self._unified_upload(file_path, metadata, provider, allow_duplicates)
            found = self._compare_results(primary_result, shadow)
        except Exception as error:
            log.error("the shadow upload of %s failed: %s", file_path, error)
            self.shadow_metrics.record_comparison("error")
            return
        status = "error" if found["has_errors"] else "success" if found["results_match"] else "discrepancy"
        self.shadow_metrics.record_comparison(status)
        said = "; ".join(found["discrepancies"]) or "no difference"
        log.info("shadow upload of %s to %s, %.3f s: %s", file_path, provider, monotonic() - begun, said)

    def _compare_results(
        self, primary_result: FileOperationResult, shadow_result: FileOperationResult
    ) -> dict[str, Any]:
        sides = {"Primary": primary_result, "Shadow": shadow_result}
        differences = [f"{side} failed: {result.error}" for side, result in sides.items() if not result.success]
        found: dict[str, Any] = {"results_match": True, "has_errors": bool(differences), "discrepancies": differences}
        found |= {"primary_success": primary_result.success, "shadow_success": shadow_result.success}
        if len(differences) == len(sides):
            return {**found, "match_reason": "Both implementations failed"}
        if differences:
            words = f"primary={primary_result.success}, shadow={shadow_result.success}"
            differences.append(f"Success mismatch: {words}")
        else:
            differences += _differences(primary_result.file_reference, shadow_result.file_reference)
        return {**found, "results_match": not differences}


def _differences(primary: FileReference | None, shadow: FileReference | None) -> list[str]:
    if primary is None or shadow is None:
        return []
    compared = {"Provider ID": "provider_id", "Size": "size", "Hash": "file_hash"}
    values = [(what, getattr(primary, name), getattr(shadow, name)) for what, name in compared.items()]
    return [f"{what} mismatch: primary={one}, shadow={other}" for what, one, other in values if one != other]


def _may_be_done(error: Exception) -> bool:
    """Whether the file may be there, so that doing it again would leave two."""
    code = getattr(error, "error_code", None)
    causes = (error, error.__cause__, getattr(error.__cause__, "__cause__", None))
    return code == "METADATA_STORAGE_FAILED" or any(isinstance(cause, OutcomeUnknownError) for cause in causes)


def _result(file: FileReference | FileOperationResult | None, success: bool = True) -> FileOperationResult:
    from exai_files.dropin.models import FileOperationResult

    if isinstance(file, FileOperationResult):
        return file
    return FileOperationResult(success=success, file_reference=file)


def _failure(error: str) -> FileOperationResult:
    from exai_files.dropin.models import FileOperationResult

    return FileOperationResult(success=False, error=error)
