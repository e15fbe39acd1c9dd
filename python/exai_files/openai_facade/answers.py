"""What the requests of the SDK's file verbs are answered, out of a client.

Each answer is written once, as a coroutine. What it waits for is waited for (`Waiting`: the coroutine then runs through at
once) or awaited (`Awaiting`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from exai_files.calls import Call, Calls
from exai_files.errors import InvalidRequestError, NotFoundError, UnsupportedError
from exai_files.listing import file_filter
from exai_files.openai_facade.creation import Creation, creating
from exai_files.openai_facade.wire import Answer, answer_of, described, foreign, ordered, page, state
from exai_files.records import FileRecord, RemoteFile, Replica
from exai_files.sources import entered, readable

__all__ = ["Answers", "Asked", "Awaiting", "Waiting"]

T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """A request of the SDK's.

    Attributes:
        path: Its parts, such as `("files", "an-id", "content")`.
        timeout: Deadline in seconds; None where none is given.
    """

    method: str
    path: tuple[str, ...]
    query: Mapping[str, str]
    timeout: float | None
    begun: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float | None:
        """Seconds until the deadline."""
        return None if self.timeout is None else max(self.timeout - (time.monotonic() - self.begun), 0.0)


class Ways(Protocol):
    """How to come by what takes time."""

    async def result(self, call: Call[T]) -> T:
        """Of a call of the client's."""

    async def opened(self, spools: contextlib.ExitStack, creation: Creation) -> dict[str, Any]:
        """The file, as a call takes it."""


class Waiting:
    """Everything is waited for."""

    async def result(self, call: Call[T]) -> T:
        return call.wait()

    async def opened(self, spools: contextlib.ExitStack, creation: Creation) -> dict[str, Any]:
        return spools.enter_context(readable(creation.source, creation.name))


class Awaiting:
    """Everything is awaited."""

    async def result(self, call: Call[T]) -> T:
        return await call.run()

    async def opened(self, spools: contextlib.ExitStack, creation: Creation) -> dict[str, Any]:
        return await entered(spools, creation.source, creation.name)


class Answers:
    """Answers for the files of one platform.

    Args:
        calls: The client's.
        platform: Its name; None for the only one that is connected, else Moonshot.
        max_age: A file that is there already is asked for again when it was confirmed longer ago (seconds).
        ways: Whether calls are waited for or awaited.
    """

    def __init__(self, calls: Calls, platform: str | None, max_age: float, ways: Ways) -> None:
        self._calls, self._platform, self._max_age, self._ways = calls, platform, max_age, ways

    async def answer(self, asked: Asked) -> Answer:
        """The answer to one request.

        Raises:
            Error: There is none; see `refusal`.
        """
        if self._platform is None:
            connected = {info.platform for info in await self._ways.result(self._calls.platforms())}
            self._platform = connected.pop() if len(connected) == 1 else "moonshot"
        return await _Answering(self._calls, self._ways, self._platform, self._max_age, asked).answer()


