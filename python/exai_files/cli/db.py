"""`db`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.cli.options import as_json, dry_run
from exai_files.sizes import in_units

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
    click.echo(f"{status.database}: schema {status.version} of {status.latest}, {in_units(status.size)}")
    for missing in status.drift:
        click.echo(f"  {missing}")


@db.command("import")
@click.option("--from", "variable", metavar="VARIABLE", help="Variable that holds the URL. Default: this database.")
@dry_run
@as_json
@click.pass_obj
def db_import(session: Session, variable: str | None, dry_run: bool, as_json: bool) -> int:
    """Take in rows of the EXAI tool's files, file_hashes, provider_file_uploads and file_id_mappings.

    It may be repeated. Afterwards `exai-files reconcile --winner platform` asks what the files are for. The exit code
    is 3 when rows were rejected.
    """
    source = None if variable is None else os.environ.get(variable)
    if variable is not None and not source:
        raise click.UsageError(f"--from {variable}: there is no such variable; it has to hold a PostgreSQL URL")
    with session.database() as database:
        report = database.import_rows(source, dry_run=dry_run)
    if as_json:
        output.print_json(report)
        return 3 if report.rejects else 0
    would = "would be " if dry_run else ""
    click.echo(
        f"{report.contents} contents and {report.replicas} copies {would}taken in; "
        f"{report.known_contents} and {report.known_replicas} were known"
    )
    output.table([(reject.table, reject.id, reject.why) for reject in report.rejects], ("TABLE", "ID", "REJECTED"))
    return 3 if report.rejects else 0


@db.command("maintain")
@click.option("--keep-days", type=click.FloatRange(0), default=90, show_default=True, help="Younger history stays.")
@dry_run
@as_json
@click.pass_obj
def db_maintain(session: Session, keep_days: float, dry_run: bool, as_json: bool) -> None:
    """Remove old history, and keep the database small and quick. The audit trail stays."""
    with session.database() as database:
        report = database.maintain(keep=keep_days * 86_400, dry_run=dry_run)
    if as_json:
        output.print_json(report)
        return
    for table, rows in report.removed.items():
        click.echo(f"{table}: {rows} rows {'would be ' if dry_run else ''}removed")
    click.echo(f"{in_units(report.size_before)} before, {in_units(report.size_after)} now")
