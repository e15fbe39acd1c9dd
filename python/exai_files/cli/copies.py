"""`copies`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.cli.options import as_json, dry_run
from exai_files.cli.removing import confirm, need_terminal, yes
from exai_files.sizes import in_units

if TYPE_CHECKING:
    from exai_files.copies import CopyCollection

_DANGER = "copies gc deletes copies"


@cli.group()
def copies() -> None:
    """The kept copies (`copies.place`) that lost files are made anew from."""


@copies.command("check")
@click.option("--read-data-subset", "read", default="0%", show_default=True, metavar="P%", help="Also read so many.")
@as_json
@click.pass_obj
def copies_check(session: Session, read: str, as_json: bool) -> int:
    """Look whether every copy is there; what is missing or damaged is noted as gone. The exit code is 12 then."""
    number = read.removesuffix("%")
    if not number.isdecimal() or int(number) > 100:
        raise click.UsageError(f"--read-data-subset {read}: give a part such as 10%")
    with session.client(recovers=False) as client:
        found = client.copies.check(read=int(number) / 100)
    if as_json:
        output.print_json(found)
    else:
        click.echo(f"{found.checked} copies, {found.read} of them read ({in_units(found.bytes_read)})")
        rows = [("missing", digest) for digest in found.missing] + [("damaged", digest) for digest in found.damaged]
        output.table(rows, ("", "DIGEST"))
    return 0 if found.is_whole else 12


@copies.command("gc")
@yes
@dry_run
@as_json
@click.pass_obj
def copies_gc(session: Session, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Remove copies that no file needs any more."""
    asks = not (yes or dry_run)
    if asks:
        need_terminal(_DANGER)
    with session.client(recovers=False) as client:
        done = client.copies.collect(dry_run=dry_run or asks)
        if asks and done.bytes:
            click.echo(_collected(done, "would be removed"), err=True)
            confirm(_DANGER, "Remove them?")
            done = client.copies.collect()
    if as_json:
        output.print_json(done)
        return
    click.echo(_collected(done, "would be removed" if dry_run else "removed"))


def _collected(done: CopyCollection, word: str) -> str:
    return f"{len(done.removed)} copies ({in_units(done.bytes)}) {word}"
