"""Files in a server of the Model Context Protocol: handles and links instead of base64, and progress on the way.

    server = MCPServer("papers")  # FastMCP of mcp 1.x
    files = exai_files.AsyncClient()
    exai_files.mcp.add_resources(server, files)

    @server.tool()
    async def upload(path: str, ctx: Context) -> ResourceLink:
        with exai_files.mcp.tool_errors():
            async with exai_files.mcp.progress(ctx) as show:
                return exai_files.mcp.link(await files.upload(path, to="moonshot", progress=show))

    @server.tool()
    async def platform_id(file: str) -> str:
        with exai_files.mcp.tool_errors():
            return (await files.ensure(exai_files.mcp.reference(file), platform="moonshot")).remote_id

What a model sees of a file is its handle, the first characters of its digest, as in `aifile://3f9a1c52e07b4d68`: it can
be passed to the next tool, or read as a resource. A handle that fits two files names neither. What was wrong, and what to
do, the model is told where `tool_errors` is around it: of errors it does not know, mcp 2 says only that there was one.

The protocol has no way of its own to hand over a file. SEP-2631, which would be one, is a draft; this module is where it
will be followed, and everything else of the package knows nothing of MCP. Needs `mcp`, 1.19 or newer, of either major
version.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from exai_files.errors import Error, FileTooLargeError, InvalidRequestError

if TYPE_CHECKING:
    from mcp.types import ResourceLink

    from exai_files.async_client import AsyncClient
    from exai_files.records import FileRecord, Transfer

__all__ = ["LIMIT", "SCHEME", "add_resources", "decoded", "link", "progress", "reference", "tool_errors", "uri"]

SCHEME = "aifile"

LIMIT = 256 * 1024
"""Bytes of a file that are put into a message at most, where nothing else is said."""

_HANDLE = 16
"""Hexadecimal characters: 64 bits, for which two of a million files are the same once in 37 million registries."""

_PATIENCE = 5.0
"""Seconds that a tool which is done waits for its last notification to go out."""

logger = logging.getLogger(__name__)


class ProgressContext(Protocol):
    """What a tool is given as its `Context`."""

    async def report_progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Send a progress notification, if the request asked for any."""


class ResourceServer(Protocol):
    """`MCPServer`, or `FastMCP`."""

    def resource(self, uri: str, *, name: str, description: str, mime_type: str) -> Callable[[Any], Any]:
        """Register what reads a resource."""


# ===== handles =====


def uri(file: FileRecord) -> str:
    """The resource that a file is, such as `aifile://3f9a1c52e07b4d68`."""
    return f"{SCHEME}://{file.digest.removeprefix('sha256:')[:_HANDLE]}"


def reference(file: str) -> str:
    """What a verb of the client takes as its file, from a tool's argument: the resource that it is, or its name.

    Raises:
        InvalidRequestError: It is a resource, but no handle.
    """
    resource = file.strip().removeprefix(f"{SCHEME}://")
    return file if resource == file.strip() else _digest(resource.removesuffix("/bytes").rstrip("/"))


def _digest(handle: str) -> str:
    """All of a handle or more, so that nobody finds a file by trying a few characters."""
    if not re.fullmatch(f"[0-9a-f]{{{_HANDLE},64}}", handle):
        raise InvalidRequestError(
            f"{handle!r} is no handle of a file", hint=f"{SCHEME}:// and {_HANDLE} hexadecimal characters, as in a link"
        )
    return f"sha256:{handle}"


def link(file: FileRecord) -> ResourceLink:
    """A file as part of a tool's result: its handle, name, type and size, and its whole digest in `_meta`."""
    from mcp.types import ResourceLink

    return ResourceLink.model_validate(
        {
            "type": "resource_link",
            "uri": uri(file),
            "name": file.name,
            "mimeType": file.mime,
            "size": file.size,
            "_meta": {"exai-files/digest": file.digest},
        }
    )


# ===== contents =====


def add_resources(server: ResourceServer, client: AsyncClient, *, limit: int = LIMIT) -> None:
    """Let a server's clients read files.

    `aifile://{handle}` is the text that a platform extracted; `aifile://{handle}/bytes` are the bytes that were uploaded,
    which most platforms keep to themselves.

    Args:
        server: `MCPServer`, or `FastMCP` of mcp 1.x. Whoever may read its resources may read every file by its handle.
        client: Where the files are.
        limit: Bytes that are put into a message at most; of more, the client is told to pass the handle to a tool.
    """

    @server.resource(
        f"{SCHEME}://{{handle}}",
        name="file",
        description="The text of a file, as a platform extracted it.",
        mime_type="text/plain",
    )
    async def file_text(handle: str) -> str:
        with _errors_as("ResourceError"):
            return await _text(client, handle, limit)

    @server.resource(
        f"{SCHEME}://{{handle}}/bytes",
        name="bytes of a file",
        description="The bytes of a file, where a platform gives them back.",
        mime_type="application/octet-stream",
    )
    async def file_bytes(handle: str) -> bytes:
        with _errors_as("ResourceError"):
            return await _bytes(client, handle, limit)


