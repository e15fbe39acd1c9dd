"""The root of the existing tool's exceptions: `exai_files.Error` catches them all.

The tool has four trees of them, which know nothing of each other, and constructors of many shapes.
"""

from __future__ import annotations

from typing import Any

from exai_files.errors import Error

__all__ = ["ToolError"]

_PLATFORMS = {"kimi": "moonshot", "glm": "zai"}


class ToolError(Error):
    """An exception of the existing tool.

    Args:
        message: What went wrong.
        provider: The tool's name of a platform, or None. `platform` is then ours.
    """

    def __init__(self, message: str, provider: str | None = None) -> None:
        super().__init__(message, platform=_PLATFORMS.get(provider or "", provider))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.message), dict(self.__dict__)


def _restored(cls: type[ToolError], message: str) -> ToolError:
    """Past the constructor, which may ask for more than a message."""
    error = cls.__new__(cls)
    ToolError.__init__(error, message)
    return error
