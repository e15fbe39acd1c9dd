"""`check`."""

from __future__ import annotations

import click

from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.cli.options import as_json, one_platform, timeout


@cli.command()
@click.argument("file")
@one_platform
@click.option("--read", is_flag=True, help="Also read back what platforms give back as it was.")
@timeout
@as_json
@click.pass_obj
def check(session: Session, file: str, platform: str | None, read: bool, timeout: float | None, as_json: bool) -> int:
    """Ask platforms how a file's copies are.

    The exit code is 10 when one is not as it should be, else 5 when one could not be asked about.
    """
    with session.client() as client:
        found = client.check(file, platform=platform, read=read, timeout=timeout)
    if as_json:
        for one in found:
            output.print_json(one)
    else:
        rows = [(f.verdict, f.platform, f.account, f.remote_id, f"{f.response_time:.3f} s", f.evidence) for f in found]
        output.table(rows, ("VERDICT", "PLATFORM", "ACCOUNT", "ID", "ANSWERED IN", "EVIDENCE"))
    verdicts = {one.verdict for one in found}
    if verdicts & {"lost", "differs", "unusable"}:
        return 10
    return 5 if "unknown" in verdicts else 0
