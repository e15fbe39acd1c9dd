"""Read by type checkers only: what stands in for the SDK's `files` is the SDK's."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import openai
from openai.resources import AsyncFiles, Files
from openai.types import FileDeleted, FileObject

import exai_files
from exai_files.openai_facade import openai_files


def waiting(files: exai_files.Client, client: openai.OpenAI) -> None:
    moonshot: Files = openai_files(files, platform="moonshot", max_age=timedelta(minutes=1))
    client.files = openai_files(files)  # type: ignore[misc]  # the SDK calls it a property
    created: FileObject = moonshot.create(file=Path("a.pdf"), purpose="assistants", timeout=30)
    for file in moonshot.list(limit=100, order="desc"):
        print(file.id, file.filename)
    text: str = moonshot.content(created.id).text
    gone: FileDeleted = moonshot.delete(created.id)
    print(text, gone.deleted, moonshot.with_raw_response.retrieve(created.id).headers)


async def awaited(files: exai_files.AsyncClient, client: openai.AsyncOpenAI) -> None:
    zai: AsyncFiles = openai_files(files, platform="zai")
    client.files = openai_files(files)  # type: ignore[misc]  # the SDK calls it a property
    created: FileObject = await zai.create(file=("a.txt", b"hello"), purpose="user_data")
    async for file in zai.list():
        print(file.status)
    print(await zai.wait_for_processing(created.id))
