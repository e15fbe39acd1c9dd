"""Moonshot, Z.ai and Zhipu on this machine: real HTTP servers with faults, quotas, expiry and a clock.

    with exai_files.Simulator() as simulator, simulator.client() as files:
        simulator.moonshot.fail_next(status=503)
        files.upload(b"hello", name="hello.txt", to="moonshot")
        assert len(simulator.moonshot.files) == 1

It shares no code with the clients it tests. What it does follows from `seed`, the clock and what is asked of it.
"""

from __future__ import annotations

import base64
import builtins
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from exai_files import _core

if TYPE_CHECKING:
    from exai_files.async_client import AsyncClient
    from exai_files.client import Client

__all__ = ["SimulatedClock", "SimulatedFile", "SimulatedLogins", "SimulatedPlatform", "Simulator"]

_DEFAULT_KEYS = {
    "moonshot": "sk-simulator",
    "zai": "simulator.zai-secret",
    "kimi_code": "simulator.kimi-code-user",
    "zhipu_cn": "simulator.zhipu-secret",
}


@dataclass(frozen=True)
class SimulatedFile:
    """A file as the simulated platform holds it.

    Attributes:
        account: Eight characters of the key's SHA-256.
        bytes: Size.
        sha256: Of the bytes that arrived.
        expires_at: RFC 3339, or None.
    """

    id: str
    platform: str
    account: str
    filename: str
    purpose: str
    mime: str
    bytes: int
    sha256: str
    created_at: str
    expires_at: str | None


class SimulatedPlatform:
    """One platform of a simulator.

    Attributes:
        name: "moonshot", "zai", "kimi_code" or "zhipu_cn".
        api_key: A well-formed key it accepts; any other well-formed one is another account.
    """

    def __init__(self, simulator: Simulator, name: str) -> None:
        self._simulator = simulator
        self.name = name
        self.api_key = _DEFAULT_KEYS[name]

    @property
    def base_url(self) -> str:
        """What clients are pointed at."""
        return self._simulator.urls[self.name]

    @property
    def files(self) -> list[SimulatedFile]:
        """What it holds now, in order of arrival."""
        return [SimulatedFile(**file) for file in self._simulator.admin("GET", f"/files?platform={self.name}")]

    @property
    def requests(self) -> list[dict[str, Any]]:
        """What it was asked and what it did, from the truth log."""
        return self._simulator.truth(platform=self.name)

    def bytes(self, file_id: str) -> builtins.bytes:
        """A stored file's bytes.

        Raises:
            RuntimeError: There is no such file, or content is not stored.
        """
        encoded: str = self._simulator.admin("GET", f"/files/{self.name}/{file_id}/bytes")
        return base64.b64decode(encoded)

    def fail_next(
        self,
        *,
        status: int = 500,
        retry_after: float | None = None,
        body: object = None,
        times: int = 1,
        operation: str = "any",
    ) -> None:
        """Answers the next requests with an error; nothing is done for them.

        Args:
            status: HTTP status.
            retry_after: Seconds, for a Retry-After header.
            body: JSON value, or text for a body that is no JSON. Default: an error in OpenAI's shape.
            times: How many requests.
            operation: "upload", "list", "get", "content", "delete", "device", "token" or "any".
        """
        headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
        shown = {"error": {"message": "failed on purpose", "type": "simulated"}} if body is None else body
        fault = {"kind": "status", "status": status, "headers": headers, "body": shown}
        self.fault(fault, when={"next": times}, operation=operation)

    def fault(
        self, fault: Mapping[str, Any] | str, *, when: Mapping[str, Any] | str = "always", operation: str = "any"
    ) -> None:
        """Adds a fault.

        Args:
            fault: A kind ("lost_reply") or a mapping with one and its fields, e.g. `{"kind": "reset", "at_byte": 10}`:
                status (status, body, headers), error (code, type, message), shape (shape: its number), ok_error,
                html (status), rate_limited (seconds), delay (before_ms, body_ms), drip (bytes_per_second, of: "request"
                or "response"), reset (at_byte, of), lost_reply, lost_request, truncated_body (keep: bytes),
                refuse_chunked, clock_skew (seconds), stall.
            when: "always", `{"next": n}`, `{"nth": n}`, `{"every": n}` or `{"rate": share}`.
            operation: "upload", "list", "get", "content", "delete", "device", "token" or "any".

        Raises:
            RuntimeError: There is no such fault.
        """
        rule = {
            "platform": self.name,
            "operation": operation,
            "when": when,
            "fault": {"kind": fault} if isinstance(fault, str) else dict(fault),
        }
        self._simulator.admin("POST", "/faults", rule)

    def set(self, **settings: Any) -> None:  # noqa: ANN401  (JSON values)
        """Changes settings, e.g. `max_files=2` or `tier=0`; `Simulator.settings` shows them all.

        Raises:
            RuntimeError: There is no such setting.
        """
        self._simulator.admin("POST", f"/settings/{self.name}", settings)

    def seed_file(self, *, filename: str, content: builtins.bytes = b"seeded", **fields: Any) -> SimulatedFile:  # noqa: ANN401
        """Puts a file there as someone else would.

        Args:
            filename: Its name there.
            content: Its bytes.
            **fields: purpose, mime, key (the account's), created_at (RFC 3339).
        """
        body = {"filename": filename, "base64": base64.b64encode(content).decode(), "key": self.api_key, **fields}
        return SimulatedFile(platform=self.name, **self._simulator.admin("POST", f"/files/{self.name}", body))

    def vanish(self, file_id: str) -> None:
        """Removes a file behind everyone's back."""
        self._simulator.admin("DELETE", f"/files/{self.name}/{file_id}")

    def __repr__(self) -> str:
        return f"SimulatedPlatform({self.name}, {self.base_url})"


