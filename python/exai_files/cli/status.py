"""`status`."""

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
