"""The tool's own tests: they hold before exai-files stands in for its modules, while it does, and afterwards."""

import asyncio
import hashlib
import inspect
import logging
from types import SimpleNamespace

import pytest
from src.file_management import FileReference, FileUploadMetadata, ProviderNotFoundError, UnifiedFileManager
from src.file_management.audit import AuditLogger
from src.file_management.comprehensive_validator import FileValidationError, validate_file
from src.file_management.errors import ErrorDetail, FileUploadErrorCode
from src.file_management.health.health_checker import HealthChecker
from src.file_management.lifecycle import LifecycleSync
from src.file_management.recovery import RecoveryManager
from src.file_management.registry import FileRegistry
from src.monitoring import file_metrics
from src.providers import glm_files, kimi_files
from src.providers.glm import GLMModelProvider
from src.providers.glm_sdk_fallback import GLMSDKFallback
from src.providers.kimi import KimiModelProvider
from tools.smart_file_query import SmartFileQueryTool
from tools.supabase_upload import upload_file_with_provider
from utils.file.deduplication import FileDeduplicationManager, get_dedup_metrics

FILE_ID = "6f1c1d0e-8b0e-4f0c-9f62-1d2f0f9b7a11"


class Recorder:
    """Takes every row, and gives it an id; it has a key, as clients of platforms have."""

    api_key = "none.none"

    def table(self, name):
        return self

    def insert(self, row):
        return self

    def execute(self):
        return SimpleNamespace(data=[{"id": FILE_ID}])


@pytest.fixture
def paper(tmp_path):
    path = tmp_path / "paper.txt"
    path.write_text("a paper")
    return str(path)


def test_both_import_paths_give_one_class():
    import src.file_management.registry as package
    from src.file_management.registry import file_registry

    assert package.FileRegistry is file_registry.FileRegistry
    assert package.file_registry is file_registry


def test_the_stubs_answer_without_credentials():
    async def ask():
        assert await FileRegistry().get_file_platforms(FILE_ID) == []
        assert await HealthChecker().check_file_health(FILE_ID, "kimi", "no-such") is False
        assert await LifecycleSync().sync_lifecycle(FILE_ID, "kimi", "active") is None
        assert await AuditLogger().log_operation(FILE_ID, "upload") is None

    asyncio.run(ask())
    assert (RecoveryManager().max_attempts, RecoveryManager().base_delay_ms) == (5, 1000)


def test_models_errors_and_the_validator(paper):
    hexes = hashlib.sha256(b"a paper").hexdigest()
    names = {"internal_id": FILE_ID.upper(), "provider_id": "f", "provider": "kimi", "file_hash": hexes.upper()}
    file = FileReference(**names, size=7, mime_type="text/plain", original_name="paper.txt")
    assert (file.to_supabase_dict()["id"], file.to_supabase_dict()["sha256"]) == (FILE_ID, hexes)
    assert FileUploadMetadata().purpose == "file-extract"
    assert ErrorDetail(FileUploadErrorCode.FILE_LOCKED, "locked").to_http_response()
    assert asyncio.run(validate_file(paper))["metadata"]["sha256"] == hexes
    with pytest.raises(FileValidationError) as refused:
        asyncio.run(validate_file(paper + ".none"))
    assert refused.value.error_code == "FILE_NOT_FOUND"


def test_the_manager_works_with_the_providers_it_is_given():
    manager = UnifiedFileManager(None, logging.getLogger(), {})
    with pytest.raises(ProviderNotFoundError):
        manager.upload_file("paper.txt")
    assert manager.list_available_providers() == []


def test_what_is_no_file_is_not_uploaded(paper, monkeypatch):
    monkeypatch.delenv("GLM_API_KEY", raising=False)
    with pytest.raises(FileNotFoundError):
        kimi_files.upload_file(Recorder(), paper + ".none", "assistants")
    with pytest.raises(FileNotFoundError):
        glm_files.upload_file(None, Recorder(), paper + ".none")
    assert "http" in GLMSDKFallback("key").get_available_methods()


def test_the_providers_take_a_path_and_a_purpose():
    for provider, purpose in ((KimiModelProvider, "file-extract"), (GLMModelProvider, "agent")):
        expected = f"(self, file_path: str, purpose: str = '{purpose}') -> str"
        assert str(inspect.signature(provider.upload_file)) == expected


def test_deduplication_knows_nothing_at_first(paper):
    manager = FileDeduplicationManager()
    assert manager.check_duplicate(paper, "kimi") is None
    with pytest.raises(ValueError, match="provider"):
        manager.check_duplicate(paper, "other")
    assert manager.calculate_sha256(paper) == hashlib.sha256(b"a paper").hexdigest()
    assert get_dedup_metrics()["total_checks"] >= 1


def test_the_hub_answers_in_one_shape_whether_or_not_the_platform_took_it(paper, monkeypatch):
    monkeypatch.delenv("KIMI_API_KEY", raising=False)
    result = upload_file_with_provider(Recorder(), paper, "kimi", user_id="somebody")
    assert result["success"]
    assert {"supabase_file_id", "provider_file_id", "provider", "file_size", "deduplicated"} <= set(result)
    with pytest.raises(ValueError, match="100MB"):
        SmartFileQueryTool()._select_provider(101)


def test_metrics_are_counted():
    file_metrics.init_file_metrics()
    file_metrics.record_upload_attempt("kimi", "somebody")
    file_metrics.record_upload_completion("kimi", "success", 7, 0.1)
    file_metrics.record_deduplication_hit()
