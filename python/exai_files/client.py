"""`Client`: every verb, waited for.

The verbs are in the modules named like what they are about; here they come together. The waiting happens in Rust, so it
works inside a running event loop (Jupyter) too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from exai_files.arguments import Seconds
from exai_files.audit import Audit
from exai_files.auth import Auth
from exai_files.calls import Calls
from exai_files.copies import Copies
from exai_files.files import Files
from exai_files.holds import Holding
from exai_files.lifecycle import Lifecycle
from exai_files.platforms import Platforms
from exai_files.records import Setting
from exai_files.recovery import Recovery
from exai_files.status import Status, asked
from exai_files.uploads import Uploads
from exai_files.users import Actor, UserQuota
from exai_files.watching import Hook, Watch

__all__ = ["Client"]


class Client(Uploads, Files, Holding, Platforms):
    """Files on AI platforms, for code that waits.

    Keys come from `MOONSHOT_API_KEY` (or `KIMI_API_KEY`), `ZAI_API_KEY` (or `GLM_API_KEY`) and `ZHIPUAI_API_KEY`; the
    registry is a file in the user's data directory. A client is thread-safe; `with` is for prompt closing.

    Args:
        config_file: Configuration file. Default: `EXAI_FILES_CONFIG`, `./exai-files.toml`, then the user's.
        registry: Registry file, ":memory:", or the URL of a PostgreSQL database for several hosts.
        platforms: Settings by platform, e.g. `{"moonshot": {"api_key": key, "tier": 1}}`. A key may be a function without
            arguments, also an async one, which runs in a loop of its own: it is called for the first request, and again
            when the platform refuses what it gave.
        timeout: Default deadline of each call, in seconds or as timedelta: queues, retries and transfer together.
        settings: Any other settings, nested as in the configuration file.
        environment: Read instead of `os.environ`.

    Raises:
        ConfigError: With every fault of the configuration at once, each with its origin.
        RegistryError: The registry cannot be opened.

    Example:
        >>> with exai_files.Simulator() as simulator, simulator.client() as files:
        ...     record = files.upload(b"hello", name="hello.txt", to="moonshot")
        ...     record.size
        5
    """

    def __init__(
        self,
        *,
        config_file: str | os.PathLike[str] | None = None,
        registry: str | os.PathLike[str] | None = None,
        platforms: Mapping[str, Mapping[str, Any]] | None = None,
        timeout: Seconds | None = None,
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._calls = Calls(
            config_file=config_file,
            registry=registry,
            platforms=platforms,
            timeout=timeout,
            settings=settings,
            environment=environment,
        )

    def watch(
        self,
        *,
        every: Seconds = 300.0,
        heal: bool = False,
        max_lost: int = 100,
        samples: int = 0,
        hooks: Mapping[str, Hook] | None = None,
    ) -> Watch:
        """Recover, look after every account's files, keep leases and sign the audit log, over and over.

        Several that watch share the work. An account is looked at by a listing, so that a thousand files cost a request
        or two; what is missing from it is asked for once more before it is given up.

        Args:
            every: Seconds between two looks at an account, a tenth more or less.
            heal: Make lost files anew where their bytes are to be had, in place of only noting that they are gone.
            max_lost: Files of an account that may be given up at one look; more is rather the platform's mistake.
            samples: Copies of each account that are read back at one look and compared, those read longest ago first, where
                platforms give bytes back.
            hooks: By event, what to call for a notice.

        Returns:
            What to iterate over, for as long as it shall watch; `look()` is one round. A round that the registry fails is
            logged and the next one goes on, until the client is closed.

        Raises:
            InvalidRequestError: There is no such event, or its hook cannot be called.
        """
        return Watch(self._calls, every, heal, max_lost, samples, hooks)

    def status(self) -> Status:
        """How everything is: accounts and their room, what expires, what is unfinished, the audit log.

        The registry is asked, and no platform. In Jupyter it shows itself as a table.
        """
        return asked(self._calls).wait()

    @property
    def recovery(self) -> Recovery:
        """What was cut short: finish it, see it, give it up."""
        return Recovery(self._calls.core.recovery())

    @property
    def lifecycle(self) -> Lifecycle:
        """How long files stay: time limits, rules, archiving, erasing."""
        return Lifecycle(self._calls.core.lifecycle())

    @property
    def copies(self) -> Copies:
        """The kept copies that lost files are made anew from."""
        return Copies(self._calls.core.copies())

    @property
    def audit(self) -> Audit:
        """What happened to files, in a log that nobody can alter quietly."""
        return Audit(self._calls.core.audit())

    def acting_as(self, actor: Actor | str) -> Client:
        """The same client, on somebody's behalf: the audit log has them, and their quota counts.

        It shares everything else; closing one closes both.

        Args:
            actor: Who, or only their id.

        Raises:
            InvalidRequestError: It names nobody, or in characters that no name has.

        Example:
            >>> alice = files.acting_as(exai_files.Actor("alice", roles=["editor"]))
        """
        client = object.__new__(type(self))
        client._calls = self._calls.acting_as(actor)
        return client

    def actor(self, token: str | None) -> Actor:
        """Whom a user's token names: a JWT (HS256) with `exp`, `iat` and `sub`, as the settings in `access` want it.

        Raises:
            InvalidTokenError: There is none, or it is not ours, too old, from the future, or for somebody else.
            ConfigError: There is no secret to verify it with.
        """
        return self._calls.actor(token)

    def quota(self, user: str | None = None) -> UserQuota:
        """What a user has on the platforms and may have. Default: whoever calls.

        Raises:
            InvalidRequestError: Nobody is named.
        """
        return self._calls.quota(user).wait()

    @property
    def auth(self) -> Auth:
        """Where each account's credential comes from; logging in and out."""
        return Auth(self._calls.core.auth())

    def settings(self) -> list[Setting]:
        """Every setting in force and where it came from; secrets are withheld."""
        return self._calls.settings()

    def close(self) -> None:
        """End running calls with `CancelledError` and close the registry. Later calls raise `RegistryError`."""
        self._calls.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
