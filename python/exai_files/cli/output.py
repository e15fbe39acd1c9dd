"""What the commands print: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exai_files import errors
from exai_files.sizes import in_units

if TYPE_CHECKING:
    from exai_files.holds import Hold
    from exai_files.records import FileRecord, Replica

SCHEMA = 1
"""Version of the `--json` objects."""

EXIT_CODES: dict[type[BaseException], int] = {
    errors.PartialUploadError: 3,
    errors.NotFoundError: 4,
    errors.SourceNotFoundError: 4,
    errors.RateLimitError: 5,
    errors.PlatformUnavailableError: 5,
    errors.PlatformTimeoutError: 5,
    errors.OutcomeUnknownError: 5,
    errors.AuthenticationError: 6,
    errors.PermissionDeniedError: 6,
    errors.BillingError: 7,
    errors.ContentRejectedError: 7,
    errors.FileTooLargeError: 7,
    errors.UnsupportedError: 7,
    errors.QuotaExceededError: 8,
    errors.SafetyLimitError: 8,
    errors.IntegrityError: 12,
    errors.ConfigError: 2,
    errors.ConflictError: 2,
    errors.InvalidRequestError: 2,
    errors.Error: 1,
}
"""Documented exit codes (see `exai-files --help`); the first class that fits counts."""


def exit_code(error: BaseException) -> int:
    return next((code for cls, code in EXIT_CODES.items() if isinstance(error, cls)), 1)


def exit_code_of(outcomes: Sequence[object]) -> int:
    """For several files: the failures' own code when nothing succeeded, 3 when something did."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if not failures:
        return 0
    is_partial = len(failures) < len(outcomes) or any(isinstance(f, errors.PartialUploadError) for f in failures)
    return 3 if is_partial else exit_code(failures[0])


def complain(error: errors.Error) -> None:
    """One sentence to stderr."""
    where = f"{error.platform}: " if error.platform and error.platform not in error.message else ""
    click.echo(f"exai-files: {where}{printable(str(error))}", err=True)
    if isinstance(error, errors.PartialUploadError):
        for platform, failure in error.failures.items():
            click.echo(f"  {platform}: {printable(str(failure))}", err=True)


def as_fields(error: errors.Error, file: str) -> dict[str, object]:
    """A failure as a `--json` object has it."""
    return {
        "file": file,
        "error": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "platform": error.platform,
        "retry_after": error.retry_after,
        "record": getattr(error, "record", None),
    }


def printable(text: str) -> str:
    """The text with control characters spelt out: names come from other people."""
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode() for each in text
    )


def plain(value: object) -> object:
    """A record as plain JSON values."""
    import dataclasses

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [plain(item) for item in value]
    return value


def print_json(value: object) -> None:
    """One object, one line."""
    data = plain(value)
    fields = data if isinstance(data, dict) else {"value": data}
    is_unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    click.echo(json.dumps({"schema": SCHEMA, **fields}, ensure_ascii=not is_unicode))


def short(digest: str) -> str:
    """Enough of a digest to name a file by."""
    return digest.removeprefix("sha256:")[:12]


def table(rows: Sequence[Sequence[str]], header: Sequence[str], *, err: bool = False) -> None:
    """Columns padded to their widest cell; wide (Chinese) characters count for two."""
    if not rows:
        return
    cells = [[printable(cell).replace("\n", "\\n") for cell in row] for row in rows]
    if (sys.stderr if err else sys.stdout).isatty():
        cells.insert(0, list(header))
    widths = [max(_width(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        padded = [cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(padded).rstrip(), err=err)


def _width(text: str) -> int:
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def place(replica: Replica) -> str:
    """`moonshot ✓` for what this call sent, `moonshot =` for what was there, `moonshot ↺` for what it adopted."""
    sign = {"sent": "✓", "already-there": "=", "adopted": "↺"}[replica.origin]
    return f"{replica.platform} {sign}"


def print_holds(holds: Sequence[Hold]) -> None:
    rows = [(h.id, h.kind, h.platform or "-", h.until.isoformat() if h.until else "-", h.reason or "") for h in holds]
    table(rows, ("ID", "KIND", "PLATFORM", "UNTIL", "REASON"))


def print_uploaded(record: FileRecord) -> None:
    places = "  ".join(place(replica) for replica in record.replicas)
    click.echo(f"{short(record.digest)}  {printable(record.name)}  {in_units(record.size)}  {places}")
