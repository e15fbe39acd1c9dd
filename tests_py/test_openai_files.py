"""`openai_files`: the SDK's own verbs, done by a client; each test runs waiting and awaited, many beside the SDK itself."""

from __future__ import annotations

import asyncio
import inspect
import io
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import exai_files
from exai_files.openai_facade import openai_files
from exai_files.openai_facade.wire import refusal

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the SDK's own, at import
    import openai

VERBS = ["create", "retrieve", "list", "delete", "content", "retrieve_content", "wait_for_processing"]
FIELDS = sorted(set(openai.types.FileObject.model_fields) - {"id"})


class Driven:
    """The file verbs of an SDK, waiting or awaited, called the same way."""

    def __init__(self, files: Any, loop: asyncio.AbstractEventLoop | None) -> None:
        self.files, self._loop = files, loop

    def __getattr__(self, verb: str) -> Any:
        return lambda *args, **options: self.done(getattr(self.files, verb)(*args, **options))

    def done(self, pending: Any) -> Any:
        async def settled() -> Any:
            return await pending

        return pending if self._loop is None else self._loop.run_until_complete(settled())

    def every(self, **options: Any) -> list[Any]:
        """What is listed, page after page."""

        async def walked() -> list[Any]:
            return [file async for file in self.files.list(**options)]

        return list(self.files.list(**options)) if self._loop is None else self._loop.run_until_complete(walked())


@pytest.fixture(params=["sync", "async"])
def loop(request) -> Iterator[asyncio.AbstractEventLoop | None]:
    """None for code that waits."""
    made = asyncio.new_event_loop() if request.param == "async" else None
    yield made
    if made is not None:
        made.run_until_complete(made.shutdown_default_executor())
        made.close()


@pytest.fixture
def made(sim, loop) -> Iterator[Any]:
    """Makes a client of ours and the facade over it."""
    clients = []

    def make(platform: str | None = "moonshot", **options: Any) -> tuple[Any, Driven]:
        clients.append(sim.client(**options) if loop is None else sim.async_client(**options))
        return clients[-1], Driven(openai_files(clients[-1], platform=platform), loop)

    yield make
    for client in clients:
        closing = client.close()
        if loop is not None:
            loop.run_until_complete(closing)


@pytest.fixture
def ours(made) -> Driven:
    return made()[1]


@pytest.fixture
def theirs(sim, loop) -> Iterator[Driven]:
    """The SDK itself."""
    cls, http = openai.OpenAI, openai.DefaultHttpxClient
    if loop is not None:
        cls, http = openai.AsyncOpenAI, openai.DefaultAsyncHttpxClient
    # Reading the system's authorities takes longer than a test.
    http_client = http(verify=False)
    client = cls(base_url=sim.moonshot.base_url, api_key=sim.moonshot.api_key, max_retries=0, http_client=http_client)
    driven = Driven(client.files, loop)
    yield driven
    driven.done(client.close())


# ===== the same shape =====


@pytest.mark.parametrize("cls", [openai.resources.Files, openai.resources.AsyncFiles], ids=["sync", "async"])
def test_every_verb_of_the_sdk_has_its_signature(sim, cls):
    with sim.client() as waiting:
        client = waiting if cls is openai.resources.Files else sim.async_client()
        facade = type(openai_files(client))
    assert issubclass(facade, cls)
    functions = {name for name, verb in inspect.getmembers(cls, inspect.isfunction) if not name.startswith("_")}
    assert functions >= set(VERBS)
    for name in functions:
        mine, theirs = getattr(facade, name), getattr(cls, name)
        assert inspect.signature(mine) == inspect.signature(theirs), name  # kinds, defaults and annotations, too
        assert inspect.iscoroutinefunction(mine) == inspect.iscoroutinefunction(theirs), name
        assert mine.__doc__ == theirs.__doc__, name
        assert getattr(mine, "__deprecated__", None) == getattr(theirs, "__deprecated__", None), name
    takes_extras = {name for name in functions if "extra_headers" in inspect.signature(getattr(cls, name)).parameters}
    assert {name for name in functions if getattr(facade, name) is not getattr(cls, name)} == takes_extras


