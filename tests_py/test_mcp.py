"""`exai_files.mcp` in a server and a client of the official SDK, of either major version, that talk in memory."""

from __future__ import annotations

import asyncio
import base64
from contextlib import asynccontextmanager

import pytest
from waiting import run

import exai_files
from exai_files import mcp as files_mcp
from exai_files.records import Transfer

try:
    from mcp import Client
    from mcp.server.mcpserver import Context, MCPServer

    def connected(server):
        return Client(server)
except ImportError:  # mcp 1.x
    from mcp.server.fastmcp import Context
    from mcp.server.fastmcp import FastMCP as MCPServer
    from mcp.shared.memory import create_connected_server_and_client_session

    def connected(server):
        return create_connected_server_and_client_session(server._mcp_server)


from mcp.types import ResourceLink

TEXT = b"Exactly once.\n"
BATCH = b'{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {}}\n'


@asynccontextmanager
async def served(sim, limit=files_mcp.LIMIT):
    """A server with our resources and a tool that uploads; its client, and the files."""
    server = MCPServer("papers")
    async with sim.async_client() as files:
        files_mcp.add_resources(server, files, limit=limit)

        @server.tool()
        async def upload(path: str, ctx: Context) -> ResourceLink:
            """Upload a file."""
            with files_mcp.tool_errors():
                async with files_mcp.progress(ctx) as show:
                    return files_mcp.link(await files.upload(path, to=["moonshot", "zai"], progress=show))

        @server.tool()
        async def moonshot_id(file: str) -> str:
            """The id of a file."""
            with files_mcp.tool_errors():
                return (await files.ensure(files_mcp.reference(file), platform="moonshot")).remote_id

        async with connected(server) as session:
            yield session, files


async def read(session, uri):
    return (await session.read_resource(uri)).contents[0]


async def refusal(session, uri):
    with pytest.raises(Exception) as refused:  # noqa: PT011  (McpError or MCPError)
        await session.read_resource(uri)
    return str(refused.value)


def as_json(message):
    return message.model_dump(mode="json", by_alias=True, exclude_none=True)


def test_a_tool_gives_a_link_and_the_next_tool_takes_it(sim, tmp_path):
    path = tmp_path / "paper.txt"
    path.write_bytes(TEXT)

    async def main():
        async with served(sim) as (session, files):
            result = await session.call_tool("upload", {"path": str(path)})
            link = as_json(result.content[0])
            record = await files.get("paper.txt")
            assert link["uri"] == f"aifile://{record.digest[7:23]}"
            assert {**link, "uri": ""} == {
                "type": "resource_link",
                "uri": "",
                "name": "paper.txt",
                "mimeType": "text/plain",
                "size": len(TEXT),
                "_meta": {"exai-files/digest": record.digest},
            }
            for argument in (link["uri"], f"{link['uri']}/bytes", link["uri"][9:], "paper.txt"):
                answer = await session.call_tool("moonshot_id", {"file": argument})
                assert answer.content[0].text == record.on("moonshot").remote_id

    run(main())
    assert len(sim.moonshot.files) == len(sim.zai.files) == 1


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("upload", {"path": "/nowhere/a.txt"}, "/nowhere/a.txt"),
        ("moonshot_id", {"file": "aifile://3f9a1c52e07b4d68"}, "no file"),
        ("moonshot_id", {"file": "aifile://3f9a1c"}, "'3f9a1c' is no handle of a file; aifile:// and 16"),
        ("moonshot_id", {"file": "aifile://"}, "'' is no handle"),
    ],
)
def test_what_is_wrong_in_a_tool_reaches_the_model(sim, tool, arguments, said):
    async def main():
        async with served(sim) as (session, files):
            await files.upload(TEXT, name="paper.txt", to="moonshot")
            answer = as_json(await session.call_tool(tool, arguments))
            assert answer["isError"]
            assert said in answer["content"][0]["text"]

    run(main())


def test_no_file_is_found_by_trying_a_few_characters(sim):
    async def main():
        async with served(sim) as (session, files):
            paper = await files.upload(TEXT, name="paper.txt", to="moonshot")
            assert (await read(session, f"aifile://{paper.digest[7:]}")).text
            for length in (6, 15):
                assert "is no handle" in await refusal(session, f"aifile://{paper.digest[7 : 7 + length]}")

    run(main())


def test_progress_is_told_and_never_goes_back(sim, tmp_path):
    path = tmp_path / "large.txt"
    path.write_bytes(b"0123456789abcdef" * 65_536)
    told = []

    async def on_progress(progress, total, message):
        told.append((progress, total, message))

    async def main():
        async with served(sim) as (session, _):
            await session.call_tool("upload", {"path": str(path)}, progress_callback=on_progress)

    run(main())
    done = [progress for progress, _, _ in told]
    assert done == sorted(set(done))
    assert told[-1][:2] == (2 << 20, 2 << 20)
    assert "large.txt: sent (" in told[-1][2]


