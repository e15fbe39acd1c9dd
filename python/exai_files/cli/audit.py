"""`audit`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.cli.options import as_json

if TYPE_CHECKING:
    from exai_files.audit import AuditRecord
    from exai_files.client import Client


@cli.group()
def audit() -> None:
    """The audit log: what happened to files, so that nobody can alter it quietly."""


def _print_records(records: list[AuditRecord], as_json: bool) -> None:
    if as_json:
        for record in records:
            output.print_json({"record": _read(record)})
        return
    rows = [(str(r.seq), r.time.isoformat(), r.action, _said(r)) for r in records]
    output.table(rows, ("SEQ", "TIME", "ACTION", "WHAT"))


def _read(record: AuditRecord) -> dict[str, object] | str:
    """What the record says, or its text as it is: whoever wrote into the log need not have written JSON."""
    try:
        fields = json.loads(record.record)
    except (ValueError, RecursionError):
        return record.record
    return fields if isinstance(fields, dict) else record.record


def _said(record: AuditRecord) -> str:
    fields = _read(record)
    if isinstance(fields, str):
        return fields
    known = ("seq", "prev", "time", "action", "process", "decision")
    said = {name: value for name, value in fields.items() if name not in known}
    return " ".join(f"{name}={str(value)[:12] if name == 'digest' else value}" for name, value in said.items())


@audit.command("tail")
@click.option("-n", "--lines", type=click.IntRange(1), default=20, show_default=True, help="How many.")
@as_json
@click.pass_obj
def audit_tail(session: Session, lines: int, as_json: bool) -> None:
    """Show the last records."""
    with session.client(recovers=False) as client:
        _print_records(client.audit.query(limit=lines), as_json)


@audit.command("query")
@click.option("--file", metavar="FILE", help="Of this file.")
@click.option("--action", metavar="ACTION", help='Such as "upload".')
@click.option("--user", metavar="USER", help="What they did.")
@click.option("--since-days", type=click.FloatRange(0), metavar="DAYS", help="Not longer ago.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many, the last ones.")
@as_json
@click.pass_obj
def audit_query(
    session: Session,
    file: str | None,
    action: str | None,
    user: str | None,
    since_days: float | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show the records that fit."""
    from exai_files.audit import digest_of

    since = None if since_days is None else since_days * 86_400
    with session.client(recovers=False) as client:
        # A digest names a file also once it is no longer known.
        known = file if file is None or digest_of(file) else client.get(file)
        _print_records(client.audit.query(file=known, action=action, user=user, since=since, limit=limit), as_json)


@audit.command("export")
@click.argument("to", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
@click.pass_obj
def audit_export(session: Session, to: str, force: bool) -> None:
    """Write every record to TO, one line each, for audit_verifier.py, which needs nothing of ours.

    TO is a file, or "-" for standard output.
    """
    if to != "-" and not force and Path(to).exists():
        raise click.UsageError(f"there is {to} already: add --force to replace it")
    with session.client(recovers=False) as client:
        count = _export_to_stdout(client) if to == "-" else client.audit.export(to)
    if to != "-" or not session.quiet:
        click.echo(f"{count} records", err=to == "-")


def _export_to_stdout(client: Client) -> int:
    """By way of a file: what was begun and failed must not look like a whole log."""
    import shutil  # start-up counts
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log"
        count = client.audit.export(path)
        with path.open("rb") as log:
            shutil.copyfileobj(log, sys.stdout.buffer)
    return count


@audit.command("verify")
@click.option("--checkpoints", type=click.Path(exists=True, dir_okay=False), help="A file of them, kept elsewhere.")
@click.option("--key", metavar="KEY|FILE", help="Whose signatures to believe. Default: this client's.")
@as_json
@click.pass_obj
def audit_verify(session: Session, checkpoints: str | None, key: str | None, as_json: bool) -> int:
    """Read the whole log and say what is not as it was written. The exit code is 12 then."""
    with session.client(recovers=False) as client:
        report = client.audit.verify(checkpoints=checkpoints, key=key)
    if as_json:
        output.print_json(report)
    else:
        for finding in report.findings:
            click.echo(finding.what)
        verdict = "intact" if report.is_intact else "NOT INTACT"
        click.echo(f"{verdict}: {report.records} records, {report.checkpoints} checkpoints, root {report.root}")
    if not report.external_checkpoints and not session.quiet:
        click.echo(
            "exai-files: without a checkpoint kept elsewhere nobody can see whether the log's end was cut off, or all"
            " of it written anew",
            err=True,
        )
    return 0 if report.is_intact else 12


@audit.command("prove")
@click.argument("seq", type=click.IntRange(0, 2**63 - 1))
@click.pass_obj
def audit_prove(session: Session, seq: int) -> None:
    """Print the proof that a record is in the log, for someone who has a checkpoint of it."""
    with session.client(recovers=False) as client:
        output.print_json(client.audit.prove(seq))


@audit.command("checkpoint")
@click.pass_obj
def audit_checkpoint(session: Session) -> None:
    """Sign what the log is now, and print the last checkpoint: keep it where the database's owner cannot write."""
    with session.client(recovers=False) as client:
        last = client.audit.checkpoint()
    if last is not None:
        click.echo(last.note, nl=False)


@audit.command("key")
@click.pass_obj
def audit_key(session: Session) -> None:
    """Print the public key that checkpoints are checked with."""
    with session.client(recovers=False) as client:
        click.echo(client.audit.key)
