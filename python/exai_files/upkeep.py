"""What time asks for: finishing what was cut short, kept copies, the audit log.

Each has a face for `Client`, which waits, and one for `AsyncClient`, which awaits.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from exai_files.calls import Call, FileReference, Seconds, as_json, moment, reference, span
from exai_files.errors import InvalidRequestError
from exai_files.records import instant, perhaps

if TYPE_CHECKING:
    from exai_files import _core

__all__ = [
    "AsyncAudit",
    "AsyncCopies",
    "AsyncRecovery",
    "Audit",
    "AuditFinding",
    "AuditRecord",
    "AuditReport",
    "Checkpoint",
    "Copies",
    "CopyCheck",
    "CopyCollection",
    "PastAttempt",
    "Recovery",
    "RecoveryStep",
    "Unfinished",
]

_PATIENCE = 300.0


# ===== what they return =====


@dataclass(frozen=True)
class RecoveryStep:
    """One upload or delete that had been cut short, and what became of it.

    Attributes:
        kind: What it was.
        id: Names it to `explain`, `retry` and `abandon`.
        attempt: Of how many attempts so far this is the last.
        result: "finished"; "undone" (it counts as never begun); "gone" (somebody else ended it); "failed" (to be tried
            again); "waiting" (its platform is left in peace); "dead" (given up until you say otherwise).
        strategy: How, such as "adopt", "reupload-from-path" or "back-off".
        error: What went wrong.
    """

    kind: Literal["upload", "delete"]
    id: str
    digest: str | None
    platform: str
    account: str
    attempt: int
    result: Literal["finished", "undone", "gone", "failed", "waiting", "dead"]
    strategy: str
    error: str | None


@dataclass(frozen=True)
class PastAttempt:
    """One attempt to finish something."""

    number: int
    strategy: str | None
    status: str
    error: str | None
    error_code: str | None
    next_retry_at: datetime | None
    at: datetime


@dataclass(frozen=True)
class Unfinished:
    """Something that was cut short.

    Attributes:
        name: The file's name.
        attempts: How often it was tried to finish it.
        next_try_at: When it is tried again (UTC).
        is_dead: Given up: nobody tries again until you say so.
        since: Since when (UTC).
        history: All attempts, of one that was explained.
    """

    kind: Literal["upload", "delete"]
    id: str
    digest: str | None
    platform: str
    account: str
    name: str | None
    attempts: int
    next_try_at: datetime | None
    error: str | None
    is_dead: bool
    since: datetime
    history: tuple[PastAttempt, ...] = ()

    @classmethod
    def _from_core(cls, data: Mapping[str, Any]) -> Unfinished:
        history = tuple(_past(attempt) for attempt in data.get("history", ()))
        times = {"next_try_at": perhaps(data["next_try_at"]), "since": instant(data["since"])}
        return cls(**{**data, **times, "history": history})


def _past(data: Mapping[str, Any]) -> PastAttempt:
    return PastAttempt(**{**data, "next_retry_at": perhaps(data["next_retry_at"]), "at": instant(data["at"])})


@dataclass(frozen=True)
class CopyCheck:
    """What a look at the kept copies found.

    Attributes:
        checked: Copies that were looked for; `read` of them were read.
        missing: Digests of those that are not there.
        damaged: Digests of those that hold other bytes.
    """

    checked: int
    read: int
    bytes_read: int
    missing: tuple[str, ...]
    damaged: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every copy is as it should be, as far as was looked."""
        return not self.missing and not self.damaged


@dataclass(frozen=True)
class CopyCollection:
    """Copies that were removed, or would be, and their size together in bytes."""

    removed: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class AuditRecord:
    """One record of the audit log.

    Attributes:
        seq: Its place, from 0 on.
        time: When (UTC).
        action: What happened, such as "upload", "delete" or "lose".
        digest: The file's digest, in hexadecimal.
        record: The record itself: canonical JSON.
    """

    seq: int
    time: datetime
    action: str
    digest: str | None
    record: str


@dataclass(frozen=True)
class AuditFinding:
    """Something in the log that is not as it was written; `seq` is the first record it concerns."""

    seq: int | None
    what: str


@dataclass(frozen=True)
class AuditReport:
    """What a look through the whole log found.

    Attributes:
        root: Of the tree over all records, in hexadecimal.
        checkpoints: Signed checkpoints that the log was compared with.
        external_checkpoints: How many came from elsewhere. Without one nobody can see whether the log's end was cut off
            or all of it written anew.
    """

    records: int
    root: str
    checkpoints: int
    external_checkpoints: int
    is_intact: bool
    findings: tuple[AuditFinding, ...]


@dataclass(frozen=True)
class Checkpoint:
    """What the log was at one time, signed.

    Attributes:
        size: Records.
        note: The signed note, to be kept where who may write to the database cannot.
    """

    size: int
    root: str
    note: str
    created_at: datetime