def test_contents_are_resources(sim):
    async def main():
        async with served(sim) as (session, files):
            batch = await files.upload(BATCH, name="batch.jsonl", to="moonshot", purpose="batch")
            paper = await files.upload(TEXT, name="paper.txt", to="moonshot")
            templates = as_json(await session.list_resource_templates())["resourceTemplates"]
            assert [one["uriTemplate"] for one in templates] == ["aifile://{handle}", "aifile://{handle}/bytes"]
            assert (await read(session, files_mcp.uri(paper))).text == await files.text(paper)
            assert (await read(session, files_mcp.uri(batch))).text == BATCH.decode()
            assert base64.b64decode((await read(session, f"{files_mcp.uri(batch)}/bytes")).blob) == BATCH
            refused = await refusal(session, f"{files_mcp.uri(paper)}/bytes")
            assert f"gives back no bytes of 'paper.txt', only text; read {files_mcp.uri(paper)}" in refused

    run(main())


def test_of_what_is_too_large_nothing_is_read(sim):
    async def main():
        async with served(sim, limit=len(BATCH) - 1) as (session, files):
            batch = await files.upload(BATCH, name="batch.jsonl", to="moonshot", purpose="batch")
            before = len(sim.moonshot.requests)
            refused = await refusal(session, f"{files_mcp.uri(batch)}/bytes")
            assert "'batch.jsonl' is 80 bytes, and 79 is the most" in refused
            assert len(sim.moonshot.requests) == before
            assert "'batch.jsonl' is 80 bytes" in await refusal(session, files_mcp.uri(batch))
            assert len(sim.moonshot.requests) == before
            paper = await files.upload(b"x" * len(BATCH), name="x.txt", to="moonshot")
            assert "the text of 'x.txt' is 80 bytes" in await refusal(session, files_mcp.uri(paper))

    run(main())


def test_a_handle_is_never_another_files_name(sim):
    async def main():
        async with served(sim) as (session, files):
            for name in ("3f9a1c52e07b4d68", "sha256:3f9a1c52e07b4d68"):
                await files.upload(name.encode(), name=name, to="moonshot")
            assert "no file" in await refusal(session, "aifile://3f9a1c52e07b4d68")
            with pytest.raises(exai_files.NotFoundError):
                await files.get(files_mcp.reference("aifile://3f9a1c52e07b4d68"))
            assert (await files.get("3f9a1c52e07b4d68")).name == "3f9a1c52e07b4d68"

    run(main())


@pytest.mark.parametrize("head", ["", "data:image/png;base64,"])
def test_base64_is_measured_before_it_is_decoded(head):
    for size in range(1, 9):
        data = head + base64.b64encode(b"x" * size).decode()
        assert files_mcp.decoded(data, limit=size) == b"x" * size
        with pytest.raises(exai_files.FileTooLargeError, match=f"is {size} bytes, and {size - 1}"):
            files_mcp.decoded(data, limit=size - 1)


@pytest.mark.parametrize("data", ["no base64!", "AAA", "data:text/plain,abc", "data:;base64", "ä"])
def test_what_is_no_base64_is_refused(data):
    with pytest.raises(exai_files.InvalidRequestError):
        files_mcp.decoded(data)


def transfer(sent, phase="sending"):
    return Transfer(platform="moonshot", name="a.txt", sent=sent, total=10, phase=phase, upload=1)


def test_the_last_notification_waits_for_the_one_before_it():
    told = []

    class Slow:
        async def report_progress(self, progress, total=None, message=None):
            for _ in range(9):
                await asyncio.sleep(0)
            told.append(progress)

    async def main():
        async with files_mcp.progress(Slow()) as show:
            show(transfer(3))
            await asyncio.sleep(0)
            show(transfer(10, "sent"))

    run(main())
    assert told == [3, 10]


def test_a_tool_that_is_done_waits_for_no_client_for_ever(monkeypatch):
    monkeypatch.setattr(files_mcp, "_PATIENCE", 0.01)

    class Stuck:
        async def report_progress(self, progress, total=None, message=None):
            await asyncio.Event().wait()

    async def main():
        async with files_mcp.progress(Stuck()) as show:
            show(transfer(10, "sent"))

    run(main())


def test_a_notification_that_cannot_be_sent_stops_no_upload():
    class Gone:
        async def report_progress(self, progress, total=None, message=None):
            raise ConnectionError("the client is gone")

    async def main():
        async with files_mcp.progress(Gone()) as show:
            show(transfer(3))
            await asyncio.sleep(0)
            show(transfer(10, "sent"))
        return True

    assert run(main())


def test_a_tool_that_is_cancelled_waits_for_no_notification():
    class Stuck:
        async def report_progress(self, progress, total=None, message=None):
            await asyncio.Event().wait()

    async def tool():
        async with files_mcp.progress(Stuck()) as show:
            show(transfer(3))
            await asyncio.Event().wait()

    async def main():
        before = asyncio.all_tasks()
        task = asyncio.create_task(tool())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before, "the notifying task is left"

    run(main())
