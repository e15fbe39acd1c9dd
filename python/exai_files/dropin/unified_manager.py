"""`src.file_management.unified_manager`: uploads on behalf of users, to whichever provider is well. It could not be imported.

The client does the work: locks, deduplication, circuit breakers and what users may have (`[quotas]` in its configuration).
The tool's `CircuitBreaker` and `FileLockManager` of this module, which nobody could have used, are not here; those of
`persistent_circuit_breaker` and `file_lock_manager` are.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from time import perf_counter
from typing import TYPE_CHECKING, Any

from exai_files.dropin.comprehensive_validator import ComprehensiveFileValidator
from exai_files.dropin.comprehensive_validator import FileValidationError as NotValidError
from exai_files.dropin.connection import connected, forgiving
from exai_files.dropin.exceptions import FileUploadError, FileValidationError
from exai_files.dropin.file_metrics import (
    record_circuit_breaker_trip,
    record_deduplication_hit,
    record_file_deletion,
    recorded_upload,
)
from exai_files.dropin.purposes import purpose_on
from exai_files.dropin.recovery import is_temporary
from exai_files.dropin.rows import PROVIDERS
from exai_files.errors import (
    CircuitOpenError,
    FileTooLargeError,
    InvalidRequestError,
    NotFoundError,
    QuotaExceededError,
)

if TYPE_CHECKING:
    from exai_files.async_client import AsyncClient

__all__ = ["FileUploadMetrics", "Provider", "UnifiedFileManager", "UploadRequest", "UploadResult"]

log = logging.getLogger("exai_files.dropin")

SMALL = 20 << 20
"""Bytes up to which a file rather goes to GLM, as in the tool."""

_ITSELF = "unified_manager"
"""The provider of errors that no provider has made."""


class Provider(Enum):
    """The tool's names of platforms."""

    KIMI = "kimi"
    GLM = "glm"

    @property
    def platform(self) -> str:
        """Ours."""
        return next(platform for platform, provider in PROVIDERS.items() if provider == self.value)


@dataclass
class UploadRequest:
    """What is to be uploaded, and for whom."""

    file_path: str
    user_id: str
    purpose: str = "assistants"
    preferred_provider: Provider | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class UploadResult:
    """Where a file is.

    Attributes:
        file_id: The provider's.
        supabase_path: None: nothing is put into the tool's bucket.
        upload_duration: Seconds.
        metadata: The request's; with `deduplicated` where nothing was sent.
    """

    file_id: str
    provider: Provider
    file_path: str
    file_size: int
    sha256: str
    mime_type: str
    supabase_path: str | None = None
    upload_duration: float = 0.0
    metadata: dict[str, Any] = field(default_factory=dict)


class FileUploadMetrics:
    """What this manager has uploaded; each upload counts once, as a success or a failure."""

    def __init__(self) -> None:
        self.metrics: dict[str, Any] = {"uploads_total": 0, "uploads_success": 0, "uploads_failed": 0}
        self.metrics |= {"bytes_uploaded": 0, "by_provider": {}}
        self._lock = threading.Lock()

    def record_upload_start(self, provider: str) -> None:
        """One begins."""
        self._add(provider, {"uploads_total": 1}, {"total": 1})

    def record_upload_success(self, provider: str, size: int, duration: float) -> None:
        """It is there."""
        self._add(provider, {"uploads_success": 1, "bytes_uploaded": size}, {"success": 1, "bytes": size})

    def record_upload_failure(self, provider: str, error: str) -> None:
        """It is not."""
        self._add(provider, {"uploads_failed": 1}, {"failed": 1})

    def get_metrics(self) -> dict[str, Any]:
        """As it is now; later uploads do not change it."""
        with self._lock:
            return copy.deepcopy(self.metrics)

    def _add(self, provider: str, all_of_them: dict[str, int], of_this_one: dict[str, int]) -> None:
        with self._lock:
            nothing = {"total": 0, "success": 0, "failed": 0, "bytes": 0}
            counts = self.metrics["by_provider"].setdefault(provider, nothing)
            for name, more in all_of_them.items():
                self.metrics[name] += more
            for name, more in of_this_one.items():
                counts[name] += more