def shown(file: Any) -> dict[str, Any]:
    return {name: getattr(file, name) or None for name in FIELDS} | {"class": type(file)}


def failure(call: Any) -> Any:
    try:
        return call()
    except openai.APIError as error:
        return type(error), getattr(error, "status_code", None)


def existing_code(files: Driven) -> Iterator[tuple[str, Any]]:
    """What a program does that knows only the SDK; what it sees."""
    a = files.create(file=("a.txt", b"one", "text/plain"), purpose="file-extract")
    b = files.create(file=io.BytesIO(b'{"n": 1}\n'), purpose="batch_output")
    c = files.create(file=("c.png", b"\x89PNG"), purpose="image", timeout=30)
    d = files.create(file=("d.txt", b"four"), purpose="file-extract", timeout=None, extra_headers={})
    yield "create", [shown(file) for file in (a, b, c, d)]
    names = {file.id: letter for letter, file in zip("abcd", (a, b, c, d), strict=True)}
    for params in ({}, {"limit": 2}, {"after": b.id}, {"after": a.id, "limit": 1}, {"after": d.id}, {"order": "asc"}):
        page = files.list(**params)
        yield f"list {params.keys()}", ([names[file.id] for file in page.data], page.has_more, type(page))
        yield f"every {params.keys()}", [names[file.id] for file in files.every(**params)]
    for purpose in ("file-extract", "image", "video"):
        yield f"list {purpose}", [shown(file) for file in files.list(purpose=purpose, limit=10).data]
    yield "retrieve", shown(files.retrieve(a.id))
    yield "by keyword", shown(files.retrieve(file_id=d.id, timeout=30.0))
    yield "ready", shown(files.wait_for_processing(a.id, poll_interval=0.01, max_wait_seconds=1))
    content = files.content(b.id)
    yield "content", (type(content), content.text, content.content, content.read(), content.json())
    yield "pieces", b"".join(content.iter_bytes(3))
    yield "extracted", files.content(a.id).json()["content"]
    with pytest.warns(DeprecationWarning, match="content"):
        yield "retrieve_content", files.retrieve_content(b.id)
    yield "no content", failure(lambda: files.content(c.id))
    gone = files.delete(a.id)
    yield "delete", (type(gone), gone.object, gone.deleted, gone.id == a.id)
    for verb in (files.retrieve, files.content, files.delete, files.wait_for_processing):
        yield "gone", failure(lambda verb=verb: verb(a.id))
    for verb in (files.retrieve, files.content, files.delete):
        with pytest.raises(ValueError, match="non-empty"):
            verb("")
    yield "left", [names[file.id] for file in files.every()]
    yield "purpose", failure(lambda: files.create(file=b"x", purpose="no such thing"))
    yield "empty", failure(lambda: files.create(file=b"", purpose="file-extract"))


def test_existing_code_sees_what_it_saw_before(sim, ours, theirs):
    sim.clock.freeze()
    # The word for it is the one difference: see `test_states_are_said_in_the_words_of_the_sdk`.
    sim.moonshot.set(status_word="processed")
    seen = dict(existing_code(theirs))
    sim.reset()
    assert dict(existing_code(ours)) == seen


def test_one_line_changes_existing_code(sim):
    with sim.client() as files, openai.OpenAI(base_url=sim.moonshot.base_url, api_key=sim.moonshot.api_key) as client:
        client.files = openai_files(files)
        ids = {client.files.create(file=("a.txt", b"hello"), purpose="file-extract").id for _ in range(3)}
    assert [file.id for file in sim.moonshot.files] == [*ids]


def test_raw_and_streaming_responses_are_there(sim):
    with sim.client() as client:
        files = openai_files(client)
        raw = files.with_raw_response.create(file=("a.jsonl", b'{"n": 1}\n'), purpose="batch")
        created = raw.parse()
        assert (raw.status_code, created.filename, sim.moonshot.bytes(created.id)) == (200, "a.jsonl", b'{"n": 1}\n')
        with files.with_streaming_response.content(created.id) as response:
            assert b"".join(response.iter_bytes()) == b'{"n": 1}\n'