async def _text(client: AsyncClient, handle: str, limit: int) -> str:
    file = await client.get(_digest(handle))
    if file.replicas and all(replica.content == "bytes" for replica in file.replicas):
        _within(limit, file.size, repr(file.name))
    text = await client.text(file)
    _within(limit, len(text.encode()), f"the text of {file.name!r}")
    return text


async def _bytes(client: AsyncClient, handle: str, limit: int) -> bytes:
    file = await client.get(_digest(handle))
    _within(limit, file.size, repr(file.name))
    content = await client.content(file)
    if content.kind != "bytes":
        raise InvalidRequestError(
            f"{content.platform} gives back no bytes of {file.name!r}, only text",
            hint=f"read {uri(file)}",
        )
    _within(limit, len(content.data), repr(file.name))
    return content.data


def decoded(data: str, *, limit: int = LIMIT) -> bytes:
    """The bytes of a tool's argument that is base64 or a `data:` URI.

    Args:
        data: The argument.
        limit: Bytes that it may be at most. It is measured before it is decoded.

    Raises:
        FileTooLargeError: It is more.
        InvalidRequestError: It is not base64.
    """
    if data.startswith("data:"):
        head, comma, data = data.partition(",")
        if not comma or not head.endswith(";base64"):
            raise InvalidRequestError("the data: URI is not base64", hint="data:<type>;base64,<content>")
    _within(limit, len(data) * 3 // 4 - data[-2:].count("="), "the argument")
    try:
        return base64.b64decode(data, validate=True)
    except ValueError as error:
        raise InvalidRequestError(f"the argument is not base64: {error}", hint="pass a path or a handle") from None


def _within(limit: int, size: int, what: str) -> None:
    if size > limit:
        raise FileTooLargeError(
            f"{what} is {size:,} bytes, and {limit:,} is the most that goes into a message",
            hint=f"pass a path, or its handle ({SCHEME}://…), to a tool",
        )


@contextlib.contextmanager
def tool_errors() -> Iterator[None]:
    """What goes wrong in a tool, as `ToolError`: what was wrong, and what to do, reach the model."""
    with _errors_as("ToolError"):
        yield


@contextlib.contextmanager
def _errors_as(name: str) -> Iterator[None]:
    try:
        yield
    except Error as error:
        raise getattr(_exceptions(), name)(str(error)) from error


def _exceptions() -> ModuleType:
    try:
        return import_module("mcp.server.mcpserver.exceptions")
    except ModuleNotFoundError:
        return import_module("mcp.server.fastmcp.exceptions")


# ===== progress =====


@contextlib.asynccontextmanager
async def progress(context: ProgressContext) -> AsyncIterator[Callable[[Transfer], None]]:
    """Progress notifications of a tool that uploads, whatever the number of files and platforms.

    Args:
        context: The tool's `Context`.

    Yields:
        A callback for `progress=`; one may serve many uploads. Bytes are added up, and never told to be less than before.
        A notification is sent when the one before it is gone, so that a slow client gets fewer. One that cannot be sent
        stops the notifications, and not the upload.
    """
    reporter = _Reporter(context)
    task = asyncio.create_task(reporter.run())
    try:
        yield reporter.show
        reporter.end()
        await asyncio.wait({task}, timeout=_PATIENCE)
    finally:
        task.cancel()


class _Reporter:
    def __init__(self, context: ProgressContext) -> None:
        self._context = context
        self._transfers: dict[tuple[int, str], Transfer] = {}
        self._told = 0
        self._message = ""
        self._news = asyncio.Event()
        self._is_over = False

    def show(self, transfer: Transfer) -> None:
        self._transfers[transfer.upload, transfer.platform] = transfer
        self._message = f"{transfer.name}: {transfer.phase.replace('-', ' ')} ({transfer.platform})"
        self._news.set()

    def end(self) -> None:
        self._is_over = True
        self._news.set()

    async def run(self) -> None:
        is_last = False
        while not is_last:
            await self._news.wait()
            self._news.clear()
            is_last = self._is_over
            try:
                await self._report()
            except Exception:
                logger.debug("a progress notification could not be sent", exc_info=True)
                return

    async def _report(self) -> None:
        done = sum(map(_bytes_done, self._transfers.values()))
        if done > self._told:
            self._told = done
            total = sum(transfer.total for transfer in self._transfers.values())
            await self._context.report_progress(done, total, self._message)


def _bytes_done(transfer: Transfer) -> int:
    return transfer.total if transfer.phase in ("sent", "already-there") else transfer.sent
