"""`python -m exai_files.dropin`: puts this package in the place of the tool's modules, says how it is, and undoes it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from exai_files.cli import output
from exai_files.cli.options import as_json, dry_run
from exai_files.dropin import install
from exai_files.errors import Error

if TYPE_CHECKING:
    from exai_files.dropin.names import Place
    from exai_files.dropin.originals import Kept

tool = click.argument("path", type=click.Path(), metavar="PATH")


@click.group()
def cli() -> None:
    """Put exai-files in the place of the EXAI tool's file modules. PATH is the directory that has its src in it."""


@cli.command("install")
@tool
@click.option(
    "--keep",
    type=click.Choice(["copies", "branch"]),
    default="copies",
    show_default=True,
    help="Where the originals go: beside the files as .orig, or on a git branch.",
)
@dry_run
@as_json
def install_command(path: str, keep: Kept, dry_run: bool, as_json: bool) -> None:
    """Replace the modules, all or none, and wire the uploads; with --dry-run, print the diff."""
    if dry_run:
        changes = install.plan(path)
        text = install.diff(changes)
        output.print_json({"changes": [each.path for each in changes], "diff": text}) if as_json else click.echo(
            text, nl=False
        )
        return
    _show(install.install(path, keep=keep), as_json)


@cli.command()
@tool
@as_json
def status(path: str, as_json: bool) -> int:
    """Say what is in the place of each module. The exit code is 10 when one was changed since, or by another version."""
    places = install.status(path)
    _show(places, as_json)
    return 10 if any(each.state in ("changed since", "other version") for each in places) else 0


@cli.command()
@tool
@click.option("--force", is_flag=True, help="Overwrite what was edited since.")
@as_json
def uninstall(path: str, force: bool, as_json: bool) -> None:
    """Put every original back, byte for byte."""
    _show(install.uninstall(path, force=force), as_json)


def main(args: Sequence[str] | None = None) -> None:
    """Runs one command, and ends with a documented code (see `exai-files --help`)."""
    try:
        sys.exit(cli.main(args, prog_name="python -m exai_files.dropin", standalone_mode=False) or 0)
    except Error as error:
        output.complain(error)
        sys.exit(output.exit_code(error))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OSError as error:
        click.echo(f"exai-files: {error.filename}: {error.strerror}", err=True)
        sys.exit(1)


def _show(places: list[Place], as_json: bool) -> None:
    if as_json:
        output.print_json({"modules": places})
        return
    rows = [(each.module, each.state, "" if each.state == "missing" else each.by, each.remark) for each in places]
    output.table(rows, ("MODULE", "STATE", "BY", "REMARK"))


if __name__ == "__main__":
    main()
