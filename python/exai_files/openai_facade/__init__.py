"""`openai_files`: the file verbs of the `openai` package, done by a client of ours.

    client = openai.OpenAI(base_url="https://api.moonshot.ai/v1", api_key=key)
    client.files = exai_files.openai_files(files)  # the line that is new

(Type checkers call `files` read-only; it is not. `client.with_options(…)` makes a client that has the SDK's own again.)

What comes back is the SDK's own `Files` (`AsyncFiles` for an `AsyncClient`) of the version installed, whose requests are
answered by the client instead of by the network. So there is nothing to keep in step: signatures, returned types, pages,
`with_raw_response`, `with_streaming_response` and exceptions are the SDK's. A verb or an argument that a later version adds
is there at once; one that the client cannot honour is refused when it is used, with `BadRequestError` or
`InvalidRequestError`. Without the SDK there are no such call sites, so `openai` is needed; it is imported by the first call.

What is different from the SDK alone:

- `create` of bytes that are there already sends nothing and gives the id they have. The platform is asked for it first, and
  what it has lost is sent anew. A reply that is lost makes no second file. Requests keep the account's pace, and are
  repeated by the client, never by the SDK.
- A path is read by the client, piece by piece, and remembered; the SDK would read it into memory. A type given for a file is
  not needed: the platform is told what the bytes and the name say.
- `purpose` may be any spelling the client knows ("assistants" is Moonshot's "file-extract"), and is answered in the
  platform's. `filename` is the name the bytes were first given, without the tag they carry on the platform.
- `status` is the SDK's word ("uploaded", "processed" or "error") whatever the platform calls it: with Moonshot's "ready",
  `wait_for_processing` of the SDK alone waits for half an hour and fails.
- `expires_after` is how long the file is wanted (`for_` of `upload`); `expires_at` is when it goes, for that or because its
  platform drops it then.
- `list` shows everything on the account, in the order asked for, whoever put it there.
- `delete` refuses what is leased or held (409). One that is gone already counts as deleted.
- `timeout` is the deadline of the whole call: the longer of the read and the write timeout, where both are given.
- `extra_headers`, `extra_query` and `extra_body` have nobody to go to, and raise `InvalidRequestError` unless they are empty.

Exceptions are those that `except openai.…` clauses wait for:

```
what the platform answered              the class of its status, such as BadRequestError for 400
NotFoundError                          NotFoundError (404)
InvalidRequestError, ConfigError, FileTooLargeError, UnsupportedError, QuotaExceededError, ContentRejectedError
                                       BadRequestError (400)
AuthenticationError, InvalidTokenError AuthenticationError (401)
BillingError                           APIStatusError (402)
PermissionDeniedError                  PermissionDeniedError (403)
ConflictError, SafetyLimitError        ConflictError (409)
RateLimitError                         RateLimitError (429), with the header retry-after
CircuitOpenError                       InternalServerError (503), with the header retry-after
any other                              InternalServerError (500)
PlatformTimeoutError                   APITimeoutError
PlatformUnavailableError and OutcomeUnknownError without an answer, CancelledError
                                       APIConnectionError
```

`body` has our message, with the hint, and the platform, operation and attempts; `code` and `request_id` are the platform's.
An error without a status has ours in its `__cause__`s. A path that leads nowhere raises what Python says, as in the SDK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from exai_files.arguments import Seconds, span
from exai_files.async_client import AsyncClient
from exai_files.client import Client
from exai_files.errors import InvalidRequestError

if TYPE_CHECKING:
    from openai.resources import AsyncFiles, Files

__all__ = ["openai_files"]


@overload
def openai_files(client: Client, *, platform: str | None = None, max_age: Seconds = 0.0) -> Files: ...
@overload
def openai_files(client: AsyncClient, *, platform: str | None = None, max_age: Seconds = 0.0) -> AsyncFiles: ...
def openai_files(
    client: Client | AsyncClient, *, platform: str | None = None, max_age: Seconds = 0.0
) -> Files | AsyncFiles:
    """The `files` of an `openai` client, done by a client of ours; see `help(exai_files.openai_facade)`.

    Args:
        client: Does the work, and stays open for as long as it is used. An `AsyncClient` gives verbs that are awaited.
        platform: Whose files. Default: those of the only platform that is connected, else of "moonshot".
        max_age: A file that is there already is asked for again by `create`, when the platform confirmed it longer ago
            than this (seconds).

    Returns:
        The SDK's own `Files` or `AsyncFiles`.

    Raises:
        ImportError: The package `openai` is not installed.
        ConfigError: There is no such platform.

    Example:
        >>> moonshot = exai_files.openai_files(files, platform="moonshot")
        >>> moonshot.create(file=Path("paper.pdf"), purpose="file-extract").status
        'processed'
    """
    if not isinstance(client, (Client, AsyncClient)):
        raise InvalidRequestError(
            f"a {type(client).__name__} cannot do this", hint="pass an exai_files.Client or AsyncClient"
        )
    name = None if platform is None else client.capabilities(platform)["platform"]
    try:
        from exai_files.openai_facade import transport
    except ModuleNotFoundError as error:
        if error.name != "openai":
            raise
        raise ImportError("openai_files needs the package openai: `pip install openai`", name="openai") from error
    if isinstance(client, Client):
        return transport.waiting(client._calls, name, span(max_age))
    return transport.awaited(client._calls, name, span(max_age))
