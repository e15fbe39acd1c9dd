"""The three places that the tool's users really pass through.

Uploads go through two provider classes, whose method is replaced. The deduplication that is used
(`utils.file.deduplication`) and the daemon's `FileLifecycleManager` are modules, and are stood in for like the others.
"""

from __future__ import annotations

import ast
import functools
import inspect

__all__ = ["DAEMON", "DEDUPLICATION", "LIFECYCLE", "PROVIDERS", "has_upload", "is_daemon", "unwire", "wire", "wired"]

PROVIDERS = {"src.providers.kimi": "KimiModelProvider", "src.providers.glm": "GLMModelProvider"}
"""Modules whose class has an `upload_file` that goes through us; the rest of them stays."""

DEDUPLICATION = "utils.file.deduplication"
LIFECYCLE = "src.file_management.lifecycle_manager"
DAEMON = "scripts/ws/run_ws_daemon.py"

_PLATFORMS = {"KimiModelProvider": "moonshot", "GLMModelProvider": "zai"}


def by(provider: str) -> str:
    """Our module that stands in for the one a provider class uploads with."""
    return {"moonshot": f"{__package__}.kimi_files", "zai": f"{__package__}.glm_files"}[_PLATFORMS[provider]]


def wire(provider: type) -> bool:
    """Lets `provider.upload_file` go through us, with the signature it has; False where there is no such method.

    What is uploaded is deduplicated, on the account of the key that the provider object has.
    """
    old = vars(provider).get("upload_file")
    if old is None:
        return False
    if hasattr(old, "_exai_files_original"):
        return True
    platform = _PLATFORMS[provider.__name__]
    usual = inspect.signature(old).parameters["purpose"].default

    @functools.wraps(old)
    def upload_file(self: object, file_path: str, purpose: str = usual) -> str:
        from exai_files.dropin import uploading

        return uploading.upload(platform, file_path, purpose, caller=self)

    upload_file._exai_files_original = old  # type: ignore[attr-defined]
    provider.upload_file = upload_file  # type: ignore[attr-defined]
    return True


def unwire(provider: type) -> None:
    """Takes `wire` back."""
    original = getattr(vars(provider).get("upload_file"), "_exai_files_original", None)
    if original is not None:
        provider.upload_file = original  # type: ignore[attr-defined]


def wired(source: bytes, provider: str) -> bytes:
    """A provider's module with one more line at its end, by which its class is wired when it is imported."""
    newline = b"\r\n" if b"\r\n" in source else b"\n"
    line = f"from {__name__} import wire as _wire; _wire({provider})  # fmt: skip # noqa".encode()
    if line in source:
        return source
    return source + (b"" if source.endswith(b"\n") or not source else newline) + line + newline


def has_upload(source: bytes, provider: str) -> bool:
    """Whether a module's source has the class, and the class the method."""
    return any(
        isinstance(part, ast.FunctionDef) and part.name == "upload_file"
        for each in _parsed(source).body
        if isinstance(each, ast.ClassDef) and each.name == provider
        for part in each.body
    )


def is_daemon(source: bytes) -> bool:
    """Whether the daemon's boot script starts the lifecycle manager that we stand in for."""
    return any(isinstance(each, ast.ImportFrom) and each.module == LIFECYCLE for each in ast.walk(_parsed(source)))


def _parsed(source: bytes) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return ast.Module([], [])
