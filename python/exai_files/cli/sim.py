"""`sim`."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from typing import TYPE_CHECKING

import click

from exai_files.cli.group import cli
from exai_files.errors import InvalidRequestError

if TYPE_CHECKING:
    from exai_files.simulator import Simulator


@cli.group()
def sim() -> None:
    """The platforms on this machine: no key, no network, any fault you like."""


@sim.command("serve")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1. Default: any free one.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**64 - 1),
    default=0,
    show_default=True,
    help="Ids and random faults follow from it.",
)
@click.option("--now", metavar="RFC3339", help="Start the clock there, e.g. 2026-11-23T10:00:00Z.")
def sim_serve(port: int, seed: int, now: str | None) -> None:
    """Serve Moonshot, Z.ai and Zhipu until interrupted.

    The first line on standard output is one JSON object with the base URL of each profile (moonshot, zai, kimi_code, zhipu_cn) and
    of admin, which takes faults, clock and settings and gives the truth log and stored bytes.
    """
    from exai_files.simulator import Simulator

    try:
        simulator = Simulator(port=port, seed=seed, now=now)
        simulator.start()
    except (ValueError, OSError) as error:
        raise InvalidRequestError(
            f"the simulator cannot start: {error}", hint="choose another --port or --now"
        ) from None
    # Raised here, not passed on as SIGINT: a shell's background jobs ignore that one.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with simulator, contextlib.suppress(KeyboardInterrupt):
        announce(simulator)
        while True:
            signal.pause()


def announce(simulator: Simulator) -> None:
    """Says where the simulator is: to programs on standard output, to people on standard error."""
    click.echo(json.dumps(simulator.urls))
    sys.stdout.flush()
    click.echo("# to use it from another shell:", err=True)
    for variable, profile in (("MOONSHOT", "moonshot"), ("ZAI", "zai"), ("ZHIPUAI", "zhipu_cn")):
        platform = getattr(simulator, profile)
        click.echo(f"export {variable}_BASE_URL={platform.base_url} {variable}_API_KEY={platform.api_key}", err=True)
