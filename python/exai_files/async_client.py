"""`AsyncClient`: every verb of `Client`, awaited."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from exai_files.arguments import Seconds
from exai_files.audit import AsyncAudit
from exai_files.auth import AsyncAuth
from exai_files.calls import Calls, twin_of
from exai_files.client import Client
from exai_files.copies import AsyncCopies
from exai_files.files import AsyncFiles
from exai_files.holds import AsyncHolding
from exai_files.lifecycle import AsyncLifecycle
from exai_files.platforms import AsyncPlatforms
from exai_files.records import Setting
from exai_files.recovery import AsyncRecovery
from exai_files.status import Status, asked
from exai_files.uploads import AsyncUploads
from exai_files.users import Actor, UserQuota
from exai_files.watching import AsyncWatch, Hook

__all__ = ["AsyncClient"]


class AsyncClient(AsyncUploads, AsyncFiles, AsyncHolding, AsyncPlatforms):
    """Files on AI platforms, for code that awaits: the verbs of `Client`, as coroutines.

    Cancelling a task stops its transfer.

    Example:
        >>> async with exai_files.AsyncClient() as files:
        ...     record = await files.upload("paper.pdf", to="moonshot")
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

    @twin_of(Client.watch)
    def watch(
        self,
        *,
        every: Seconds = 300.0,
        heal: bool = False,
        max_lost: int = 100,
        samples: int = 0,
        hooks: Mapping[str, Hook] | None = None,
    ) -> AsyncWatch:
        return AsyncWatch(self._calls, every, heal, max_lost, samples, hooks)

    @twin_of(Client.status)
    async def status(self) -> Status:
        return await asked(self._calls).run()

    @property
    def recovery(self) -> AsyncRecovery:
        """As `Client.recovery`."""
        return AsyncRecovery(self._calls.core.recovery())

    @property
    def lifecycle(self) -> AsyncLifecycle:
        """As `Client.lifecycle`."""
        return AsyncLifecycle(self._calls.core.lifecycle())

    @property
    def copies(self) -> AsyncCopies:
        """As `Client.copies`."""
        return AsyncCopies(self._calls.core.copies())

    @property
    def audit(self) -> AsyncAudit:
        """As `Client.audit`."""
        return AsyncAudit(self._calls.core.audit())

    @twin_of(Client.settings)
    def settings(self) -> list[Setting]:
        return self._calls.settings()

    @twin_of(Client.acting_as)
    def acting_as(self, actor: Actor | str) -> AsyncClient:
        client = object.__new__(type(self))
        client._calls = self._calls.acting_as(actor)
        return client

    @twin_of(Client.actor)
    def actor(self, token: str | None) -> Actor:
        return self._calls.actor(token)

    @twin_of(Client.quota)
    async def quota(self, user: str | None = None) -> UserQuota:
        return await self._calls.quota(user).run()

    @property
    def auth(self) -> AsyncAuth:
        """As `Client.auth`."""
        return AsyncAuth(self._calls.core.auth())

    @twin_of(Client.close)
    async def close(self) -> None:
        await asyncio.to_thread(self._calls.close)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
