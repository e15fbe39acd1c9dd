"""`lifecycle`, `check`."""

from __future__ import annotations

import click

from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.cli.options import as_json, dry_run, one_platform, timeout, wanted_for


@cli.group()
def lifecycle() -> None:
    """How long files stay: rules, time limits, the trash, archiving, erasing."""


@lifecycle.command("apply")
@dry_run
@timeout
@as_json
@click.pass_obj
def apply(session: Session, dry_run: bool, timeout: float | None, as_json: bool) -> int:
    """Do what rules, time limits and the trash ask for; `watch` does it every hour.

    The exit code is 3 when something could not be done.
    """
    with session.client() as client:
        steps = client.lifecycle.apply(dry_run=dry_run, timeout=timeout)
    if as_json:
        for step in steps:
            output.print_json(step)
    else:
        rows = [
            (
                "stays" if s.obstacle else "done" if s.is_done else "due" if dry_run else "failed",
                s.step,
                output.short(s.digest),
                output.printable(s.name),
                s.platform or "everywhere",
                s.error or s.obstacle or s.because,
            )
            for s in steps
        ]
        output.table(rows, ("RESULT", "WHAT", "DIGEST", "NAME", "FROM", "WHY"))
    return 3 if any(step.error for step in steps) else 0


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
@timeout
@click.pass_obj
def archive(session: Session, file: str, platform: str | None, timeout: float | None) -> None:
    """Take a file off its platforms, and keep our copy of it."""
    with session.client() as client:
        client.lifecycle.archive(file, platform=platform, timeout=timeout)


@lifecycle.command("erase")
@click.argument("file")
@click.option("--yes", is_flag=True, help="Do not ask.")
@timeout
@as_json
@click.pass_obj
def erase(session: Session, file: str, yes: bool, timeout: float | None, as_json: bool) -> None:
    """Remove everything of a file for good, everywhere; the audit log keeps that it was there."""
    with session.client() as client:
        record = client.get(file)
        if not yes:
            click.confirm(
                f"Remove everything of {output.printable(record.name)} ({record.digest}) for good?", abort=True
            )
        receipt = client.lifecycle.erase(record, timeout=timeout)
    if as_json:
        output.print_json(receipt)
        return
    for replica in receipt.replicas:
        word = "gone" if replica.is_confirmed else "deleted; the platform cannot be asked whether it is gone"
        click.echo(f"{replica.platform} {replica.account} {replica.remote_id}: {word}")
    click.echo(f"{receipt.digest}: nothing is left")


@cli.command()
@click.argument("file")
@one_platform
@click.option("--read", is_flag=True, help="Also read back what platforms give back as it was.")
@timeout
@as_json
@click.pass_obj
def check(session: Session, file: str, platform: str | None, read: bool, timeout: float | None, as_json: bool) -> int:
    """Ask platforms how a file's copies are. The exit code is 10 when one is not as it should be."""
    with session.client() as client:
        found = client.check(file, platform=platform, read=read, timeout=timeout)
    if as_json:
        for one in found:
            output.print_json(one)
    else:
        rows = [(f.verdict, f.platform, f.account, f.remote_id, f"{f.response_time:.3f} s", f.evidence) for f in found]
        output.table(rows, ("VERDICT", "PLATFORM", "ACCOUNT", "ID", "ANSWERED IN", "EVIDENCE"))
    return 10 if any(one.verdict != "healthy" for one in found) else 0
