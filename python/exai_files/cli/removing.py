"""What commands that take something away share: `--yes`, the question before it, and what would go."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from exai_files.cli import output
from exai_files.errors import NotFoundError

if TYPE_CHECKING:
    from exai_files.records import FileRecord

yes = click.option("--yes", is_flag=True, help="Do not ask.")


def need_terminal(what: str) -> None:
    """Without --yes somebody has to be there to be asked.

    Raises:
        click.UsageError: Nobody is there.
    """
    if not sys.stdin or not sys.stdin.isatty():
        raise click.UsageError(f"{what}: add --yes")


def confirm(what: str, question: str) -> None:
    """Goes on only if somebody says so.

    Raises:
        click.UsageError: Nobody is there to be asked.
        click.Abort: They said no.
    """
    need_terminal(what)
    click.confirm(question, abort=True, err=True)


def doomed(record: FileRecord, platform: str | None) -> FileRecord:
    """The record with only those copies that would be deleted.

    Raises:
        NotFoundError: There are none.
    """
    import dataclasses  # start-up counts

    there = record.on(platform) if platform else None
    replicas = tuple(r for r in record.replicas if platform is None or (there and r.platform == there.platform))
    if not replicas:
        place = platform or "any platform"
        raise NotFoundError(f"{record.name!r} is not on {place}", hint="`exai-files stat` shows where it is")
    return dataclasses.replace(record, replicas=replicas)


def print_doomed(record: FileRecord, *, err: bool = False) -> None:
    name = output.printable(record.name)
    for replica in record.replicas:
        click.echo(f"{name}: {replica.platform} {replica.remote_id} would be deleted", err=err)


def print_left(record: FileRecord, done: str) -> None:
    """What was done, and where the file is still."""
    places = ", ".join(replica.platform for replica in record.replicas)
    click.echo(f"{output.printable(record.name)}: {done}" + (f"; still on {places}" if places else ""))
