"""What is uploaded, as the core takes it: a path, or bytes with a name.

A stream can be read once and may have to be sent twice, so it is kept meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Union

from exai_files.errors import InvalidRequestError

__all__ = ["Source", "entered", "readable"]

Source = Union[str, os.PathLike[str], bytes, bytearray, memoryview, IO[bytes]]
"""What can be uploaded: a path, the bytes themselves, or an open binary file."""

_SPOOL_BYTES = 4 << 20


@contextlib.contextmanager
def readable(source: Source, name: str | None) -> Iterator[dict[str, Any]]:
    """The source as the core takes it: a path, or bytes with a name."""
    if name is not None and not isinstance(name, str):
        raise InvalidRequestError(f"a name cannot be a {type(name).__name__}", hint="pass text")
    given = {"path": None, "data": None, "is_spool": False, "name": name}
    if isinstance(source, (bytes, bytearray, memoryview)):
        yield {**given, "data": bytes(source)}
    elif isinstance(source, (str, os.PathLike)):
        yield {**given, "path": Path(os.fsdecode(source))}
    elif hasattr(source, "read"):
        with _spooled(source) as kept:
            yield {**given, **kept, "name": name or _name_of(source)}
    else:
        raise InvalidRequestError(
            f"{type(source).__name__} cannot be uploaded", hint="pass a path, bytes or a file opened in binary mode"
        )


async def entered(spools: contextlib.ExitStack, source: Source, name: str | None) -> dict[str, Any]:
    """As `readable`; a stream, which may block, is read in a thread that a cancelled task need not wait for."""
    opening = readable(source, name)
    if isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)):
        return spools.enter_context(opening)
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[dict[str, Any]] = loop.create_future()

    def hand_over(given: dict[str, Any] | None, error: BaseException | None) -> None:
        if opened.cancelled():
            if given is not None:
                opening.__exit__(None, None, None)
        elif error is not None:
            opened.set_exception(error)
        elif given is not None:
            spools.push(opening)
            opened.set_result(given)

    def read() -> None:
        given, failure = None, None
        try:
            given = opening.__enter__()
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(hand_over, given, failure)

    threading.Thread(target=read, name="exai-files-reader", daemon=True).start()
    return await opened


@contextlib.contextmanager
def _spooled(file: IO[bytes]) -> Iterator[dict[str, Any]]:
    """A stream can be read once, but sending may take two attempts: keep it, on disk when it is large."""
    head = io.BytesIO()
    while head.tell() <= _SPOOL_BYTES and (piece := _read(file)):
        head.write(piece)
    if head.tell() <= _SPOOL_BYTES:
        yield {"data": head.getvalue()}
        return
    with tempfile.NamedTemporaryFile(prefix="exai-files-") as spool:
        spool.write(head.getbuffer())
        while piece := _read(file):
            spool.write(piece)
        spool.flush()
        yield {"path": Path(spool.name), "is_spool": True}


def _read(file: IO[bytes]) -> bytes:
    """The next piece; pipes and sockets give less than they are asked for."""
    try:
        piece = file.read(_SPOOL_BYTES)
    except (OSError, ValueError) as error:
        raise InvalidRequestError(
            f"the file cannot be read: {error}", hint="pass one that is open for reading"
        ) from error
    if piece is None:
        raise InvalidRequestError(
            "the file is in non-blocking mode and has nothing yet", hint="read it, and pass bytes"
        )
    if not isinstance(piece, bytes):
        raise InvalidRequestError("the file is opened in text mode", hint='open it in binary mode: open(path, "rb")')
    return piece


def _name_of(file: IO[bytes]) -> str | None:
    name = getattr(file, "name", None)
    # `<stdin>` names no file.
    return Path(name).name if isinstance(name, str) and not name.startswith("<") else None