def test_raw_and_streaming_responses_are_awaited(sim):
    async def main() -> None:
        async with sim.async_client() as client:
            files = openai_files(client)
            raw = await files.with_raw_response.create(file=("a.jsonl", b'{"n": 1}\n'), purpose="batch")
            async with files.with_streaming_response.content(raw.parse().id) as response:
                assert await response.read() == b'{"n": 1}\n'

    asyncio.run(main())


def test_content_is_written_to_a_file(ours, tmp_path):
    created = ours.create(file=("a.jsonl", b'{"n": 1}\n'), purpose="batch")
    ours.content(created.id).write_to_file(tmp_path / "a.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == b'{"n": 1}\n'


# ===== files that are created =====


def at_its_end(content: bytes) -> io.BytesIO:
    stream = io.BytesIO()
    stream.write(content)
    return stream


FORMS = {
    "bytes": lambda path: path.read_bytes(),
    "path": lambda path: path,
    "open file": lambda path: path.open("rb"),
    "stream at its end": lambda path: at_its_end(path.read_bytes()),
    "name, bytes": lambda path: ("n.txt", path.read_bytes()),
    "name, text": lambda path: ("n.txt", path.read_text(encoding="utf-8")),
    "name, stream": lambda path: ("n.txt", at_its_end(path.read_bytes())),
    "name, path": lambda path: ("n.txt", path),
    "name, open file, mime": lambda path: ("报告.txt", path.open("rb"), "text/plain"),
    "name, bytes, no mime": lambda path: ("n.txt", path.read_bytes(), None),
    "name, path, mime, headers": lambda path: ("n.txt", path, "text/plain", {}),
}


def test_every_form_of_file_arrives_as_from_the_sdk(sim, ours, theirs, tmp_path):
    def stored(files: Driven, form: str) -> tuple[str, int, bytes]:
        path = tmp_path / f"of {form}.txt"
        path.write_text(f"the {form} – täxt", encoding="utf-8")
        file = FORMS[form](path)
        created = files.create(file=file, purpose="file-extract")
        for part in file if isinstance(file, tuple) else (file,):
            getattr(part, "close", lambda: None)()
        return created.filename, created.bytes, sim.moonshot.bytes(created.id)

    sim.moonshot.set(rename_on_clash=False)
    assert {form: stored(ours, form) for form in FORMS} == {form: stored(theirs, form) for form in FORMS}


REFUSED = {
    "text": "a path.txt",
    "number": 3,
    "nothing": None,
    "text stream": io.StringIO("text"),
    "lost path": Path("/no/such/file"),
    "lost path with a name": ("n.txt", Path("/no/such/file")),
    "number with a name": ("n.txt", 3),
    "one-tuple": ("n.txt",),
}


def test_what_is_no_file_is_refused_as_by_the_sdk(sim, ours, theirs):
    def refused(files: Driven, file: Any) -> type[BaseException]:
        with pytest.raises(Exception) as raised:  # noqa: PT011  (whatever it is)
            files.create(file=file, purpose="file-extract")
        return raised.type

    mine = {form: refused(ours, file) for form, file in REFUSED.items()}
    assert not sim.truth()
    assert mine == {form: refused(theirs, file) for form, file in REFUSED.items()}


def test_a_file_is_known_by_the_name_it_was_first_given(sim, ours):
    first = ours.create(file=("first.txt", b"same"), purpose="file-extract")
    again = ours.create(file=("again.txt", b"same"), purpose="assistants")
    assert (again.id, again.filename) == (first.id, "first.txt")
    assert len(sim.truth(operation="upload")) == 1


def test_what_the_platform_lost_is_sent_anew(sim, ours):
    first = ours.create(file=("a.txt", b"same"), purpose="file-extract")
    sim.moonshot.vanish(first.id)
    again = ours.create(file=at_its_end(b"same"), purpose="file-extract")
    assert again.id != first.id
    assert [file.id for file in sim.moonshot.files] == [again.id]


def test_a_file_that_was_confirmed_lately_may_be_taken_at_its_word(sim):
    with sim.client() as client:
        files = openai_files(client, max_age=60)
        ids = {files.create(file=b"same", purpose="file-extract").id for _ in range(3)}
    assert len(ids) == 1
    assert not sim.truth(operation="get")


def test_a_path_is_remembered(sim, loop, made, tmp_path):
    client, files = made()
    path = tmp_path / "a.txt"
    path.write_bytes(b"of a path")
    created = files.create(file=path, purpose="file-extract")
    sim.moonshot.vanish(created.id)
    anew = client.ensure(created.id, platform="moonshot", max_age=0)
    assert sim.moonshot.bytes((anew if loop is None else loop.run_until_complete(anew)).remote_id) == b"of a path"


def test_a_lost_reply_makes_no_second_file(sim, ours):
    sim.moonshot.fault("lost_reply", when={"next": 1}, operation="upload")
    created = ours.create(file=("a.txt", b"once"), purpose="file-extract")
    assert [file.id for file in sim.moonshot.files] == [created.id]


def test_many_at_once_do_not_mix_up_their_files(sim):
    async def main() -> dict[str, bytes]:
        async with sim.async_client() as client:
            files = openai_files(client)
            names = [f"{n}.txt" for n in range(20)]
            created = await asyncio.gather(
                *(files.create(file=(name, io.BytesIO(name.encode())), purpose="file-extract") for name in names)
            )
        return {file.filename: sim.moonshot.bytes(file.id) for file in created}

    assert asyncio.run(main()) == {f"{n}.txt": f"{n}.txt".encode() for n in range(20)}


def test_a_cancelled_task_stops_its_upload(sim):
    sim.moonshot.fault("stall", operation="upload")

    async def main() -> None:
        async with sim.async_client() as client:
            creating = asyncio.ensure_future(openai_files(client).create(file=b"hello", purpose="file-extract"))
            while not sim.truth(operation="upload"):
                await asyncio.sleep(0)
            creating.cancel()
            with pytest.raises(asyncio.CancelledError):
                await creating

    asyncio.run(main())
    assert not sim.moonshot.files


def test_a_file_goes_when_it_has_expired(sim, ours):
    week = {"anchor": "created_at", "seconds": 7 * 86_400}
    created = ours.create(file=("a.txt", b"weekly"), purpose="file-extract", expires_after=week)
    assert created.expires_at == pytest.approx(time.time() + week["seconds"], abs=60)
    assert ours.retrieve(created.id).expires_at == ours.list().data[0].expires_at == created.expires_at
    kept = ours.create(file=("a.txt", b"weekly"), purpose="file-extract")
    assert (kept.id, kept.expires_at) == (created.id, None), "who says nothing wants it for ever"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"extra_headers": {"X-Trace": "1"}}, "extra_headers .*X-Trace", id="headers"),
        pytest.param({"extra_query": {"q": "1"}}, "extra_query .*'q'", id="query"),
        pytest.param({"extra_body": {"knowledge_id": 1}}, "extra_body .*knowledge_id", id="body"),
        pytest.param({"expires_after": {"anchor": "used_at", "seconds": 3600}}, "anchor", id="anchor"),
        pytest.param({"expires_after": {"anchor": "created_at"}}, "duration", id="no seconds"),
        pytest.param({"expires_after": {"anchor": "created_at", "seconds": -1}}, "duration", id="before now"),
        pytest.param({"file": ("n.txt", b"x", "text/plain", {"X-Part": "1"})}, "headers .*X-Part", id="part"),
        pytest.param({"purpose": None}, "purpose", id="purpose"),
        pytest.param({"of_next_year": 1}, "cannot honour of_next_year", id="later"),
    ],
)
def test_what_nobody_would_honour_is_refused(sim, arguments, message):
    with sim.client() as client, pytest.raises(exai_files.InvalidRequestError, match=message):
        openai_files(client).create(**{"file": b"hello", "purpose": "file-extract", **arguments})
    assert not sim.truth()


