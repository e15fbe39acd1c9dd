"""Options that several commands have, and what is done for each of several files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from exai_files.cli import output
from exai_files.errors import Error

T = TypeVar("T")

as_json = click.option("--json", "as_json", is_flag=True, help='One JSON object per line, with "schema".')
dry_run = click.option("--dry-run", is_flag=True, help="Say what would happen, and change nothing.")
one_platform = click.option("--platform", metavar="NAME", help="Which platform.")


_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def _duration(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """A time span such as 90s, 15m, 12h or 7d, in seconds."""
    if value is None:
        return None
    number, unit = (value[:-1], value[-1]) if value[-1:] in _UNITS else (value, "s")
    try:
        seconds = float(number) * _UNITS[unit]
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise click.BadParameter(f"{value!r} is no time span; write one such as 90s, 15m, 12h or 7d")
    return seconds


wanted_for = click.option(
    "--for", "for_", metavar="TIME", callback=_duration, help="How long it is wanted, such as 7d. Default: for ever."
)
some_tags = click.option("--tag", "tags", multiple=True, metavar="TAG", help="A tag to add; repeat it.")
some_metadata = click.option(
    "--set", "metadata", multiple=True, metavar="FIELD=VALUE", help="Metadata to add: JSON, or else text; repeat it."
)
timeout = click.option("--timeout", type=float, metavar="SECONDS", help="Deadline of the whole call.")


def each(files: Sequence[str], work: Callable[[str], T], show: Callable[[T], None], as_json: bool) -> int:
    """Goes on after a failure; the exit code says whether there were any."""
    outcomes: list[object] = []
    for file in files:
        try:
            outcome = work(file)
        except Error as error:
            outcomes.append(error)
            print_failure(error, file, as_json)
        else:
            outcomes.append(outcome)
            if as_json:
                output.print_json(outcome)
            else:
                show(outcome)
    return output.exit_code_of(outcomes)


def print_failure(error: Error, file: str, as_json: bool) -> None:
    output.complain(error)
    if as_json:
        output.print_json(output.as_fields(error, file))


def fields(metadata: Sequence[str]) -> dict[str, Any]:
    """What `--set` gave."""
    given = {}
    for text in metadata:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--set {text}: give a field and its value, such as project=x")
        try:
            given[name] = json.loads(value)
        except ValueError:
            given[name] = value
    return given
