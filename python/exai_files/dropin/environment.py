"""Numbers that the existing tool has in its environment files."""

from __future__ import annotations

import logging
import os

__all__ = ["whole_number"]

logger = logging.getLogger(__name__)


def whole_number(name: str, default: int) -> int:
    """That of a variable, behind which its file may have left a comment; the default for what is none."""
    text = os.environ.get(name, "").partition("#")[0].strip()
    try:
        return int(text or default)
    except ValueError:
        logger.warning("%s is no whole number: %s is used", name, default)
        return default
