"""What an upload is for, in every spelling the existing tool uses, as each platform calls it.

The tool's own tables contradict each other and the platforms: its defaults are refused by the functions they are
given to. Sources: platform_api.md, 1A.2 and 1B.3.
"""

from __future__ import annotations

from enum import Enum

from exai_files.dropin.errors import InvalidPurposeError
from exai_files.errors import InvalidRequestError

__all__ = ["PURPOSES", "purpose_on"]

PURPOSES: dict[str, dict[str, str]] = {
    "moonshot": {
        "agent": "file-extract",
        "assistants": "file-extract",
        "batch": "batch",
        "batch-output": "batch_output",
        "custom": "file-extract",
        "file": "file-extract",
        "file-extract": "file-extract",
        # There is no fine-tuning on Moonshot: the file is kept as a document.
        "fine-tune": "file-extract",
        "image": "image",
        "lambda": "lambda",
        "training": "file-extract",
        "user-data": "file-extract",
        "video": "video",
        "vision": "image",
    },
    "zai": {
        "agent": "agent",
        "assistants": "agent",
        "batch": "batch",
        "batch-output": "batch",
        "custom": "agent",
        "file": "agent",
        "file-extract": "agent",
        "fine-tune": "fine-tune",
        "image": "agent",
        "lambda": "agent",
        "training": "fine-tune",
        "user-data": "agent",
        "vision": "agent",
        "voice-clone-input": "voice-clone-input",
    },
}
"""Per platform: spelling (in lower case, with hyphens) to what the platform takes."""

_PROVIDERS = {"moonshot": "kimi", "zai": "glm"}
_PLATFORMS = {provider: platform for platform, provider in _PROVIDERS.items()}


def purpose_on(platform: str, spelling: str | Enum | None) -> str | None:
    """What a platform calls a purpose.

    Args:
        platform: "moonshot" or "zai", or the tool's "kimi" or "glm".
        spelling: As callers have it, also a member of `file_base.FilePurpose`. None or "" for none.

    Returns:
        The platform's word; None for none, so that the file's type decides.

    Raises:
        InvalidPurposeError: The platform has none of this name. Also a ValueError.
        InvalidRequestError: There is no such platform. Also a ValueError.

    Example:
        >>> purpose_on("moonshot", "assistants"), purpose_on("glm", "file")
        ('file-extract', 'agent')
    """
    if not spelling:
        return None
    platform = _PLATFORMS.get(platform, platform)
    known = PURPOSES.get(platform)
    if known is None:
        raise InvalidRequestError(f"no purposes are known of {platform!r}", hint=f"use one of {', '.join(PURPOSES)}")
    word = spelling.value if isinstance(spelling, Enum) else spelling
    purpose = known.get(str(word).strip().lower().replace("_", "-"))
    if purpose is None:
        raise InvalidPurposeError(
            f"{platform} has no purpose {word!r}; known are: {', '.join(known)}", provider=_PROVIDERS[platform]
        )
    return purpose