@dataclass(frozen=True)
class _Answering:
    """One request, on its way to its answer."""

    calls: Calls
    ways: Ways
    platform: str
    max_age: float
    asked: Asked

    async def answer(self) -> Answer:
        match (self.asked.method, *self.asked.path):
            case ("POST", "files"):
                return answer_of(await self.create())
            case ("GET", "files"):
                return answer_of(await self.list())
            case ("GET", "files", file_id):
                return answer_of(await self.retrieve(file_id))
            case ("DELETE", "files", file_id):
                return answer_of(await self.delete(file_id))
            case ("GET", "files", file_id, "content"):
                return await self.content(file_id)
        place = "/".join(self.asked.path)
        raise UnsupportedError(
            f"there is no {self.asked.method} /{place} here", hint="use the SDK's own `files` for it"
        )

    async def create(self) -> dict[str, Any]:
        creation = creating.get()
        if creation is None:
            raise InvalidRequestError("no file was given", hint="call `create(file=…, purpose=…)`")
        with contextlib.ExitStack() as spools:
            given = await self.ways.opened(spools, creation)
            record, replica = await self._uploaded(creation, given)
            if replica.origin == "already-there":
                try:
                    replica = await self._alive(record, creation.purpose)
                except NotFoundError:  # lost there, which is known now
                    record, replica = await self._uploaded(creation, given)
        return described(record, replica)

    async def list(self) -> dict[str, Any]:
        query = self.asked.query
        unknown = set(query) - {"after", "limit", "order", "purpose"}
        if unknown:
            raise InvalidRequestError(f"list cannot honour {', '.join(sorted(unknown))}", hint="leave it out")
        known = await self._copies()
        remotes = await self.ways.result(self.calls.list_remote(self.platform, None, self.asked.left))
        files = [described(*known[each.id], *state(each)) if each.id in known else foreign(each) for each in remotes]
        return page(ordered(files, query.get("order")), self._purpose(query.get("purpose")), query)

    async def retrieve(self, file_id: str) -> dict[str, Any]:
        remote, copy = await self._remote(file_id), await self._copy(file_id)
        return described(*copy, *state(remote)) if copy else foreign(remote)

    async def content(self, file_id: str) -> Answer:
        content = await self.ways.result(self.calls.content_remote(self.platform, file_id, None, self.asked.left))
        media_type = "application/octet-stream" if content.kind == "bytes" else "application/json; charset=utf-8"
        return Answer(content.data, media_type=media_type)

    async def delete(self, file_id: str) -> dict[str, Any]:
        await self.ways.result(self.calls.delete_remote(self.platform, file_id, None, self.asked.left))
        return {"id": file_id, "object": "file", "deleted": True}

    async def _uploaded(self, creation: Creation, given: Mapping[str, Any]) -> tuple[FileRecord, Replica]:
        call = self.calls.upload(
            given, self.platform, creation.purpose, self.asked.left, None, keep_for=creation.keep_for
        )
        record, wanted = await self.ways.result(call), (self.platform, self._purpose(creation.purpose))
        return record, next(each for each in record.replicas if (each.platform, each.purpose) == wanted)

    async def _alive(self, record: FileRecord, purpose: str) -> Replica:
        call = self.calls.ensure(record, self.platform, purpose, self.max_age, 0.0, None, self.asked.left, None)
        return await self.ways.result(call)

    async def _copy(self, file_id: str) -> tuple[FileRecord, Replica] | None:
        try:
            record = await self.ways.result(self.calls.get(file_id))
        except NotFoundError:
            return None
        # What was found may have it as its name, or as the start of its digest.
        found = (each for each in record.replicas if (each.platform, each.remote_id) == (self.platform, file_id))
        return next(((record, replica) for replica in found), None)

    async def _copies(self) -> dict[str, tuple[FileRecord, Replica]]:
        """All that are known, by id."""
        copies: dict[str, tuple[FileRecord, Replica]] = {}
        wanted, after = _on(self.platform), None
        while page := await self.ways.result(self.calls.page(wanted, after)):
            for record in page:
                here = (each for each in record.replicas if each.platform == self.platform)
                copies.update({each.remote_id: (record, each) for each in here})
            after = page[-1].digest
        return copies

    async def _remote(self, file_id: str) -> RemoteFile:
        return await self.ways.result(self.calls.get_remote(self.platform, file_id, None, self.asked.left))

    def _purpose(self, spelling: str | None) -> str | None:
        """As the platform spells it; what it does not know stays as it is."""
        wanted = spelling and spelling.strip().lower()
        rules = self.calls.capabilities(self.platform)["purposes"]
        return next((rule["wire"] for rule in rules if wanted in (rule["wire"], *rule["aliases"])), wanted)


def _on(platform: str) -> str:
    return file_filter(
        platform=platform,
        tag=None,
        newer_than=None,
        older_than=None,
        larger_than=None,
        smaller_than=None,
        expires_within=None,
        status=None,
    )
