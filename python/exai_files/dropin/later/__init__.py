"""Names that later versions of the existing tool export besides (dropin_contract.md, 2.1), a module per package.

Enumerations and records are whole. What kept a local SQLite file, or never worked, is there to be imported; calling it
raises `NotTakenOverError`, which says what to use.
"""

from __future__ import annotations

from exai_files.errors import UnsupportedError

__all__ = ["NotTakenOver", "NotTakenOverError"]


class NotTakenOverError(UnsupportedError, AttributeError):
    """A later version's name, whose behaviour this package has in another place."""


class NotTakenOver:
    """A class that can be imported and made, whatever its arguments, and does nothing else."""

    _instead: str

    def __init__(self, *_args: object, **_settings: object) -> None:
        """Takes what the later version takes."""

    def __getattr__(self, name: str) -> object:
        raise NotTakenOverError(f"{type(self).__name__}.{name} is not taken over", hint=self._instead)
