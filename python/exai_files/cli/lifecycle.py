"""`lifecycle`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.cli.options import as_json, dry_run, one_platform, timeout, wanted_for
from exai_files.cli.removing import confirm, doomed, need_terminal, print_doomed, print_left, yes

if TYPE_CHECKING:
    from exai_files.lifecycle import LifecycleStep
    from exai_files.records import FileRecord

_DANGER = "lifecycle apply takes files away"


@cli.group()
def lifecycle() -> None:
    """How long files stay: rules, time limits, the trash, archiving, erasing."""


@lifecycle.command("apply")
@yes
@timeout
@dry_run
@as_json
@click.pass_obj
def apply(session: Session, yes: bool, timeout: float | None, dry_run: bool, as_json: bool) -> int:
    """Do what rules, time limits and the trash ask for; `watch` does it every hour.

    The exit code is 3 when something could not be done.
    """
    asks = not (yes or dry_run)
    if asks:
        need_terminal(_DANGER)
    with session.client() as client:
        steps = client.lifecycle.apply(dry_run=dry_run or asks, timeout=timeout)
        if asks and any(not step.obstacle for step in steps):
            _print_steps(steps, err=True)
            confirm(_DANGER, "Do it?")
            steps = client.lifecycle.apply(timeout=timeout)
    if as_json:
        for step in steps:
            output.print_json(step)
    else:
        _print_steps(steps)
    return 3 if any(step.error for step in steps) else 0


def _print_steps(steps: list[LifecycleStep], *, err: bool = False) -> None:
    rows = [
        (
            "stays" if s.obstacle else "done" if s.is_done else "failed" if s.error else "due",
            s.step,
            output.short(s.digest),
            output.printable(s.name),
            s.platform or "everywhere",
            s.error or s.obstacle or s.because,
        )
        for s in steps
    ]
    output.table(rows, ("RESULT", "WHAT", "DIGEST", "NAME", "FROM", "WHY"), err=err)


@lifecycle.command("explain")
@click.argument("file")
@as_json
@click.pass_obj
def explain(session: Session, file: str, as_json: bool) -> None:
    """Say why a file stays, or goes."""
    with session.client() as client:
        fate = client.lifecycle.explain(file)
    if as_json:
        output.print_json(fate)
        return
    for departure in fate.departures:
        click.echo(f"{departure.step} from {departure.platform or 'everywhere'}: {departure.because}")
        if departure.obstacle:
            click.echo(f"  but {departure.obstacle}")
    for reason in fate.stays:
        click.echo(f"stays: {reason}")


@lifecycle.command("keep")
@click.argument("file")
@wanted_for
@click.pass_obj
def keep(session: Session, file: str, for_: float | None) -> None:
    """Say how long a file is wanted; then it is taken off its platforms and put into the trash."""
    with session.client() as client:
        client.lifecycle.keep(file, for_=for_)


@lifecycle.command("archive")
@click.argument("file")
@one_platform
@yes
@timeout
@dry_run
@as_json
@click.pass_obj
def archive(
    session: Session,
    file: str,
    platform: str | None,
    yes: bool,
    timeout: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Take a file off its platforms, and keep our copy of it; without a whole copy it stays."""
    with session.client() as client:
        record = doomed(client.get(file), platform)
        if not dry_run:
            if not yes:
                print_doomed(record, err=True)
                confirm("lifecycle archive deletes from platforms", "Archive it?")
            record = client.lifecycle.archive(record, platform=platform, timeout=timeout)
    if as_json:
        output.print_json(record)
    elif dry_run:
        print_doomed(record)
    else:
        print_left(record, "archived")


@lifecycle.command("erase")
@click.argument("file")
@yes
@timeout
@dry_run
@as_json
@click.pass_obj
def erase(session: Session, file: str, yes: bool, timeout: float | None, dry_run: bool, as_json: bool) -> None:
    """Remove everything of a file for good, everywhere; the audit log keeps that it was there."""
    with session.client() as client:
        record = client.get(file)
        if dry_run:
            _print_erasable(record, as_json)
            return
        if not yes:
            print_doomed(record, err=True)
            file = f"{output.printable(record.name)} ({record.digest})"
            confirm("lifecycle erase removes for good", f"Remove everything of {file} for good?")
        receipt = client.lifecycle.erase(record, timeout=timeout)
    if as_json:
        output.print_json(receipt)
        return
    for replica in receipt.replicas:
        word = "gone" if replica.is_confirmed else "deleted; the platform cannot be asked whether it is gone"
        click.echo(f"{replica.platform} {replica.account} {replica.remote_id}: {word}")
    click.echo(f"{receipt.digest}: nothing is left")


def _print_erasable(record: FileRecord, as_json: bool) -> None:
    if as_json:
        output.print_json(record)
        return
    print_doomed(record)
    click.echo(f"{record.digest}: nothing would be left")