def _checkpoint(data: Mapping[str, Any] | None) -> Checkpoint | None:
    return None if data is None else Checkpoint(**{**data, "created_at": instant(data["created_at"])})


def _report(data: Mapping[str, Any]) -> AuditReport:
    return AuditReport(**{**data, "findings": tuple(AuditFinding(**finding) for finding in data["findings"])})


def _records(rows: Sequence[Mapping[str, Any]]) -> list[AuditRecord]:
    return [AuditRecord(**{**row, "time": instant(row["time"])}) for row in rows]


def _check(data: Mapping[str, Any]) -> CopyCheck:
    return CopyCheck(**{**data, "missing": tuple(data["missing"]), "damaged": tuple(data["damaged"])})


# ===== recovery =====


class _RecoveryCalls:
    def __init__(self, core: _core.Recovery) -> None:
        self._core = core

    def _run(self, timeout: Seconds) -> Call[list[RecoveryStep]]:
        return Call(self._core.run(span(timeout)), lambda steps: [RecoveryStep(**step) for step in steps])

    def _list(self) -> Call[list[Unfinished]]:
        return Call(self._core.list(), lambda rows: list(map(Unfinished._from_core, rows)))

    def _explain(self, id: str) -> Call[Unfinished]:
        return Call(self._core.explain(id), Unfinished._from_core)

    def _retry(self, id: str) -> Call[None]:
        return Call(self._core.retry(id), lambda _: None)

    def _abandon(self, id: str) -> Call[None]:
        return Call(self._core.abandon(id), lambda _: None)


class Recovery(_RecoveryCalls):
    """Uploads and deletes whose process died, lost its connection or was cancelled.

    Every client looks for them when it opens and every 30 seconds (`recovery.every`), whoever began them.
    """

    def run(self, *, timeout: Seconds = _PATIENCE) -> list[RecoveryStep]:
        """Try everything that is due, now.

        An upload is finished where the platform has it or its bytes are to be had (a kept copy, the path it came from),
        else undone; a delete is done again. Nothing is sent that may be there already.
        """
        return self._run(timeout).wait()

    def list(self) -> builtins.list[Unfinished]:
        """All that is unfinished, the oldest first; what was given up is among it (`is_dead`)."""
        return self._list().wait()

    def explain(self, id: str) -> Unfinished:
        """One of them (by its id, the start of it, or the file's digest), with every attempt.

        Raises:
            NotFoundError: There is no such.
            ConflictError: Several fit.
        """
        return self._explain(id).wait()

    def retry(self, id: str) -> None:
        """Let one be tried again at once, also one that was given up. Raises as `explain`."""
        self._retry(id).wait()

    def abandon(self, id: str) -> None:
        """Give one up for good: an upload counts as never made, a copy to be deleted is no longer handed out.

        Raises as `explain`, and `ConflictError` when it is under way again.
        """
        self._abandon(id).wait()


class AsyncRecovery(_RecoveryCalls):
    """As `Recovery`, awaited."""

    async def run(self, *, timeout: Seconds = _PATIENCE) -> list[RecoveryStep]:
        """As `Recovery.run`."""
        return await self._run(timeout).run()

    async def list(self) -> builtins.list[Unfinished]:
        """As `Recovery.list`."""
        return await self._list().run()

    async def explain(self, id: str) -> Unfinished:
        """As `Recovery.explain`."""
        return await self._explain(id).run()

    async def retry(self, id: str) -> None:
        """As `Recovery.retry`."""
        await self._retry(id).run()

    async def abandon(self, id: str) -> None:
        """As `Recovery.abandon`."""
        await self._abandon(id).run()


# ===== kept copies =====


class _CopiesCalls:
    def __init__(self, core: _core.Copies) -> None:
        self._core = core

    def _check(self, read: float, timeout: Seconds) -> Call[CopyCheck]:
        return Call(self._core.check(float(read), span(timeout)), _check)

    def _collect(self, dry_run: bool) -> Call[CopyCollection]:
        make: Callable[[Any], CopyCollection] = lambda data: CopyCollection(tuple(data["removed"]), data["bytes"])  # noqa: E731
        return Call(self._core.collect(dry_run), make)


class Copies(_CopiesCalls):
    """The copies kept of what is uploaded (`copies.place`), from which lost files are made anew."""

    def check(self, *, read: float = 0.0, timeout: Seconds = _PATIENCE) -> CopyCheck:
        """Look whether every copy is there, and read this part of them (0 to 1), those read longest ago first.

        Raises:
            ConfigError: No copies are kept.
        """
        return self._check(read, timeout).wait()

    def collect(self, *, dry_run: bool = False) -> CopyCollection:
        """Remove copies that no file needs any more. Raises as `check`."""
        return self._collect(dry_run).wait()


