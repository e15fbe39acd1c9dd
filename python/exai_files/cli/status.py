"""`status` and `quota`."""

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
@click.argument("user", required=False)
@as_json
@click.pass_obj
def quota(session: Session, user: str | None, as_json: bool) -> None:
    """Show what USER has on the platforms and may have. Default: the user of this process."""
    from exai_files.sizes import in_units

    with session.client(recovers=False) as client:
        found = client.quota(user)
    if as_json:
        output.print_json(found)
        return
    files = f"{found.files}" + ("" if found.max_files is None else f" of {found.max_files}")
    size = in_units(found.bytes) + ("" if found.max_bytes is None else f" of {in_units(found.max_bytes)}")
    output.table([(found.user, files, size)], ("USER", "FILES", "SIZE"))
