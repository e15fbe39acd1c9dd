"""`migrate legacy`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from exai_files.cli import output
from exai_files.cli.group import Session
from exai_files.cli.migrate import migrate
from exai_files.cli.options import as_json, dry_run

if TYPE_CHECKING:
    from exai_files.migrate.legacy import LegacyFile, LegacyReport


@migrate.command("legacy")
@click.argument("path")
@click.argument("more", nargs=-1, metavar="[FILE]...")
@click.option(
    "--remove", multiple=True, metavar="FILE", help="A module to remove, relative to PATH; more may follow it."
)
@click.option(
    "--move", "moves", multiple=True, metavar="OLD:NEW", help="Remove OLD once NEW has what packages pass on of it."
)
@click.option(
    "--accept", multiple=True, metavar="NAME", help="For --move: NEW's definition of it counts, although it differs."
)
@click.option("--batch-size", type=click.IntRange(1), default=5, show_default=True, help="Files for each commit.")
@click.option("--python", metavar="PROGRAM", help="The tool's interpreter. Default: the one that runs this.")
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=60, show_default=True, help="Seconds for each import."
)
@click.option("--jobs", type=click.IntRange(1), help="Imports at a time. Default: as many as there are processors.")
@dry_run
@as_json
@click.pass_obj
def migrate_legacy(
    session: Session,
    path: str,
    more: Sequence[str],
    remove: Sequence[str],
    moves: Sequence[str],
    accept: Sequence[str],
    batch_size: int,
    python: str | None,
    timeout: float,
    jobs: int | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Remove modules of the tool at PATH that nothing needs any more.

    For example: exai-files migrate legacy . --move config/timeouts.py:config/operations.py --dry-run

    What is still used is refused, with who uses it. Re-exports that nobody takes go with their module. Everything is done
    in a new branch, in small commits; after each, every module that imported before has to import again, or the commit is
    not made. That runs the code of the tool's modules: in a copy, without your variables, each in a process of its own.

    The exit code is 3 when files were refused, 10 for a dry run with something to do.
    """
    from exai_files.migrate.legacy import remove_legacy

    if not (session.quiet or dry_run):
        click.echo("this runs the tool's own code: its modules are imported, without your variables", err=True)
    report = remove_legacy(
        path,
        [*remove, *more],
        moves=dict(_pair(move) for move in moves),
        accepted=accept,
        batch_size=batch_size,
        python=python,
        timeout=timeout,
        jobs=jobs,
        dry_run=dry_run,
    )
    if as_json:
        output.print_json(report)
    else:
        _print(report)
        if not session.quiet:
            _print_remarks(report)
    if not report.is_complete:
        return 3
    return 10 if dry_run else 0


def _pair(move: str) -> tuple[str, str]:
    old, colon, new = move.rpartition(":")
    if not colon or not old or not new:
        raise click.UsageError(f"--move {move}: give the module and where it moves, such as a/old.py:a/new.py")
    return old, new


def _print(report: LegacyReport) -> None:
    if report.diff:
        click.echo(report.diff, nl=False)
    would = "would be " if report.dry_run else ""
    for file in report.files:
        done = f"{would}removed" if file.outcome == "removed" else file.outcome
        click.echo(output.printable(f"{file.file}: {done}" + (f": {file.why}" if file.why else "")))
        for said in _said(file):
            click.echo(f"  {output.printable(said)}")


def _said(file: LegacyFile) -> list[str]:
    said = [str(use) for use in file.uses]
    if file.moved_to and file.outcome == "removed":
        said.append(f"{file.moved_to} has its names" + (f", and got {', '.join(file.moved)}" if file.moved else ""))
    if file.dropped:
        said.append(f"nobody took {', '.join(file.dropped)}")
    if file.mentions:
        more = f" and {len(file.mentions) - 5} more places" if len(file.mentions) > 5 else ""
        said.append(f"still spoken of in {', '.join(file.mentions[:5])}{more}")
    return [*said, *file.remarks]


def _print_remarks(report: LegacyReport) -> None:
    """What there is to know about the whole, to stderr."""
    said = [f"{file} cannot be parsed: {why}" for file, why in report.unreadable.items()]
    if report.imported:
        said.append(f"{report.imported} modules import as before")
    said += [f"{module} did not import before either: {why}" for module, why in report.failing.items()]
    if report.scripts:
        said.append(f"not imported, since that would run them: {', '.join(report.scripts)}")
    if report.branch:
        where = "you are on it now" if report.is_switched else f"`git switch {report.branch}` goes there"
        commits = f"{len(report.commits)} new commit{'s' * (len(report.commits) > 1)}"
        said.append(f"the branch {report.branch} has {commits}; {where}")
        said.append(f"`{report.way_back}` goes back")
    for each in said:
        click.echo(output.printable(each), err=True)
