"""Logging in and out: where each account's credential comes from, and keeping one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exai_files.calls import Call, twin_of
from exai_files.records import instant, perhaps

if TYPE_CHECKING:
    from exai_files import _core

__all__ = ["AsyncAuth", "Auth", "CredentialStatus", "DeviceCode"]


@dataclass(frozen=True)
class CredentialStatus:
    """Where an account's credential comes from, and whether it is there. Never the credential.

    Attributes:
        account: None where there is none.
        method: "key", "jwt", "oauth" or "client-credentials".
        source: The place, such as "variable MOONSHOT_API_KEY", "file /etc/key", "command pass" or "the registry".
        fingerprint: Tells keys apart: 8 hexadecimal characters. Of a command it is known only when it was run.
        expires_at: When the access token of a login ends (UTC); it is had anew before.
        problem: What is wrong, or what to do where there is none.
    """

    platform: str
    account: str | None
    method: str
    source: str | None
    fingerprint: str | None
    expires_at: datetime | None
    problem: str | None

    @classmethod
    def _from_core(cls, data: Mapping[str, Any]) -> CredentialStatus:
        return cls(**{**data, "expires_at": perhaps(data["expires_at"])})


@dataclass(frozen=True)
class DeviceCode:
    """What a person does to log a device in.

    Attributes:
        user_code: What is entered there.
        uri: Where, if the platform says.
        uri_complete: The same with the code in it.
        expires_at: Until when (UTC).
    """

    user_code: str
    uri: str | None
    uri_complete: str | None
    expires_at: datetime

    @classmethod
    def _from_core(cls, data: Mapping[str, Any]) -> DeviceCode:
        return cls(**{**data, "expires_at": instant(data["expires_at"])})


class _Calls:
    def __init__(self, core: _core.Auth) -> None:
        self.core = core

    def status(self, check: bool) -> Call[list[CredentialStatus]]:
        return Call(self.core.status(check), lambda rows: list(map(CredentialStatus._from_core, rows)))

    def login(
        self, platform: str, account: str | None, prompt: Callable[[DeviceCode], object]
    ) -> Call[CredentialStatus]:
        pending = self.core.login(platform, account, lambda code: prompt(DeviceCode._from_core(code)))
        return Call(pending, CredentialStatus._from_core)

    def keep_key(self, platform: str, key: str, account: str | None) -> Call[CredentialStatus]:
        return Call(self.core.keep_key(platform, account, key), CredentialStatus._from_core)

    def take_over(self, platform: str, account: str | None) -> Call[CredentialStatus]:
        return Call(self.core.take_over(platform, account), CredentialStatus._from_core)

    def import_tokens(self, platform: str, file: str | os.PathLike[str], account: str | None) -> Call[CredentialStatus]:
        return Call(self.core.keep_tokens(platform, account, Path(file).expanduser()), CredentialStatus._from_core)

    def renew(self, platform: str, account: str | None) -> Call[CredentialStatus]:
        return Call(self.core.renew(platform, account), CredentialStatus._from_core)

    def logout(self, platform: str, account: str | None) -> Call[bool]:
        return Call(self.core.logout(platform, account), bool)

    def reseal(self, file: str | os.PathLike[str]) -> Call[int]:
        return Call(self.core.reseal(Path(file).expanduser()), int)


class Auth:
    """Where each account's credential comes from; logging in and out.

    What is kept by a login is where the setting `credentials.store` says: in the registry, in a file (both sealed with the
    master key), or in the system's keyring. Clients that are opened from then on use it; a login that is made anew
    is used at once.
    """

    def __init__(self, core: _core.Auth) -> None:
        self._calls = _Calls(core)

    @property
    def order(self) -> list[str]:
        """Where credentials are looked for; the first place that is named counts."""
        return self._calls.core.order()

    def status(self, *, check: bool = False) -> list[CredentialStatus]:
        """How each account comes by its credential, and whether it is there; never the credential.

        Args:
            check: Run the commands and functions that give keys, too, for up to 60 s each.
        """
        return self._calls.status(check).wait()

    def login(
        self, platform: str, *, prompt: Callable[[DeviceCode], object], account: str | None = None
    ) -> CredentialStatus:
        """Log in with a device code (RFC 8628), and keep what the platform gives.

        Args:
            platform: One whose `auth` is "oauth", such as "kimi-code".
            prompt: Called with what a person has to do; then it is waited until they have.
            account: Your name for the account. Default: the platform's own.

        Raises:
            ConfigError: There is no such account, or it is used with a key.
            PermissionDeniedError: The person said no.
            PlatformTimeoutError: The code has expired.
            PlatformUnavailableError: The login server cannot be reached.
        """
        return self._calls.login(platform, account, prompt).wait()

    def keep_key(self, platform: str, key: str, *, account: str | None = None) -> CredentialStatus:
        """Keep an API key, in place of one that was kept. The platform is not asked.

        Raises:
            ConfigError: There is no such account, its key comes from elsewhere, or this is none.
        """
        return self._calls.keep_key(platform, key, account).wait()

    def take_over(self, platform: str, *, account: str | None = None) -> CredentialStatus:
        """Keep the key that now comes from a variable, a file, a command or the call.

        Until that place is empty it comes before what is kept.

        Raises:
            ConfigError: There is no such account, or no key.
        """
        return self._calls.take_over(platform, account).wait()

    def import_tokens(
        self, platform: str, file: str | os.PathLike[str], *, account: str | None = None
    ) -> CredentialStatus:
        """Keep the tokens in a file as kimi-cli has it, `~/.kimi/credentials/kimi-code.json`.

        Whoever refreshes them first makes the other's useless: log out there.

        Raises:
            ConfigError: There is no such account, the file is not there, or others may read it.
            InvalidRequestError: There are no tokens in it.
        """
        return self._calls.import_tokens(platform, file, account).wait()

    def renew(self, platform: str, *, account: str | None = None) -> CredentialStatus:
        """Get a new access token of a login now, whether the old one is still good or not.

        Raises:
            ConfigError: There is no such account, or it is used with a key.
            ReauthRequiredError: Nobody has logged in, or the login is over.
        """
        return self._calls.renew(platform, account).wait()

    def logout(self, platform: str, *, account: str | None = None) -> bool:
        """Keep an account's credential no more; gives whether there was one. The platform is not told.

        Raises:
            ConfigError: There is no such account.
        """
        return self._calls.logout(platform, account).wait()

    def reseal(self, master_key_file: str | os.PathLike[str]) -> int:
        """Seal all that is kept with another master key; gives how many entries there were.

        Set `credentials.master_key_file` to it then, wherever the old one is used.

        Args:
            master_key_file: A file that nobody else may read, with the new key or passphrase.

        Raises:
            ConfigError: One of the keys cannot be used.
            UnsupportedError: They are in a keyring.
        """
        return self._calls.reseal(master_key_file).wait()


class AsyncAuth:
    """As `Auth`, awaited."""

    def __init__(self, core: _core.Auth) -> None:
        self._calls = _Calls(core)

    @property
    def order(self) -> list[str]:
        """As `Auth.order`."""
        return self._calls.core.order()

    @twin_of(Auth.status)
    async def status(self, *, check: bool = False) -> list[CredentialStatus]:
        return await self._calls.status(check).run()

    @twin_of(Auth.login)
    async def login(
        self, platform: str, *, prompt: Callable[[DeviceCode], object], account: str | None = None
    ) -> CredentialStatus:
        return await self._calls.login(platform, account, prompt).run()

    @twin_of(Auth.keep_key)
    async def keep_key(self, platform: str, key: str, *, account: str | None = None) -> CredentialStatus:
        return await self._calls.keep_key(platform, key, account).run()

    @twin_of(Auth.take_over)
    async def take_over(self, platform: str, *, account: str | None = None) -> CredentialStatus:
        return await self._calls.take_over(platform, account).run()

    @twin_of(Auth.import_tokens)
    async def import_tokens(
        self, platform: str, file: str | os.PathLike[str], *, account: str | None = None
    ) -> CredentialStatus:
        return await self._calls.import_tokens(platform, file, account).run()

    @twin_of(Auth.renew)
    async def renew(self, platform: str, *, account: str | None = None) -> CredentialStatus:
        return await self._calls.renew(platform, account).run()

    @twin_of(Auth.logout)
    async def logout(self, platform: str, *, account: str | None = None) -> bool:
        return await self._calls.logout(platform, account).run()

    @twin_of(Auth.reseal)
    async def reseal(self, master_key_file: str | os.PathLike[str]) -> int:
        return await self._calls.reseal(master_key_file).run()
