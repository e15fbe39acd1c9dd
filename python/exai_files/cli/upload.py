"""`upload`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

import click

from exai_files import progress
from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.cli.options import (
    as_json,
    dry_run,
    each,
    fields,
    print_failure,
    some_metadata,
    some_tags,
    timeout,
    wanted_for,
)
from exai_files.errors import Error, InvalidRequestError
from exai_files.sizes import in_units

if TYPE_CHECKING:
    from exai_files.client import Client
    from exai_files.records import FileRecord, Transfer, UploadPlan


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--to", "to", multiple=True, metavar="PLATFORM", help='Where to; repeat it for several. "any": one that is well.'
)
@click.option("--prefer", multiple=True, metavar="PLATFORM", help="With --to any: which first; repeat it.")
@click.option("--account", metavar="NAME", help="Which account of each platform. Default: the one with most room.")
@click.option("--purpose", help="What the platform will do with it. Default: by the file's type.")
@click.option("--name", help='File name the platforms show; needed for "-" (standard input).')
@click.option("--owner", metavar="NAME", help="Who hands it over.")
@some_tags
@some_metadata
@wanted_for
@click.option(
    "--when-full",
    type=click.Choice(["refuse", "evict-lru", "evict-smallest"]),
    help="When the account is full: refuse, or what was used longest ago, or is smallest, makes room.",
)
@click.option("--paranoid", is_flag=True, help="Hash files even if they have not changed.")
@click.option("--concurrency", type=click.IntRange(1, 64), default=4, show_default=True, help="Files at a time.")
@timeout
@dry_run
@as_json
@click.pass_obj
def upload(
    session: Session,
    files: tuple[str, ...],
    to: tuple[str, ...],
    prefer: tuple[str, ...],
    account: str | None,
    purpose: str | None,
    name: str | None,
    owner: str | None,
    tags: tuple[str, ...],
    metadata: tuple[str, ...],
    for_: float | None,
    when_full: str | None,
    paranoid: bool,
    concurrency: int,
    timeout: float | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Put files on platforms; what is there already is not sent again.

    ✓ sent, = already there, ↺ found after a lost reply.
    """
    if name is not None and len(files) > 1 and "-" not in files:
        raise click.UsageError('--name goes with one file, or with "-"')
    names = {file: name if file == "-" or len(files) == 1 else None for file in files}
    if "any" in to and len(to) > 1:
        raise click.UsageError("--to any goes alone; say --prefer for the platforms to try first")
    destination = {"to": "any", "prefer": list(prefer)} if "any" in to else {"to": list(to), "prefer": prefer or None}
    options: dict[str, Any] = {**destination, "account": account, "purpose": purpose, "when_full": when_full}
    if dry_run:
        return _plan(session, names, options, as_json)
    import asyncio  # half of the start-up, and only needed here

    options |= {"owner": owner, "tags": tags, "metadata": fields(metadata), "for_": for_}
    options |= {"paranoid": paranoid, "timeout": timeout, "bulk": len(files) > 1}
    return asyncio.run(_upload(session, names, options, concurrency, as_json))


def _source(file: str) -> str | IO[bytes]:
    if file != "-":
        return file
    if sys.stdin is None:
        raise InvalidRequestError("standard input is closed", hint="name a file")
    # Without Python's buffer, whose lock a reading thread would hold when Ctrl-C ends the process.
    return os.fdopen(0, "rb", buffering=0, closefd=False)


def _plan(session: Session, names: dict[str, str | None], options: dict[str, Any], as_json: bool) -> int:
    def plan(client: Client, file: str) -> UploadPlan:
        return client.plan(_source(file), name=names[file], **options)

    with session.client() as client:
        return each(list(names), lambda file: plan(client, file), _print_plan, as_json)


def _print_plan(plan: UploadPlan) -> None:
    for target in plan.targets:
        what = "is there already" if target.is_there else f"would be sent as {target.remote_name!r}"
        name = output.printable(plan.name)
        click.echo(f"{name}  {in_units(plan.size)}  {target.platform} ({target.purpose}): {what}")
        for gone in target.evictions:
            click.echo(f"  {output.printable(gone.name)}  {in_units(gone.size)}  would be taken off to make room")


async def _upload(
    session: Session, names: dict[str, str | None], options: dict[str, Any], concurrency: int, as_json: bool
) -> int:
    import asyncio

    room = asyncio.Semaphore(concurrency)
    outcomes: dict[str, FileRecord | Error] = {}
    try:
        async with session.async_client() as client:
            with _progress(session) as show:

                async def one(file: str) -> None:
                    async with room:
                        try:
                            outcomes[file] = await client.upload(
                                _source(file), name=names[file], progress=show, **options
                            )
                        except Error as error:
                            outcomes[file] = error

                await asyncio.gather(*map(one, names))
    finally:  # after Ctrl-C, too: what is done is done
        for file in filter(outcomes.__contains__, names):
            _print_uploaded(outcomes[file], file, as_json)
    return output.exit_code_of(list(outcomes.values()))


def _print_uploaded(outcome: FileRecord | Error, file: str, as_json: bool) -> None:
    if isinstance(outcome, Error):
        print_failure(outcome, file, as_json)
    elif as_json:
        output.print_json(outcome)
    else:
        output.print_uploaded(outcome)


@contextlib.contextmanager
def _progress(session: Session) -> Iterator[Callable[[Transfer], None] | None]:
    """A bar on a terminal, silence elsewhere."""
    if session.quiet or not sys.stderr.isatty() or progress.is_disabled():
        yield None
        return
    try:
        import rich  # noqa: F401
    except ImportError:
        yield None
        return
    with progress.rich() as show:
        yield show
