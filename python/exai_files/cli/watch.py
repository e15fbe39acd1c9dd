"""`watch`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.cli.options import as_json
from exai_files.errors import Error

if TYPE_CHECKING:
    from exai_files.client import Client
    from exai_files.watching import Notice


@cli.command()
@click.option(
    "--every",
    type=click.FloatRange(1),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="Between looks at an account.",
)
@click.option("--heal", is_flag=True, help="Make lost files anew. Default: note that they are gone.")
@click.option(
    "--max-lost", type=click.IntRange(0), default=100, show_default=True, help="Files that one look may give up."
)
@click.option(
    "--samples", type=click.IntRange(0), default=0, show_default=True, help="Copies that one look reads back."
)
@click.option("--once", is_flag=True, help="Do what is due now, and end.")
@as_json
@click.pass_obj
def watch(session: Session, every: float, heal: bool, max_lost: int, samples: int, once: bool, as_json: bool) -> None:
    """Recover, look after every account's files, keep leases and sign the audit log, until interrupted.

    Several that watch share the work. Metrics are served only by programs of yours, which call client.watch().
    """
    with session.client(recovers=False) as client:
        watching = client.watch(every=every, heal=heal, max_lost=max_lost, samples=samples)
        for notice in watching.look() if once else watching:
            if as_json:
                output.print_json(notice)
            else:
                _print_notice(client, notice)


def _print_notice(client: Client, notice: Notice) -> None:
    where = " ".join(filter(None, (notice.platform, notice.account)))
    said = (notice.event, where, *_file(client, notice), notice.what)
    click.echo(output.printable("  ".join(said)).replace("\n", "\\n"))


def _file(client: Client, notice: Notice) -> tuple[str, ...]:
    """The file's short digest and, while it is known, its name."""
    if notice.digest is None:
        return ()
    try:
        name = client.get(notice.digest).name
    except Error:
        return (output.short(notice.digest),)
    return (output.short(notice.digest), name)
