"""`reconcile`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.cli.options import as_json, timeout
from exai_files.sizes import in_units

if TYPE_CHECKING:
    from exai_files.records import Difference, Reconciliation


@cli.command()
@click.option("--platform", multiple=True, metavar="NAME", help="Which platforms; repeat it. Default: all.")
@click.option("--account", metavar="NAME", help="Only this account of each.")
@click.option("--only-remote", type=click.Choice(["report", "adopt", "delete"]), default="report", show_default=True)
@click.option("--only-local", type=click.Choice(["report", "forget", "reupload"]), default="report", show_default=True)
@click.option("--winner", type=click.Choice(["none", "newest", "local", "platform"]), default="none", show_default=True)
@click.option(
    "--max-delete", default="10", show_default=True, metavar="N|P%", help="Files deleted or given up at once."
)
@click.option(
    "--min-age", type=float, default=3600, show_default=True, metavar="SECONDS", help="Of remote files to delete."
)
@click.option("--apply/--dry-run", "apply", default=False, help="Do it. Default: say what would be done.")
@click.option("--all", "with_equal", is_flag=True, help="Also show what agrees.")
@timeout
@as_json
@click.pass_obj
def reconcile(session: Session, /, apply: bool, as_json: bool, **options: Any) -> int:  # noqa: ANN401  (of the client)
    """Compare what platforms list with what is known, and make them agree as far as you allow.

    \b
      =  equal
      +  only there: no row explains it
      -  only here: the platform does not have it
      *  differs
      !  there, but of no use

    The exit code is 10 when differences are left, 8 when --max-delete would be exceeded.
    """  # noqa: D301  (click's mark for lines that stay)
    most = options["max_delete"]
    options |= {"platform": list(options["platform"]), "max_delete": int(most) if most.isdecimal() else most}
    with session.client() as client:
        done = client.reconcile(dry_run=not apply, **options)
    if as_json:
        for difference in done.differences:
            output.print_json(difference)
        for unasked in done.unasked:
            output.print_json(unasked)
    else:
        output.table([_row(difference, apply) for difference in done.differences], _HEADER)
    if not session.quiet:
        _print_summary(done)
    if done.unasked:
        return 3
    return 0 if done.is_settled else 10


_HEADER = ("", "PLATFORM", "ACCOUNT", "ID", "NAME", "SIZE", "ACTION")


def _row(difference: Difference, apply: bool) -> tuple[str, ...]:
    size = "-" if difference.size is None else in_units(difference.size)
    said = list(difference.why)
    if difference.action != "none":
        said.append(
            difference.action if difference.is_done else f"{'not done' if apply else 'would'}: {difference.action}"
        )
    if difference.obstacle:
        said.append(difference.obstacle)
    where = (difference.platform, difference.account, difference.remote_id)
    return (difference.sign, *where, difference.name, size, "; ".join(said))


def _print_summary(done: Reconciliation) -> None:
    for unasked in done.unasked:
        click.echo(f"exai-files: {unasked.platform} ({unasked.account}) could not be asked: {unasked.why}", err=True)
    differ = sum(difference.sign != "=" for difference in done.differences)
    orphans = in_units(sum(orphan.size or 0 for orphan in done.orphans))
    click.echo(
        f"exai-files: {done.equal} equal, {differ} not; {len(done.orphans)} remote files ({orphans}) that no row explains",
        err=True,
    )
