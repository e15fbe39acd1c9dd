"""Work that blocks, beside the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`asyncio.to_thread`, without importing it before somebody awaits: it is the half of what an import here takes."""
    import asyncio

    return await asyncio.to_thread(work, *args, **kwargs)