class SimulatedLogins:
    """Kimi Code's login server; its settings are the platform's, such as `access_token_seconds`."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    @property
    def settings(self) -> dict[str, Any]:
        """What points the platform "kimi-code" of a client here."""
        urls = self._simulator.urls
        oauth = f"{urls['kimi_code_oauth']}/api/oauth"
        return {
            "base_url": urls["kimi_code"],
            "oauth_token_url": f"{oauth}/token",
            "oauth_device_url": f"{oauth}/device_authorization",
        }

    @property
    def state(self) -> dict[str, Any]:
        """Its logins (account, refreshes, is_revoked), the user codes that wait, and uses of expired tokens."""
        state: dict[str, Any] = self._simulator.admin("GET", "/oauth")
        return state

    def approve(self, user_code: str | None = None, *, user: str | None = None) -> None:
        """Lets a person say yes to a device; to the only one that waits, where none is named.

        Raises:
            RuntimeError: None waits.
        """
        given = {"user_code": user_code, "user": user}
        self._simulator.admin("POST", "/oauth/approve", {key: value for key, value in given.items() if value})

    def deny(self, user_code: str | None = None) -> None:
        """Lets them say no.

        Raises:
            RuntimeError: None waits.
        """
        self._simulator.admin("POST", "/oauth/deny", {"user_code": user_code} if user_code else {})

    def expire(self) -> None:
        """No access token given so far is good any more."""
        self._simulator.admin("POST", "/oauth/expire")

    def revoke(self) -> None:
        """No login made so far is good any more."""
        self._simulator.admin("POST", "/oauth/revoke")


class SimulatedClock:
    """The simulator's calendar."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def now(self) -> datetime:
        """The simulated moment (UTC)."""
        text: str = self._simulator.admin("GET", "/clock")["now"]
        # Python 3.10 reads neither "Z" nor fractions of other than 3 or 6 digits.
        whole, _, fraction = text.removesuffix("Z").partition(".")
        return datetime.fromisoformat(f"{whole}.{fraction.ljust(6, '0')[:6]}+00:00")

    def set(self, moment: datetime) -> None:
        """Sets it; it runs on from there unless frozen."""
        self._simulator.admin("POST", "/clock", {"now": moment.isoformat()})

    def advance(self, by: float | timedelta) -> None:
        """Moves it on by seconds or a timedelta."""
        seconds = by.total_seconds() if isinstance(by, timedelta) else by
        self._simulator.admin("POST", "/clock", {"advance": seconds})

    def freeze(self, frozen: bool = True) -> None:
        """Stops it, or lets it run."""
        self._simulator.admin("POST", "/clock", {"freeze": frozen})


