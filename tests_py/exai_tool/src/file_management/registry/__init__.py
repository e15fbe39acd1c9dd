from .file_registry import FileRegistry

__all__ = ["FileRegistry"]
