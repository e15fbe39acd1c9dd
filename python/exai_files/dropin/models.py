"""Stands in for `src.file_management.models`. Pydantic is loaded when one of the models is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exai_files.dropin.pydantic_models import FileOperationResult, FileReference, FileUploadMetadata

__all__ = ["FileOperationResult", "FileReference", "FileUploadMetadata"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("exai_files.dropin.pydantic_models"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