class Simulator:
    """The platforms, on 127.0.0.1; also an async context manager.

    Args:
        port: Port. Default: any free one.
        seed: Ids and random faults follow from it.
        now: RFC 3339 time to start the clock at. Default: now.
        settings: By platform, e.g. `{"moonshot": {"tier": 0}}`.

    Raises:
        ValueError: From `start`, for settings or a time that make no sense.
        OSError: From `start`, when the port is taken.

    Example:
        >>> with Simulator(seed=1) as simulator:
        ...     simulator.moonshot.base_url
        'http://127.0.0.1:.../moonshot/v1'
    """

    def __init__(
        self,
        *,
        port: int = 0,
        seed: int = 0,
        now: str | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._options = (port, seed, now, json.dumps(dict(settings or {})))
        self._core: _core.Simulator | None = None
        self.moonshot = SimulatedPlatform(self, "moonshot")
        self.zai = SimulatedPlatform(self, "zai")
        self.zhipu_cn = SimulatedPlatform(self, "zhipu_cn")
        self.kimi_code = SimulatedPlatform(self, "kimi_code")
        self.logins = SimulatedLogins(self)
        self.clock = SimulatedClock(self)

    def start(self) -> Simulator:
        """Starts serving; entering it as a context manager does the same."""
        if self._core is None:
            self._core = _core.Simulator(*self._options)
        return self

    def stop(self) -> None:
        """Closes every connection and forgets everything."""
        if self._core is not None:
            self._core.stop()
            self._core = None

    @property
    def urls(self) -> dict[str, str]:
        """Base URLs: moonshot, zai, kimi_code, kimi_code_oauth, zhipu_cn and admin."""
        return self._running.urls()

    @property
    def _running(self) -> _core.Simulator:
        if self._core is None:
            raise RuntimeError("the simulator is not running: use it as a context manager, or call start()")
        return self._core

    def admin(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401  (JSON values)
        """One administrative request, as `METHOD {admin}{path}` over HTTP.

        Raises:
            RuntimeError: With the sentence HTTP would give.
        """
        return json.loads(self._running.admin(method, path, None if body is None else json.dumps(body)))

    def truth(self, *, platform: str | None = None, operation: str | None = None) -> list[dict[str, Any]]:
        """What really happened, oldest first."""
        wanted = {"platform": platform, "operation": operation}
        query = "&".join(f"{name}={value}" for name, value in wanted.items() if value is not None)
        entries: list[dict[str, Any]] = self.admin("GET", f"/truth?{query}")
        return entries

    @property
    def faults(self) -> Sequence[Mapping[str, Any]]:
        """The faults in force, each with how often it fired."""
        rules: list[dict[str, Any]] = self.admin("GET", "/faults")
        return rules

    @property
    def settings(self) -> Mapping[str, Mapping[str, Any]]:
        """The settings in force, by platform."""
        settings: dict[str, dict[str, Any]] = self.admin("GET", "/settings")
        return settings

    def reset(self) -> None:
        """Forgets files, faults and the log; settings and clock stay."""
        self.admin("POST", "/reset")

    def platforms(self) -> dict[str, dict[str, Any]]:
        """The `platforms` of a client that talks to this simulator."""
        named = {"moonshot": self.moonshot, "zai": self.zai, "zhipu": self.zhipu_cn}
        return {name: {"base_url": each.base_url, "api_key": each.api_key} for name, each in named.items()}

    def client(self, **options: Any) -> Client:  # noqa: ANN401  (Client's own)
        """A `Client` for this simulator, with a registry in memory unless told otherwise."""
        from exai_files.client import Client

        return Client(**self._client_options(options))

    def async_client(self, **options: Any) -> AsyncClient:  # noqa: ANN401  (AsyncClient's own)
        """An `AsyncClient` for this simulator, with a registry in memory unless told otherwise."""
        from exai_files.async_client import AsyncClient

        return AsyncClient(**self._client_options(options))

    def _client_options(self, options: dict[str, Any]) -> dict[str, Any]:
        platforms = self.platforms()
        for name, settings in options.pop("platforms", {}).items():
            platforms.setdefault(name, {}).update(settings)
        defaults = {"registry": ":memory:", "environment": {}}
        # The simulator shows a file at once, so a lost upload need not be waited for.
        settings = {"retry": {"commit_horizon": 0.2, "base": 0.05}, **options.pop("settings", {})}
        return {**defaults, **options, "platforms": platforms, "settings": settings}

    def __enter__(self) -> Simulator:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Simulator:
        return self.start()

    async def __aexit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Simulator({self.urls['admin']})" if self._core else "Simulator(stopped)"
