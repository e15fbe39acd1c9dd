"""The audit log: what happened to files, so that nobody can alter it quietly."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exai_files.arguments import Seconds, as_json, moment
from exai_files.calls import Call
from exai_files.errors import InvalidRequestError
from exai_files.records import FileRecord, instant

if TYPE_CHECKING:
    from exai_files import _core

__all__ = ["AsyncAudit", "Audit", "AuditFinding", "AuditRecord", "AuditReport", "Checkpoint", "digest_of"]

_LAST_SEQ = 2**63 - 1
"""The largest place that a record can have."""

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})", re.IGNORECASE)


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


def digest_of(text: str) -> str | None:
    """A whole digest as the log has it, 64 hexadecimal characters; None for any other text."""
    found = _DIGEST.fullmatch(text)
    return found[1].lower() if found else None


def _logged(file: FileRecord | str) -> str:
    """What the log knows a file by; it does not know ids and names."""
    text = file.digest if isinstance(file, FileRecord) else file
    digest = digest_of(text) if isinstance(text, str) else None
    if digest is None:
        raise InvalidRequestError(
            f"the audit log knows no file by {file!r}", hint="pass the file's record, or its whole digest"
        )
    return digest


def _place(seq: int) -> int:
    if isinstance(seq, bool) or not isinstance(seq, int) or not 0 <= seq <= _LAST_SEQ:
        raise InvalidRequestError(f"no record can be number {seq!r}", hint=f"give a whole number from 0 to {_LAST_SEQ}")
    return seq


def _checkpoint(data: Mapping[str, Any] | None) -> Checkpoint | None:
    return None if data is None else Checkpoint(**{**data, "created_at": instant(data["created_at"])})


def _report(data: Mapping[str, Any]) -> AuditReport:
    return AuditReport(**{**data, "findings": tuple(AuditFinding(**finding) for finding in data["findings"])})


def _records(rows: Sequence[Mapping[str, Any]]) -> list[AuditRecord]:
    return [AuditRecord(**{**row, "time": instant(row["time"])}) for row in rows]


class _AuditCalls:
    def __init__(self, core: _core.Audit) -> None:
        self._core = core

    @property
    def key(self) -> str:
        """The public key that checkpoints are checked with."""
        return self._core.key()

    def _query(
        self,
        file: FileRecord | str | None,
        action: str | None,
        user: str | None,
        since: Seconds | datetime | None,
        until: Seconds | datetime | None,
        after: int | None,
        limit: int,
    ) -> Call[list[AuditRecord]]:
        wanted = {
            "digest": None if file is None else _logged(file),
            "action": action,
            "actor": user,
            "since": moment(since, -1),
            "until": moment(until, -1),
            "after": after,
            "limit": limit,
        }
        # Of no records the core would give one.
        return Call(self._core.query(as_json(wanted)), lambda rows: _records(rows)[:limit])

    def _export(self, to: str | os.PathLike[str]) -> Call[int]:
        return Call(self._core.export(Path(to)), int)

    def _verify(
        self, checkpoints: str | os.PathLike[str] | None, key: str | os.PathLike[str] | None
    ) -> Call[AuditReport]:
        notes = None if checkpoints is None else _text(checkpoints)
        return Call(self._core.verify(notes, None if key is None else _key(key)), _report)

    def _prove(self, seq: int) -> Call[dict[str, Any]]:
        return Call(self._core.prove(_place(seq)), dict)

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
        file: FileRecord | str | None = None,
        action: str | None = None,
        user: str | None = None,
        since: Seconds | datetime | None = None,
        until: Seconds | datetime | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> list[AuditRecord]:
        """The last records that fit, the oldest first.

        Args:
            file: Of this file: its record, or its whole digest, with or without "sha256:". It may be forgotten by now.
            action: Such as "upload".
            user: What they did: the log has a pseudonym that only the audit key tells.
            since: Not before this moment, or this long ago.
            until: Before this moment, or this long ago.
            after: The first records after this place, in place of the last ones.
            limit: At most so many.

        Raises:
            InvalidRequestError: `file` is something else, such as a name or a replica.
        """
        return self._query(file, action, user, since, until, after, limit).wait()

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
            InvalidRequestError: There can be none.
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
        file: FileRecord | str | None = None,
        action: str | None = None,
        user: str | None = None,
        since: Seconds | datetime | None = None,
        until: Seconds | datetime | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> list[AuditRecord]:
        """As `Audit.query`."""
        return await self._query(file, action, user, since, until, after, limit).run()

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