class UnifiedFileManager:
    """Validates a file, chooses a provider, and uploads.

    Args:
        config: Kept, and without effect: the client has its own.
    """

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.config = config or {}
        self.validator = ComprehensiveFileValidator()
        self.metrics = FileUploadMetrics()

    async def upload_file(self, request: UploadRequest) -> UploadResult:
        """Puts a file on the preferred provider, the one that has it, or the one for its size; else on the other one.

        Raises:
            FileValidationError: VALIDATION_FAILED: the file, its purpose or the user's name will not do.
            FileUploadError: QUOTA_EXCEEDED: it is more than the user, the account or the provider takes.
                CIRCUIT_BREAKER_OPEN, and ALL_PROVIDERS_UNAVAILABLE where there are two: nothing was sent.
                UNEXPECTED_ERROR: anything else.
        """
        with _in_their_words(request.file_path):
            about = await self._validated(request.file_path)
            client = (await connected()).client.acting_as(request.user_id)
            candidates = await _candidates(client, request.preferred_provider, about)
            for provider in candidates:
                try:
                    return await self._upload(client, provider, request, about)
                except CircuitOpenError as error:
                    # Nothing was sent.
                    record_circuit_breaker_trip(provider.value)
                    log.warning("%s is left in peace: %s", provider.value, error)
        code = "CIRCUIT_BREAKER_OPEN" if len(candidates) == 1 else "ALL_PROVIDERS_UNAVAILABLE"
        names = ", ".join(provider.value for provider in candidates) or "none is configured"
        raise FileUploadError(f"All providers unavailable: {names}", _ITSELF, code, bool(candidates), request.file_path)

    @forgiving(False)
    async def delete_file(self, file_id: str, provider: Provider, user_id: str) -> bool:
        """Deletes a file at its provider, which makes room in the user's quota; one that is gone already counts.

        Returns:
            False when it failed, which is logged.
        """
        client = (await connected()).client.acting_as(user_id)
        try:
            await client.delete_remote(provider.platform, file_id)
        except NotFoundError:
            return True
        record_file_deletion(provider.value, "manual")
        return True

    def get_metrics(self) -> dict[str, Any]:
        """What this manager has uploaded."""
        return self.metrics.get_metrics()

    async def health_check(self) -> dict[str, Any]:
        """How the connected providers have been lately. They are not asked."""
        found: dict[str, Any] = {_ITSELF: "healthy", "providers": {}, "circuit_breakers": {}}
        for health in await (await connected()).client.health():
            provider = PROVIDERS.get(health.platform, health.platform)
            states = {breaker.operation: breaker.state for breaker in health.breakers}
            away = [f"{operation} is {state}" for operation, state in states.items() if "open" in state]
            found["providers"][provider] = "healthy" if health.is_healthy else f"unhealthy: {', '.join(away)}"
            failures = sum(breaker.failures for breaker in health.breakers)
            state = states.get("upload", "closed").upper().replace("-", "_")
            found["circuit_breakers"][provider] = {"state": state, "failures": failures}
        return {**found, "metrics": self.get_metrics()}

    async def _validated(self, file_path: str) -> dict[str, Any]:
        judged = await self.validator.validate(file_path)
        if not judged["valid"]:
            raise InvalidRequestError(f"File validation failed: {', '.join(judged['errors'])}")
        about: dict[str, Any] = judged["metadata"]
        return about

    async def _upload(
        self, client: AsyncClient, provider: Provider, request: UploadRequest, about: dict[str, Any]
    ) -> UploadResult:
        begun, platform, size = perf_counter(), provider.platform, about["size"]
        self.metrics.record_upload_start(provider.value)
        try:
            with recorded_upload(provider.value, request.user_id, size) as outcome:
                purpose = purpose_on(platform, request.purpose)
                record = await client.upload(
                    request.file_path, to=platform, purpose=purpose, owner=request.user_id, metadata=request.metadata
                )
                there = next(
                    each for each in record.replicas if each.platform == platform and purpose in (None, each.purpose)
                )
                is_duplicate = there.origin == "already-there"
                outcome.status = "deduplicated" if is_duplicate else "success"
        except BaseException as error:
            self.metrics.record_upload_failure(provider.value, str(error))
            raise
        duration = perf_counter() - begun
        self.metrics.record_upload_success(provider.value, 0 if is_duplicate else size, duration)
        if is_duplicate:
            record_deduplication_hit()
        return UploadResult(
            file_id=there.remote_id,
            provider=provider,
            file_path=request.file_path,
            file_size=record.size,
            sha256=record.digest.removeprefix("sha256:"),
            mime_type=record.mime,
            upload_duration=duration,
            metadata={**request.metadata, **({"deduplicated": True} if is_duplicate else {})},
        )


async def _candidates(client: AsyncClient, preferred: Provider | None, about: dict[str, Any]) -> list[Provider]:
    """The connected providers, the best one first."""
    connected_ones = {info.platform for info in await client.platforms()}
    having = {there.platform async for record in client.list(digest=about["sha256"]) for there in record.replicas}
    for_size = Provider.GLM if about["size"] <= SMALL else Provider.KIMI
    return sorted(
        (provider for provider in Provider if provider.platform in connected_ones),
        key=lambda provider: (provider is not preferred, provider.platform not in having, provider is not for_size),
    )


@contextmanager
def _in_their_words(file_path: str) -> Iterator[None]:
    try:
        yield
    except (QuotaExceededError, FileTooLargeError) as error:
        raise FileUploadError(str(error), _ITSELF, "QUOTA_EXCEEDED", False, file_path) from error
    except (NotValidError, InvalidRequestError) as error:
        raise FileValidationError(str(error), _ITSELF, "VALIDATION_FAILED") from error
    except Exception as error:
        code = "UNEXPECTED_ERROR"
        raise FileUploadError(f"Upload failed: {error}", _ITSELF, code, is_temporary(error), file_path) from error
