"""What the client returns: frozen dataclasses of plain values.

`dataclasses.asdict`, pattern matching, pickling and `pandas.DataFrame(list)` work without our doing anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Content",
    "ContentKind",
    "Difference",
    "Download",
    "Eviction",
    "FileRecord",
    "PlannedTarget",
    "PlatformInfo",
    "Reconciliation",
    "RemoteFile",
    "Replica",
    "Setting",
    "Transfer",
    "Unasked",
    "UploadPlan",
    "WhenFull",
]

ContentKind = Literal["bytes", "extracted-text", "opaque"]
"""What a platform gives back: the file's bytes, text it made of them, or nothing."""

FileStatus = Literal["live", "unplaced", "trashed"]
"""How a file is: on some platform, on none, or in the trash."""

WhenFull = Literal["refuse", "evict-lru", "evict-smallest"]
"""What is done when an account is full: refuse, or let what was used longest ago, or is smallest, make room."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def instant(micros: int) -> datetime:
    """From microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=micros)


def perhaps(micros: int | None) -> datetime | None:
    """The same, of what may be absent."""
    return None if micros is None else instant(micros)


@dataclass(frozen=True)
class Replica:
    """One copy of a file on one platform and account, for one purpose.

    Attributes:
        platform: "moonshot", "zai", "zhipu" or a name from the configuration.
        account: Our name for the account.
        purpose: The purpose, as the platform spells it.
        remote_id: The platform's id: an opaque string.
        remote_name: The name it has there.
        status: "active", "deleted" or "error".
        content: What the platform gives back for it.
        created_at: When the platform stored it (UTC).
        verified_at: When the platform last confirmed it (UTC).
        expires_at: When the platform will drop it; None where no retention is stated.
        used_at: When somebody was last given it, to the hour.
        origin: "sent" by this call, "already-there", or "adopted" after a lost reply.
    """

    platform: str
    account: str
    purpose: str
    remote_id: str
    remote_name: str
    status: Literal["active", "deleted", "error"]
    content: ContentKind
    created_at: datetime
    verified_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    origin: Literal["sent", "already-there", "adopted"]

    @classmethod
    def _from_core(cls, data: Mapping[str, Any]) -> Replica:
        times = {name: instant(data[name]) for name in ("created_at", "verified_at")}
        absent = {name: perhaps(data[name]) for name in ("expires_at", "used_at")}
        return cls(**{**data, **times, **absent})

    def __repr__(self) -> str:
        return f"Replica({self.platform}, {self.remote_id!r}, {self.purpose}, {self.origin})"


@dataclass(frozen=True)
class Choice:
    """The platform that an upload `to="any"` went to, and why.

    Attributes:
        because: "already-there", "first" (the best preferred) or "next-best" (others were passed over).
        passed_over: The platforms that would have come first, and what kept them from it.
    """

    platform: str
    because: Literal["already-there", "first", "next-best"]
    passed_over: Mapping[str, str]


@dataclass(frozen=True)
class FileRecord:
    """One content we know, and where it is.

    Attributes:
        digest: "sha256:" and 64 hexadecimal characters: the handle of the content.
        name: The name it was first given.
        size: Bytes.
        mime: MIME type, from the bytes where they tell, else from the name.
        created_at: When it was first handed over (UTC).
        owner: Who handed it over first, where that was said.
        tags: In alphabetical order.
        metadata: What else was said of it.
        trashed_at: Since when it has been in the trash (UTC); None when it is not.
        keep_until: Until when it is wanted (UTC): then it goes. None: for ever.
        replicas: The live copies.
        choice: Where an upload `to="any"` went, and why; None for others.
    """

    digest: str
    name: str
    size: int
    mime: str
    created_at: datetime
    replicas: tuple[Replica, ...]
    owner: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    trashed_at: datetime | None = None
    keep_until: datetime | None = None
    choice: Choice | None = None

    @classmethod
    def _from_core(cls, data: Mapping[str, Any]) -> FileRecord:
        replicas = tuple(map(Replica._from_core, data["replicas"]))
        choice = Choice(**data["choice"]) if "choice" in data else None
        absent = {name: perhaps(data[name]) for name in ("trashed_at", "keep_until")}
        times = {"created_at": instant(data["created_at"]), **absent}
        return cls(**{**data, **times, "tags": tuple(data["tags"]), "replicas": replicas, "choice": choice})

    def on(self, platform: str) -> Replica | None:
        """The replica on `platform`, if there is one. The aliases "kimi" and "glm" are accepted."""
        name = {"kimi": "moonshot", "glm": "zai"}.get(platform.lower(), platform.lower())
        return next((replica for replica in self.replicas if replica.platform == name), None)

    def __repr__(self) -> str:
        places = ", ".join(replica.platform for replica in self.replicas) or "nowhere"
        return f"FileRecord({self.name!r}, {self.size} bytes, {self.digest[:19]}…, on {places})"


@dataclass(frozen=True)
class RemoteFile:
    """A file as its platform lists it, whether the registry knows it or not.

    What the platform does not state is None; what it really said is in `raw`.
    """

    platform: str
    account: str
    id: str
    name: str | None
    size: int | None
    purpose: str | None
    status: str
    status_details: str | None
    mime: str | None
    created_at: datetime | None
    expires_at: datetime | None
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def _from_core(cls, data: Mapping[str, Any]) -> RemoteFile:
        times = {name: perhaps(data[name]) for name in ("created_at", "expires_at")}
        return cls(**{**data, **times})


