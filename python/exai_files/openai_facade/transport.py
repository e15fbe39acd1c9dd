"""The SDK's own file verbs, whose requests go to `Answers` and not to the network.

Only the file of a `create` goes around the SDK, which would read it into memory and forget where it came from.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Coroutine, Iterator, Mapping
from importlib import import_module
from typing import Any, TypeVar, cast
from urllib.parse import unquote

import openai
import openai.resources
from typing_extensions import deprecated

from exai_files.calls import Calls
from exai_files.errors import Error, InvalidRequestError, PlatformTimeoutError
from exai_files.openai_facade.answers import Answers, Asked, Awaiting, Waiting
from exai_files.openai_facade.creation import creating, creation_of
from exai_files.openai_facade.wire import Answer, refusal

__all__ = ["awaited", "waiting"]

T = TypeVar("T")

# Nothing is sent to it: a name that leads nowhere, should that ever change.
_NOWHERE: dict[str, Any] = {
    "base_url": "https://exai-files.invalid",
    "api_key": "none",
    "max_retries": 0,
    "timeout": None,
}

_EXTRAS = ("extra_headers", "extra_query", "extra_body")

# `httpx`, or what the installed SDK has in its place.
_httpx: Any = import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])


def waiting(calls: Calls, platform: str | None, max_age: float) -> openai.resources.Files:
    """The verbs of the SDK for code that waits."""
    answers = Answers(calls, platform, max_age, Waiting())

    def handle(request: Any) -> Any:  # noqa: ANN401  (httpx')
        return _finished(_answered(answers, request))

    http_client = openai.DefaultHttpxClient(transport=_httpx.MockTransport(handle))
    return _Files(openai.OpenAI(http_client=http_client, **_NOWHERE))


def awaited(calls: Calls, platform: str | None, max_age: float) -> openai.resources.AsyncFiles:
    """The verbs of the SDK for code that awaits."""
    answers = Answers(calls, platform, max_age, Awaiting())
    transport = _httpx.MockTransport(functools.partial(_answered, answers))
    http_client = openai.DefaultAsyncHttpxClient(transport=transport)
    return _AsyncFiles(openai.AsyncOpenAI(http_client=http_client, **_NOWHERE))


def _finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never awaits anything which is not there at once."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast(T, done.value)
    raise RuntimeError("a call that waits was awaited")


# ===== verbs =====


def _handing_over(base: type[T]) -> type[T]:
    """The SDK's class, each verb of which lets us see its arguments before it makes a request of them."""
    verbs = {
        name: _seen(verb)
        for name, verb in vars(base).items()
        if inspect.isfunction(verb) and "extra_headers" in inspect.signature(verb).parameters
    }
    return cast(type[T], type(base.__name__, (base,), {**verbs, "__doc__": base.__doc__, "__module__": __name__}))


def _seen(verb: Any) -> Any:  # noqa: ANN401  (a function of any signature gives one of the same)
    advice = getattr(verb, "__deprecated__", None)
    if advice is None:
        return _wrapped(verb)
    # The warning is about the line that calls it, not about the one in here.
    return deprecated(advice)(_wrapped(inspect.unwrap(verb)))


def _wrapped(verb: Any) -> Any:  # noqa: ANN401  (likewise)
    if inspect.iscoroutinefunction(verb):

        @functools.wraps(verb)
        async def call(self: object, *args: object, **options: object) -> object:
            with _seeing(options) as passed:
                return await verb(self, *args, **passed)

    else:

        @functools.wraps(verb)
        def call(self: object, *args: object, **options: object) -> object:
            with _seeing(options) as passed:
                return verb(self, *args, **passed)

    return call


_Files = _handing_over(openai.resources.Files)
_AsyncFiles = _handing_over(openai.resources.AsyncFiles)


@contextlib.contextmanager
def _seeing(options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Refuses what nobody would honour, and keeps the file of a `create` for the one who answers."""
    given = {name: value for name, value in options.items() if _is_given(value)}
    _refuse_extras(given)
    arguments = {name: value for name, value in given.items() if name not in (*_EXTRAS, "timeout")}
    creation = creation_of(arguments) if "file" in arguments else None
    if creation is None:
        yield {**options}
        return
    token = creating.set(creation)
    try:
        yield {**options, "file": b""}
    finally:
        creating.reset(token)


def _is_given(value: object) -> bool:
    # Versions before 2 have no Omit.
    return not isinstance(value, (openai.NotGiven, getattr(openai, "Omit", openai.NotGiven)))


def _refuse_extras(given: Mapping[str, Any]) -> None:
    for name in _EXTRAS:
        # In headers with that in their names the SDK talks to itself, of `with_raw_response` for one.
        found = [key for key in given.get(name) or () if "stainless" not in str(key).lower()]
        if found:
            raise InvalidRequestError(
                f"{name} cannot be passed on: {', '.join(map(repr, found))}",
                hint="leave it out, or use the SDK's own `files` for this call",
            )


# ===== requests and responses =====


async def _answered(answers: Answers, request: Any) -> Any:  # noqa: ANN401  (httpx')
    try:
        answer = await answers.answer(_asked(request))
    except Error as error:
        refused = refusal(error)
        if refused is None:
            kind = _httpx.ReadTimeout if isinstance(error, PlatformTimeoutError) else _httpx.ConnectError
            raise kind(str(error), request=request) from error
        answer = refused
    return _response(answer, request)


def _asked(request: Any) -> Asked:  # noqa: ANN401  (httpx')
    path = request.url.raw_path.decode("ascii").partition("?")[0]
    return Asked(
        method=request.method,
        path=tuple(map(unquote, path.strip("/").split("/"))),
        query=dict(request.url.params),
        timeout=_deadline(request.extensions.get("timeout", {})),
    )


def _deadline(timeouts: Mapping[str, float | None]) -> float | None:
    reading, writing = timeouts.get("read"), timeouts.get("write")
    return None if reading is None or writing is None else max(reading, writing)


def _response(answer: Answer, request: Any) -> Any:  # noqa: ANN401  (httpx')
    headers = {"content-type": answer.media_type, **answer.headers}
    return _httpx.Response(answer.status, headers=headers, content=answer.body, request=request)