@pytest.mark.parametrize("verb", ["retrieve", "delete", "content", "retrieve_content"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_verb_refuses_extras(sim, ours, verb):
    with pytest.raises(exai_files.InvalidRequestError, match="Authorization"):
        getattr(ours, verb)("an-id", extra_headers={"Authorization": "Bearer another"})
    with pytest.raises(exai_files.InvalidRequestError, match="extra_query"):
        ours.list(extra_query={"page": 2})
    assert not sim.truth()


@pytest.mark.parametrize("request_of_later", ["/files/an-id/later", "/files?colour=red", "/models"])
def test_what_a_later_sdk_asks_for_is_refused(sim, request_of_later):
    with sim.client() as client, pytest.raises(openai.BadRequestError, match=r"there is no GET|cannot honour colour"):
        openai_files(client)._client.get(request_of_later, cast_to=object)
    assert not sim.truth()


# ===== files that are there =====


def test_states_are_said_in_the_words_of_the_sdk(sim, ours):
    created = ours.create(file=("a.txt", b"hello"), purpose="file-extract")
    assert created.status == "processed"
    for word, said in {"ready": "processed", "": "processed", "error": "error"}.items():
        sim.moonshot.set(status_word=word)
        assert ours.retrieve(created.id).status == ours.list().data[0].status == said
        assert ours.wait_for_processing(created.id).status == said
    sim.moonshot.set(processing_seconds=3600, processing_word="processing")
    assert ours.retrieve(created.id).status == ours.list().data[0].status == "uploaded"
    with pytest.raises(RuntimeError, match="Giving up"):
        ours.wait_for_processing(created.id, poll_interval=0.01, max_wait_seconds=0.05)


def test_newest_first_is_what_is_asked_for(sim, ours):
    for name in "abc":
        ours.create(file=(name, name.encode()), purpose="file-extract")
        sim.clock.advance(10)
    assert [file.filename for file in ours.every(order="desc", limit=2)] == ["c", "b", "a"]
    assert [file.filename for file in ours.every(order="asc", limit=1)] == ["a", "b", "c"]
    for wrong in ({"limit": 0}, {"limit": 10_001}, {"order": "size"}):
        with pytest.raises(openai.BadRequestError, match=f"{next(iter(wrong))} cannot be"):
            ours.list(**wrong)


def test_files_of_others_are_seen_read_and_deleted(sim, ours):
    foreign = sim.moonshot.seed_file(filename="foreign.txt", content=b"12345", purpose="file-extract")
    mine = ours.create(file=("mine.txt", b"mine"), purpose="file-extract")
    assert {file.id: file.filename for file in ours.every()} == {foreign.id: "foreign.txt", mine.id: "mine.txt"}
    seen = ours.retrieve(foreign.id)
    assert (seen.filename, seen.bytes, seen.purpose, seen.status) == ("foreign.txt", 5, "file-extract", "processed")
    assert "12345" in ours.content(foreign.id).text
    assert ours.delete(foreign.id).deleted
    assert [file.id for file in sim.moonshot.files] == [mine.id]
    for verb in (ours.retrieve, ours.content, ours.delete):
        with pytest.raises(openai.NotFoundError):
            verb(foreign.id)


@pytest.mark.parametrize("reference", ["name", "digest"])
def test_only_ids_are_ids(ours, made, loop, reference):
    client, files = made()
    files.create(file=("a.txt", b"hello"), purpose="file-extract")
    record = client.get("a.txt")
    record = record if loop is None else loop.run_until_complete(record)
    for verb in (files.retrieve, files.content, files.delete):
        with pytest.raises(openai.NotFoundError):
            verb(getattr(record, reference))


def test_what_is_leased_is_not_deleted(sim):
    with sim.client() as client:
        files = openai_files(client)
        created = files.create(file=("a.txt", b"hello"), purpose="file-extract")
        with client.lease(created.id, platform="moonshot", for_=60):
            with pytest.raises(openai.ConflictError, match="leased"):
                files.delete(created.id)
            assert len(sim.moonshot.files) == 1
        assert files.delete(created.id).deleted
    assert not sim.moonshot.files


def test_of_two_purposes_each_has_its_own_content_and_end(sim, ours):
    ids = [ours.create(file=("a.jsonl", b'{"n": 1}\n'), purpose=word).id for word in ("batch", "file-extract")]
    assert len(set(ids)) == 2
    assert [ours.retrieve(each).purpose for each in ids] == ["batch", "file-extract"]
    assert ours.content(ids[0]).content == b'{"n": 1}\n'
    assert "file_type" in ours.content(ids[1]).text, "what was extracted"
    assert ours.delete(ids[0]).deleted
    assert [file.id for file in sim.moonshot.files] == ids[1:]
    assert ours.retrieve(ids[1]).id == ids[1]


def test_what_the_platform_lost_is_not_found(sim, ours):
    created = ours.create(file=("a.txt", b"hello"), purpose="file-extract")
    sim.moonshot.vanish(created.id)
    for verb in (ours.content, ours.retrieve):
        with pytest.raises(openai.NotFoundError):
            verb(created.id)
    assert ours.delete(created.id).deleted, "that it is gone is what was wanted"
    with pytest.raises(openai.NotFoundError):
        ours.delete(created.id)


def test_zai_has_the_same_verbs(sim, made):
    _, files = made("glm")
    created = files.create(file=("a.txt", b"hello"), purpose="file-extract")
    assert (created.purpose, created.status, created.expires_at > time.time()) == ("agent", "processed", True)
    assert [shown(file) for file in files.every(purpose="assistants")] == [shown(created)]
    assert shown(files.retrieve(created.id)) == shown(files.wait_for_processing(created.id)) == shown(created)
    with pytest.raises(openai.BadRequestError, match="gives nothing back"):
        files.content(created.id)
    assert files.delete(created.id).deleted
    assert not sim.zai.files


# ===== what goes wrong =====

KINDS = [
    "invalid_request_error",
    "invalid_authentication_error",
    "permission_denied_error",
    "resource_not_found_error",
    "rate_limit_reached_error",
    "server_unavailable",
]


@pytest.mark.parametrize("kind", KINDS)
def test_clauses_for_errors_of_the_sdk_still_fit(sim, made, theirs, kind):
    _, files = made(settings={"retry": {"max_attempts": 1}}, timeout=0.2)

    def raised(verb: Any, **arguments: Any) -> tuple[type, int]:
        with pytest.raises(openai.APIStatusError) as caught:
            verb(**arguments)
        return caught.type, caught.value.status_code

    sim.moonshot.fault({"kind": "error", "type": kind}, operation="list")
    assert raised(files.list) == raised(theirs.list)
    sim.reset()
    sim.moonshot.fault({"kind": "error", "type": kind}, operation="upload")
    new = {"file": b"x", "purpose": "file-extract"}
    assert raised(files.create, **new) == raised(theirs.create, **new)


def test_an_upload_that_nobody_knows_the_end_of_is_a_connection_error(sim, made):
    _, files = made(settings={"retry": {"max_attempts": 1}}, timeout=0.2)
    sim.moonshot.fail_next(status=503, times=100)
    with pytest.raises(openai.APIConnectionError) as raised:
        files.create(file=b"x", purpose="file-extract")
    assert isinstance(raised.value.__cause__.__cause__, exai_files.OutcomeUnknownError)


def test_an_error_says_what_ours_says(sim, made):
    _, files = made()
    sim.moonshot.fail_next(status=429, retry_after=7, times=100, operation="list")
    with pytest.raises(openai.RateLimitError) as raised:
        files.list(timeout=0.2)
    error = raised.value
    assert error.response.headers["retry-after"] == "7.0"
    assert (error.body["platform"], error.body["operation"], len(error.body["attempts"]) >= 1) == (
        "moonshot",
        "list",
        True,
    )
    assert error.message.count("moonshot") >= 1


def test_a_throttled_request_is_repeated_by_the_client(sim, ours):
    sim.moonshot.fail_next(status=429, retry_after=0.01, times=1)
    assert ours.create(file=("a.txt", b"hello"), purpose="file-extract").filename == "a.txt"
    assert [entry["status"] for entry in sim.moonshot.requests] == [429, 200]


TIMEOUTS = {
    "number": (0.1, True),
    "phases": (openai.Timeout(5.0, read=0.1, write=0.05), True),
    "endless": (openai.Timeout(None, connect=0.01), False),
    "none": (None, False),
    "not given": (openai.NOT_GIVEN, False),
}


@pytest.mark.parametrize(("timeout", "is_short"), TIMEOUTS.values(), ids=TIMEOUTS)
def test_a_timeout_is_a_deadline(sim, made, timeout, is_short):
    _, files = made(timeout=600 if is_short else 0.1)
    sim.moonshot.fault("stall", operation="list")
    with pytest.raises(openai.APITimeoutError) as raised:
        files.list(timeout=timeout)
    assert isinstance(raised.value.__cause__.__cause__, exai_files.PlatformTimeoutError)


def test_nobody_there_is_a_connection_error(made):
    _, files = made(platforms={"moonshot": {"base_url": "http://127.0.0.1:9/v1"}}, timeout=0.2)
    with pytest.raises(openai.APIConnectionError) as raised:
        files.list()
    assert isinstance(raised.value.__cause__.__cause__, exai_files.PlatformError)


def test_a_closed_client_says_so(sim):
    with sim.client() as client:
        files = openai_files(client)
    with pytest.raises(openai.InternalServerError, match="closed"):
        files.list()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (exai_files.ConfigError("x"), 400),
        (exai_files.SourceChangedError("x"), 400),
        (exai_files.FileTooLargeError("x"), 400),
        (exai_files.QuotaExceededError("x"), 400),
        (exai_files.QuotaExceededError("x", status=429), 429),
        (exai_files.ReauthRequiredError("x"), 401),
        (exai_files.BillingError("x"), 402),
        (exai_files.NotFoundError("x", status=400), 404),
        (exai_files.SafetyLimitError("x"), 409),
        (exai_files.RateLimitError("x"), 429),
        (exai_files.ContractDriftError("x", status=200), 500),
        (exai_files.RegistryError("x"), 500),
        (exai_files.CircuitOpenError("x", retry_after=3.0), 503),
        (exai_files.PlatformUnavailableError("x", status=502), 502),
        (exai_files.PlatformUnavailableError("x"), None),
        (exai_files.OutcomeUnknownError("x"), None),
        (exai_files.PlatformTimeoutError("x", status=504), None),
        (exai_files.CancelledError("x"), None),
    ],
    ids=lambda value: value if isinstance(value, int) else type(value).__name__,
)
def test_every_error_has_its_status(error, status):
    answer = refusal(error)
    assert (answer and answer.status) == status


