"""The existing EXAI tool on exai-files: modules with its names and signatures, and two ways to put them in its place.

    python -m exai_files.dropin install PATH/TO/TOOL     # its stub modules become one line each; `uninstall` undoes it
    exai_files.dropin.activate()                         # in this process only; no file is touched

Both say what they replaced and what they did not find. The tool's callers stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exai_files.dropin.names import Place

__all__ = ["activate", "deactivate"]


def activate() -> list[Place]:
    """From now on whoever imports the tool's modules in this process gets ours.

    Call it first thing. Modules that were imported before have their names replaced; who took a name from one of them
    by then keeps the old object, and the report says who. A second call changes nothing.

    Returns:
        What is replaced, and what the tool does not have.

    Example:
        >>> for place in exai_files.dropin.activate():
        ...     print(place)
    """
    from exai_files.dropin import activation

    return activation.activate()


def deactivate() -> None:
    """Takes `activate` back, for tests: modules that others have imported from ours keep what they have."""
    from exai_files.dropin import activation

    activation.deactivate()
