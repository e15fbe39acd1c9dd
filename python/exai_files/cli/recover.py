"""`recover`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.cli.options import as_json

if TYPE_CHECKING:
    from exai_files.recovery import Unfinished


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
