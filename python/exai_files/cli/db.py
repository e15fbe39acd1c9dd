"""`db`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.cli.options import as_json

if TYPE_CHECKING:
    from exai_files.database import DatabaseStatus


@cli.group()
def db() -> None:
    """The registry's database: its schema, and how it is."""


@db.command("plan")
@as_json
@click.pass_obj
def db_plan(session: Session, as_json: bool) -> None:
    """Print the DDL that `db migrate` would run, and change nothing."""
    with session.database() as database:
        plan = database.plan()
    if as_json:
        output.print_json(plan)
        return
    if plan.adopts:
        click.echo(f"-- takes over, with every row: {', '.join(plan.adopts)}")
    for step in plan.steps:
        click.echo(f"-- step {step.version}: {step.name}\n{step.sql}")
    if not plan.steps:
        click.echo("-- nothing to do")


@db.command("migrate")
@as_json
@click.pass_obj
def db_migrate(session: Session, as_json: bool) -> None:
    """Bring the schema up to date, in one transaction; takes the EXAI tool's tables over, and loses no row."""
    with session.database() as database:
        _print_status(database.migrate(), as_json)


@db.command("status")
@as_json
@click.pass_obj
def db_status(session: Session, as_json: bool) -> int:
    """Show version, size and drift. The exit code is 10 when something is missing."""
    with session.database() as database:
        status = database.status()
    _print_status(status, as_json)
    return 10 if status.drift or status.version < status.latest else 0


def _print_status(status: DatabaseStatus, as_json: bool) -> None:
    if as_json:
        output.print_json(status)
        return
    click.echo(f"{status.database}: schema {status.version} of {status.latest}, {output.size(status.size)}")
    for missing in status.drift:
        click.echo(f"  {missing}")
