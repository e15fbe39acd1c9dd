"""`auth`."""

from __future__ import annotations

import click

from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.cli.options import as_json

NOT_USABLE = 6
"""Exit code: authentication or permission."""


@cli.group()
def auth() -> None:
    """Where keys come from. They are never shown."""


@auth.command("status")
@click.option("--check", is_flag=True, help="Run the commands that print keys, too.")
@as_json
@click.pass_obj
def auth_status(session: Session, check: bool, as_json: bool) -> int:
    """Show where each account's key comes from, and whether it is there.

    A key is looked for in this order: the call, api_key_command, api_key_file, variables. The exit code is 6 when one
    that is named cannot be had.
    """
    with session.client(recovers=False) as client:
        statuses = client.credentials(check=check)
    if as_json:
        for status in statuses:
            output.print_json(status)
    else:
        rows = [
            (s.platform, s.account or "-", s.source or "-", s.fingerprint or "-", s.problem or "") for s in statuses
        ]
        output.table(rows, ("PLATFORM", "ACCOUNT", "FROM", "FINGERPRINT", "PROBLEM"))
    return NOT_USABLE if any(status.source and status.problem for status in statuses) else 0
