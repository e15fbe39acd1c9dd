"""`status`, `watch`, `hold`, `holds`, `release`."""

from __future__ import annotations

import click

from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.cli.options import as_json


@cli.command()
@as_json
@click.pass_obj
def status(session: Session, as_json: bool) -> None:
    """Show how everything is: accounts and their room, what expires, what is unfinished, the audit log."""
    from exai_files.status import HEADER

    with session.client(recovers=False) as client:
        found = client.status()
    if as_json:
        output.print_json(found)
        return
    output.table(found.rows(), HEADER)
    for remark in found.remarks():
        click.echo(remark)


@cli.command()
@click.option(
    "--every", type=float, default=300, show_default=True, metavar="SECONDS", help="Between looks at an account."
)
@click.option("--heal", is_flag=True, help="Make lost files anew. Default: note that they are gone.")
@click.option("--max-lost", type=int, default=100, show_default=True, help="Files that one look may give up.")
@click.option("--samples", type=int, default=0, show_default=True, help="Copies that one look reads back.")
@click.option("--once", is_flag=True, help="Do what is due now, and end.")
@as_json
@click.pass_obj
def watch(session: Session, every: float, heal: bool, max_lost: int, samples: int, once: bool, as_json: bool) -> None:
    """Recover, look after every account's files, keep leases and sign the audit log, until interrupted.

    Several that watch share the work.
    """
    with session.client(recovers=False) as client:
        watching = client.watch(every=every, heal=heal, max_lost=max_lost, samples=samples)
        for notice in watching.look() if once else watching:
            if as_json:
                output.print_json(notice)
            else:
                where = " ".join(filter(None, (notice.platform, notice.account)))
                click.echo(f"{notice.event}  {where}  {output.printable(notice.what)}")


@cli.command()
@click.argument("file")
@click.option("--legal", is_flag=True, help="Nobody may delete it. Default: it does not make room for others.")
@click.option("--reason", metavar="TEXT", help="Why, for those who ask.")
@as_json
@click.pass_obj
def hold(session: Session, file: str, legal: bool, reason: str | None, as_json: bool) -> None:
    """Pin a file, or put it under legal hold, until that is released."""
    with session.client() as client:
        held = client.hold(file, "legal" if legal else "pin", reason=reason)
    if as_json:
        output.print_json(held)
    else:
        click.echo(held.id)


@cli.command()
@click.argument("file")
@as_json
@click.pass_obj
def holds(session: Session, file: str, as_json: bool) -> None:
    """Show what keeps a file: leases, pins, legal holds."""
    with session.client() as client:
        found = client.holds(file)
    if as_json:
        for held in found:
            output.print_json(held)
        return
    rows = [(h.id, h.kind, h.platform or "-", h.until.isoformat() if h.until else "-", h.reason or "") for h in found]
    output.table(rows, ("ID", "KIND", "PLATFORM", "UNTIL", "REASON"))


@cli.command()
@click.argument("id")
@click.pass_obj
def release(session: Session, id: str) -> None:
    """End a hold."""
    with session.client() as client:
        client.release(id)
