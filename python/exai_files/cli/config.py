"""`config`."""

from __future__ import annotations

import json

import click

from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.cli.options import as_json


@cli.group()
def config() -> None:
    """What is set, where it comes from, and whether it is right."""


@config.command("show")
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@as_json
@click.pass_obj
def config_show(session: Session, origin: bool, as_json: bool) -> None:
    """Print every setting in force; secrets are withheld."""
    with session.client() as client:
        settings = client.settings()
    if as_json:
        for setting in settings:
            output.print_json(setting)
        return
    rows = [(s.path, json.dumps(s.value, ensure_ascii=False), *([s.origin] if origin else [])) for s in settings]
    output.table(rows, ("SETTING", "VALUE", *(["ORIGIN"] if origin else [])))


@config.command("check")
@click.pass_obj
def config_check(session: Session) -> None:
    """Read the configuration and report every fault at once."""
    with session.client():
        click.echo("the configuration is right")


@config.command("example")
def config_example() -> None:
    """Print a complete, commented configuration file."""
    from exai_files import _core

    click.echo(_core.config_example(), nl=False)