@dataclass(frozen=True)
class Content:
    """What a platform gave back for a file.

    Attributes:
        kind: "bytes" for the file itself, "extracted-text" for text the platform made of it.
        data: The answer as it came.
        text: The extracted text, out of its wrapper; None for bytes.
    """

    platform: str
    kind: ContentKind
    text: str | None = field(repr=False)
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Download:
    """A finished download.

    Attributes:
        size: Bytes written.
        digest: Digest of what was written.
        is_original: Whether these are the very bytes that were uploaded.
    """

    path: Path
    platform: str
    kind: ContentKind
    size: int
    digest: str
    is_original: bool

    @classmethod
    def _from_core(cls, data: Mapping[str, Any]) -> Download:
        return cls(**{**data, "path": Path(data["path"])})


@dataclass(frozen=True)
class PlatformInfo:
    """A connected platform.

    Attributes:
        files: Live copies on the account, as far as the registry knows.
        bytes: Their size together.
        capabilities: What the platform can do and its limits, each with source and date.
    """

    platform: str
    account: str
    files: int
    bytes: int
    capabilities: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Difference:
    """One file on which a platform and the registry do not agree.

    Attributes:
        sign: "=" equal, "+" only there, "-" only here, "*" differs, "!" there, but of no use.
        name: The name it has there, or had.
        size: Bytes.
        digest: Its content, where it is known.
        why: What differs, or what else is known of it.
        action: "none", "adopt", "delete", "forget", "reupload" or "believe" (the platform's description).
        is_done: Whether that was done.
        obstacle: Why it was not, or why there was nothing to be done.
        remote: The platform's description.
        local: Our replica.
    """

    sign: Literal["=", "+", "-", "*", "!"]
    platform: str
    account: str
    remote_id: str
    name: str
    size: int | None
    digest: str | None
    why: tuple[str, ...]
    action: Literal["none", "adopt", "delete", "forget", "reupload", "believe"]
    is_done: bool
    obstacle: str | None
    remote: RemoteFile | None = field(repr=False)
    local: Replica | None = field(repr=False)

    @classmethod
    def _from_core(cls, data: Mapping[str, Any]) -> Difference:
        place = {"platform": data["platform"], "account": data["account"]}
        remote = data["remote"] and RemoteFile._from_core({**place, **data["remote"]})
        local = data["local"] and Replica._from_core(data["local"])
        return cls(**{**data, "why": tuple(data["why"]), "remote": remote, "local": local})


@dataclass(frozen=True)
class Unasked:
    """An account whose platform could not be asked, and why."""

    platform: str
    account: str
    why: str


@dataclass(frozen=True)
class Reconciliation:
    """What a comparison of platforms with the registry found, and what was done about it.

    Attributes:
        equal: How many files agree.
        differences: Those that do not (and, if asked for, those that do).
        unasked: Accounts of which nothing is known, because their platform could not be asked.
    """

    equal: int
    differences: tuple[Difference, ...]
    unasked: tuple[Unasked, ...]

    @property
    def orphans(self) -> tuple[Difference, ...]:
        """The remote files that no row explains."""
        return tuple(each for each in self.differences if each.sign == "+")

    @property
    def is_settled(self) -> bool:
        """Whether all platforms were asked, and agree, or agree now."""
        return not self.unasked and all(each.sign == "=" or each.is_done for each in self.differences)

    @classmethod
    def _from_core(cls, data: Mapping[str, Any]) -> Reconciliation:
        differences = tuple(map(Difference._from_core, data["steps"]))
        return cls(data["equal"], differences, tuple(Unasked(**each) for each in data["unasked"]))


@dataclass(frozen=True)
class Transfer:
    """How far an upload to one platform has come.

    Attributes:
        sent: Bytes handed to the network in the current attempt.
        total: Bytes in all.
        phase: "waiting", "sending", "reconciling", "sent", "already-there" or "failed".
        upload: Number of the upload in this process; tells files of one name apart.
    """

    platform: str
    name: str
    sent: int
    total: int
    phase: Literal["waiting", "sending", "reconciling", "sent", "already-there", "failed"]
    upload: int = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.phase in ("sent", "already-there", "failed")


@dataclass(frozen=True)
class Eviction:
    """A copy that would make room.

    Attributes:
        size: Bytes.
        is_trashed: Whether its file is in the trash: those go first.
    """

    account: str
    digest: str
    name: str
    size: int
    is_trashed: bool
    replica: Replica

    @classmethod
    def _from_core(cls, data: Mapping[str, Any]) -> Eviction:
        return cls(**{**data, "replica": Replica._from_core(data["replica"])})


@dataclass(frozen=True)
class PlannedTarget:
    """What an upload would do on one platform.

    Attributes:
        is_there: Nothing would be sent.
        evictions: What would be taken off the account to make room.
    """

    platform: str
    account: str
    purpose: str
    remote_name: str
    is_there: bool
    evictions: tuple[Eviction, ...]

    @classmethod
    def _from_core(cls, data: Mapping[str, Any]) -> PlannedTarget:
        return cls(**{**data, "evictions": tuple(map(Eviction._from_core, data["evictions"]))})


@dataclass(frozen=True)
class UploadPlan:
    """What an upload would do."""

    digest: str
    name: str
    size: int
    mime: str
    targets: tuple[PlannedTarget, ...]

    @classmethod
    def _from_core(cls, data: Mapping[str, Any]) -> UploadPlan:
        return cls(**{**data, "targets": tuple(map(PlannedTarget._from_core, data["targets"]))})


@dataclass(frozen=True)
class Setting:
    """One setting in force.

    Attributes:
        value: The value; secrets are withheld.
        origin: Where it came from: default, a file and line, a variable, or the call.
    """

    path: str
    value: Any
    origin: str
