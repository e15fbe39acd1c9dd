"""The system's keyring as a place where credentials are kept (extra "keyring")."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["SystemKeyring"]

_SERVICE = "exai-files"


class SystemKeyring:
    """What the core asks of a keyring; entries are named like `kimi-code/default`.

    Raises:
        ImportError: From each call, where Python's `keyring` is not installed.
    """

    def name(self) -> str:
        """For people."""
        backend = type(_library().get_keyring())
        return f"keyring {backend.__module__.rpartition('.')[2]}"

    def get(self, slot: str) -> str | None:
        """What is kept for an account."""
        kept: str | None = _library().get_password(_SERVICE, slot)
        return kept

    def has(self, slot: str) -> bool:
        """Whether anything is."""
        return self.get(slot) is not None

    def put(self, slot: str, entry: str) -> None:
        """Keeps it."""
        _library().set_password(_SERVICE, slot, entry)

    def remove(self, slot: str) -> bool:
        """Keeps it no more; gives whether there was anything."""
        if not self.has(slot):
            return False
        _library().delete_password(_SERVICE, slot)
        return True


def _library() -> ModuleType:
    import keyring  # an extra, and only where the settings want it

    return keyring