# ===== making one =====


def test_the_only_platform_that_is_connected_is_meant(sim, loop):
    platform = {"zai": {"base_url": sim.zai.base_url, "api_key": sim.zai.api_key}}
    cls = exai_files.Client if loop is None else exai_files.AsyncClient
    client = cls(registry=":memory:", environment={}, platforms=platform)
    files = Driven(openai_files(client), loop)
    files.create(file=("a.txt", b"hello"), purpose="agent")
    files.done(client.close())
    assert len(sim.zai.files) == 1


def test_of_several_platforms_moonshot_is_meant(sim, made):
    made(platform=None)[1].create(file=("a.txt", b"hello"), purpose="file-extract")
    assert (len(sim.moonshot.files), len(sim.zai.files)) == (1, 0)


def test_only_a_client_and_a_platform_will_do(sim):
    with sim.client() as client:
        with pytest.raises(exai_files.ConfigError, match="mooshot"):
            openai_files(client, platform="mooshot")
        with pytest.raises(exai_files.InvalidRequestError, match="duration"):
            openai_files(client, max_age=-1)
    with pytest.raises(exai_files.InvalidRequestError, match="AsyncClient"):
        openai_files(openai)


def test_without_the_sdk_it_says_what_is_missing(sim, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    monkeypatch.delitem(sys.modules, "exai_files.openai_facade.transport", raising=False)
    monkeypatch.delattr("exai_files.openai_facade.transport", raising=False)
    with sim.client() as client, pytest.raises(ImportError, match="pip install openai"):
        openai_files(client)
