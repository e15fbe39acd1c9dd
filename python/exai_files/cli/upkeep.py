"""`recover`, `copies`, `audit`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.cli.options import as_json, dry_run

if TYPE_CHECKING:
    from exai_files.audit import AuditRecord
    from exai_files.recovery import Unfinished

# ===== recovery =====


@cli.group(invoke_without_command=True)
@click.option("--timeout", type=float, default=300, show_default=True, metavar="SECONDS", help="For all of it.")
@as_json
@click.pass_context
def recover(context: click.Context, timeout: float, as_json: bool) -> int:
    """Finish uploads, deletes and moves that were cut short.

    An upload is finished where its platform has it or its bytes are still to be had, else undone; deletes and moves are
    done again. The exit code is 3 when something could not be finished.
    """
    if context.invoked_subcommand is not None:
        return 0
    session: Session = context.obj
    with session.client(recovers=False) as client:
        steps = client.recovery.run(timeout=timeout)
    if as_json:
        for step in steps:
            output.print_json(step)
    else:
        rows = [(s.result, s.kind, s.id, s.platform, s.account, s.strategy, s.error or "") for s in steps]
        output.table(rows, ("RESULT", "WHAT", "ID", "PLATFORM", "ACCOUNT", "HOW", "ERROR"))
    if not steps and not session.quiet:
        click.echo("exai-files: nothing to finish", err=True)
    return 3 if any(step.result in ("failed", "waiting", "dead") for step in steps) else 0


@recover.command("list")
@click.option("--dead", is_flag=True, help="Only those that were given up.")
@as_json
@click.pass_obj
def recover_list(session: Session, dead: bool, as_json: bool) -> None:
    """Show what is unfinished, and what was given up."""
    with session.client(recovers=False) as client:
        found = [each for each in client.recovery.list() if each.is_dead or not dead]
    if as_json:
        for each in found:
            output.print_json(each)
        return
    output.table(list(map(_row, found)), ("WHAT", "ID", "PLATFORM", "NAME", "ATTEMPTS", "NEXT", "ERROR"))


def _row(one: Unfinished) -> tuple[str, ...]:
    following = "given up" if one.is_dead else one.next_try_at.isoformat() if one.next_try_at else "now"
    return (one.kind, one.id, one.platform, one.name or "-", str(one.attempts), following, one.error or "")


@recover.command("explain")
@click.argument("id")
@as_json
@click.pass_obj
def recover_explain(session: Session, id: str, as_json: bool) -> None:
    """Show one of them with every attempt."""
    with session.client(recovers=False) as client:
        one = client.recovery.explain(id)
    if as_json:
        output.print_json(one)
        return
    click.echo("  ".join(_row(one)))
    rows = [(str(a.number), a.at.isoformat(), a.status, a.strategy or "-", a.error or "") for a in one.history]
    output.table(rows, ("ATTEMPT", "AT", "STATUS", "HOW", "ERROR"))


@recover.command("retry")
@click.argument("id")
@click.pass_obj
def recover_retry(session: Session, id: str) -> None:
    """Let one be tried again at once, also one that was given up."""
    with session.client(recovers=False) as client:
        client.recovery.retry(id)


@recover.command("abandon")
@click.argument("id")
@click.pass_obj
def recover_abandon(session: Session, id: str) -> None:
    """Give one up for good. What its platform has of it stays there, and `reconcile` shows it."""
    with session.client(recovers=False) as client:
        client.recovery.abandon(id)


# ===== kept copies =====


@cli.group()
def copies() -> None:
    """The kept copies (`copies.place`) that lost files are made anew from."""


@copies.command("check")
@click.option("--read-data-subset", "read", default="0%", show_default=True, metavar="P%", help="Also read so many.")
@as_json
@click.pass_obj
def copies_check(session: Session, read: str, as_json: bool) -> int:
    """Look whether every copy is there. The exit code is 12 when one is missing or damaged."""
    number = read.removesuffix("%")
    if not number.isdecimal() or int(number) > 100:
        raise click.UsageError(f"--read-data-subset {read}: give a part such as 10%")
    with session.client(recovers=False) as client:
        found = client.copies.check(read=int(number) / 100)
    if as_json:
        output.print_json(found)
    else:
        click.echo(f"{found.checked} copies, {found.read} of them read ({output.size(found.bytes_read)})")
        rows = [("missing", digest) for digest in found.missing] + [("damaged", digest) for digest in found.damaged]
        output.table(rows, ("", "DIGEST"))
    return 0 if found.is_whole else 12


@copies.command("gc")
@dry_run
@as_json
@click.pass_obj
def copies_gc(session: Session, dry_run: bool, as_json: bool) -> None:
    """Remove copies that no file needs any more."""
    with session.client(recovers=False) as client:
        done = client.copies.collect(dry_run=dry_run)
    if as_json:
        output.print_json(done)
        return
    click.echo(f"{len(done.removed)} copies ({output.size(done.bytes)}) {'would be ' if dry_run else ''}removed")


# ===== the audit log =====


@cli.group()
def audit() -> None:
    """The audit log: what happened to files, so that nobody can alter it quietly."""


def _print_records(records: list[AuditRecord], as_json: bool) -> None:
    for record in records:
        if as_json:
            click.echo(record.record)
    if not as_json:
        rows = [(str(r.seq), r.time.isoformat(), r.action, _said(r)) for r in records]
        output.table(rows, ("SEQ", "TIME", "ACTION", "WHAT"))


def _said(record: AuditRecord) -> str:
    known = ("seq", "prev", "time", "action", "process", "decision")
    fields = {name: value for name, value in json.loads(record.record).items() if name not in known}
    return " ".join(f"{name}={str(value)[:12] if name == 'digest' else value}" for name, value in fields.items())


@audit.command("tail")
@click.option("-n", "--lines", type=click.IntRange(1), default=20, show_default=True, help="How many.")
@as_json
@click.pass_obj
def audit_tail(session: Session, lines: int, as_json: bool) -> None:
    """Show the last records; with --json as they are in the log."""
    with session.client(recovers=False) as client:
        _print_records(client.audit.query(limit=lines), as_json)


@audit.command("query")
@click.option("--file", metavar="FILE", help="Of this file.")
@click.option("--action", metavar="ACTION", help='Such as "upload".')
@click.option("--since-days", type=float, metavar="DAYS", help="Not longer ago.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many, the last ones.")
@as_json
@click.pass_obj
def audit_query(
    session: Session, file: str | None, action: str | None, since_days: float | None, limit: int, as_json: bool
) -> None:
    """Show the records that fit."""
    since = None if since_days is None else since_days * 86_400
    with session.client(recovers=False) as client:
        # A digest names a file also once it is no longer known.
        whole = file is not None and len(file.removeprefix("sha256:")) == 64
        record = file if file is None or whole else client.get(file)
        _print_records(client.audit.query(file=record, action=action, since=since, limit=limit), as_json)


@audit.command("export")
@click.argument("to", type=click.Path(dir_okay=False))
@click.pass_obj
def audit_export(session: Session, to: str) -> None:
    """Write every record to a file, one line each, for audit_verifier.py, which needs nothing of ours."""
    with session.client(recovers=False) as client:
        count = client.audit.export(to)
    click.echo(f"{count} records")


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
        click.echo(f"{report.records} records, {report.checkpoints} checkpoints, root {report.root}")
    if not report.external_checkpoints and not session.quiet:
        click.echo(
            "exai-files: without a checkpoint kept elsewhere nobody can see whether the log's end was cut off, or all"
            " of it written anew",
            err=True,
        )
    return 0 if report.is_intact else 12


@audit.command("prove")
@click.argument("seq", type=click.IntRange(0))
@click.pass_obj
def audit_prove(session: Session, seq: int) -> None:
    """Print the proof that a record is in the log, for someone who has a checkpoint of it."""
    with session.client(recovers=False) as client:
        click.echo(json.dumps(client.audit.prove(seq)))


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