class AsyncCopies(_CopiesCalls):
    """As `Copies`, awaited."""

    async def check(self, *, read: float = 0.0, timeout: Seconds = _PATIENCE) -> CopyCheck:
        """As `Copies.check`."""
        return await self._check(read, timeout).run()

    async def collect(self, *, dry_run: bool = False) -> CopyCollection:
        """As `Copies.collect`."""
        return await self._collect(dry_run).run()


# ===== the audit log =====


class _AuditCalls:
    def __init__(self, core: _core.Audit) -> None:
        self._core = core

    @property
    def key(self) -> str:
        """The public key that checkpoints are checked with."""
        return self._core.key()

    def _query(
        self,
        file: FileReference | None,
        action: str | None,
        since: Seconds | datetime | None,
        until: Seconds | datetime | None,
        after: int | None,
        limit: int,
    ) -> Call[list[AuditRecord]]:
        wanted = {
            "digest": None if file is None else reference(file).removeprefix("sha256:"),
            "action": action,
            "since": moment(since, -1),
            "until": moment(until, -1),
            "after": after,
            "limit": limit,
        }
        return Call(self._core.query(as_json(wanted)), _records)

    def _export(self, to: str | os.PathLike[str]) -> Call[int]:
        return Call(self._core.export(Path(to)), int)

    def _verify(
        self, checkpoints: str | os.PathLike[str] | None, key: str | os.PathLike[str] | None
    ) -> Call[AuditReport]:
        notes = None if checkpoints is None else _text(checkpoints)
        return Call(self._core.verify(notes, None if key is None else _key(key)), _report)

    def _prove(self, seq: int) -> Call[dict[str, Any]]:
        return Call(self._core.prove(seq), dict)

    def _checkpoint(self) -> Call[Checkpoint | None]:
        return Call(self._core.checkpoint(), _checkpoint)


def _text(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"{path} cannot be read: {error}", hint="name a file of checkpoints") from error


def _key(key: str | os.PathLike[str]) -> str:
    text = os.fspath(key)
    return text if text.startswith("exai-files-audit+") else _text(text).strip()


class Audit(_AuditCalls):
    """What happened to files, in a log that nobody can alter quietly.

    What is noted is noted in the transaction of the change itself. Records are chained, and are the leaves of a tree
    whose root is signed (a checkpoint). Who may write to the database could still cut the end off, or write all of it
    anew: that shows only against a checkpoint that is kept elsewhere (`audit.checkpoint_file`).
    """

    def query(
        self,
        *,
        file: FileReference | None = None,
        action: str | None = None,
        since: Seconds | datetime | None = None,
        until: Seconds | datetime | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> list[AuditRecord]:
        """The last records that fit, the oldest first.

        Args:
            file: Of this file: a record of it, or its whole digest.
            action: Such as "upload".
            since: Not before this moment, or this long ago.
            until: Before this moment, or this long ago.
            after: The first records after this place, in place of the last ones.
            limit: At most so many.
        """
        return self._query(file, action, since, until, after, limit).wait()

    def export(self, to: str | os.PathLike[str]) -> int:
        """Write every record to a file, one line each; return how many. `audit_verifier.py` reads it without us."""
        return self._export(to).wait()

    def verify(
        self,
        *,
        checkpoints: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
    ) -> AuditReport:
        """Read the whole log, and compare it with itself, its checkpoints and those of a file kept elsewhere.

        Args:
            checkpoints: A file of checkpoints.
            key: Whose signatures to believe: the key, or a file with it. Default: this client's.

        Raises:
            InvalidRequestError: The file holds no checkpoints, or the key is none.
        """
        return self._verify(checkpoints, key).wait()

    def prove(self, seq: int) -> dict[str, Any]:
        """A proof that a record is in the log, for someone who has a checkpoint.

        Returns:
            `record`, `index`, `size`, `path` (hashes of an RFC 6962 tree, from the leaf up) and `checkpoint`.

        Raises:
            NotFoundError: There is no such record.
        """
        return self._prove(seq).wait()

    def checkpoint(self) -> Checkpoint | None:
        """Sign what the log is now, if anything happened since the last checkpoint; return the last one."""
        return self._checkpoint().wait()


class AsyncAudit(_AuditCalls):
    """As `Audit`, awaited."""

    async def query(
        self,
        *,
        file: FileReference | None = None,
        action: str | None = None,
        since: Seconds | datetime | None = None,
        until: Seconds | datetime | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> list[AuditRecord]:
        """As `Audit.query`."""
        return await self._query(file, action, since, until, after, limit).run()

    async def export(self, to: str | os.PathLike[str]) -> int:
        """As `Audit.export`."""
        return await self._export(to).run()

    async def verify(
        self,
        *,
        checkpoints: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
    ) -> AuditReport:
        """As `Audit.verify`."""
        return await self._verify(checkpoints, key).run()

    async def prove(self, seq: int) -> dict[str, Any]:
        """As `Audit.prove`."""
        return await self._prove(seq).run()

    async def checkpoint(self) -> Checkpoint | None:
        """As `Audit.checkpoint`."""
        return await self._checkpoint().run()
