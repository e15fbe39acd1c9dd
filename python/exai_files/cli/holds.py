"""`hold`, `holds`, `release`."""

from __future__ import annotations

import click

from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.cli.options import as_json


@cli.command()
@click.argument("file")
@click.option(
    "--legal", is_flag=True, help="Nobody may delete it. Default: it makes no room, and no rule or time limit takes it."
)
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
    output.print_holds(found)


@cli.command()
@click.argument("id")
@click.pass_obj
def release(session: Session, id: str) -> None:
    """End a hold."""
    with session.client() as client:
        client.release(id)
