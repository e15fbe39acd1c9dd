"""The commands."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from exai_files import progress
from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.errors import Error, InvalidRequestError, NotFoundError

if TYPE_CHECKING:
    from exai_files.client import Client
    from exai_files.database import DatabaseStatus
    from exai_files.records import BreakerMode, FileRecord, Transfer, UploadPlan
    from exai_files.simulator import Simulator

T = TypeVar("T")

as_json = click.option("--json", "as_json", is_flag=True, help='One JSON object per line, with "schema".')
dry_run = click.option("--dry-run", is_flag=True, help="Say what would happen, and change nothing.")
one_platform = click.option("--platform", metavar="NAME", help="Which platform.")
timeout = click.option("--timeout", type=float, metavar="SECONDS", help="Deadline of the whole call.")


# ===== upload =====


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--to", "to", multiple=True, metavar="PLATFORM", help='Where to; repeat it for several. "any": one that is well.'
)
@click.option("--prefer", multiple=True, metavar="PLATFORM", help="With --to any: which first; repeat it.")
@click.option("--purpose", help="What the platform will do with it. Default: by the file's type.")
@click.option("--name", help='File name the platforms show; needed for "-" (standard input).')
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
    purpose: str | None,
    name: str | None,
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
    options: dict[str, Any] = {**destination, "purpose": purpose}
    if dry_run:
        return _plan(session, names, options, as_json)
    import asyncio  # half of the start-up, and only needed here

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
        return _each(list(names), lambda file: plan(client, file), _print_plan, as_json)


def _print_plan(plan: UploadPlan) -> None:
    for target in plan.targets:
        what = "is there already" if target.is_there else f"would be sent as {target.remote_name!r}"
        name = output.printable(plan.name)
        click.echo(f"{name}  {output.size(plan.size)}  {target.platform} ({target.purpose}): {what}")


def _each(files: Sequence[str], work: Callable[[str], T], show: Callable[[T], None], as_json: bool) -> int:
    """Goes on after a failure; the exit code says whether there were any."""
    outcomes: list[object] = []
    for file in files:
        try:
            outcome = work(file)
        except Error as error:
            outcomes.append(error)
            _print_failure(error, file, as_json)
        else:
            outcomes.append(outcome)
            if as_json:
                output.print_json(outcome)
            else:
                show(outcome)
    return output.exit_code_of(outcomes)


def _print_failure(error: Error, file: str, as_json: bool) -> None:
    output.complain(error)
    if as_json:
        output.print_json(output.as_fields(error, file))


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
        _print_failure(outcome, file, as_json)
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


# ===== looking =====


@cli.command()
@one_platform
@click.option("--name", metavar="TEXT", help="Only files whose name contains this.")
@click.option("--newer-than", type=float, metavar="SECONDS", help="Only files uploaded within this time.")
@click.option("--remote", is_flag=True, help="What the platform itself lists; needs --platform.")
@as_json
@click.pass_obj
def ls(
    session: Session, platform: str | None, name: str | None, newer_than: float | None, remote: bool, as_json: bool
) -> None:
    """List files, newest first."""
    with session.client() as client:
        if remote:
            if platform is None:
                raise click.UsageError("--remote needs --platform")
            _print_remote(client.list_remote(platform), as_json)
            return
        rows = []
        for record in client.list(platform=platform, name=name, newer_than=newer_than):
            if as_json:
                output.print_json(record)
            else:
                places = ", ".join(replica.platform for replica in record.replicas) or "-"
                rows.append((output.short(record.digest), record.name, output.size(record.size), places))
        output.table(rows, ("DIGEST", "NAME", "SIZE", "WHERE"))


def _print_remote(files: list[Any], as_json: bool) -> None:
    rows = []
    for file in files:
        if as_json:
            output.print_json(file)
        size = "-" if file.size is None else output.size(file.size)
        rows.append((file.id, file.name or "-", size, file.purpose or "-", file.status))
    if not as_json:
        output.table(rows, ("ID", "NAME", "SIZE", "PURPOSE", "STATUS"))


@cli.command()
@click.argument("file")
@as_json
@click.pass_obj
def stat(session: Session, file: str, as_json: bool) -> None:
    """Show one file and each of its copies.

    FILE is a digest or at least six characters of one, a remote id, or an exact name.
    """
    with session.client() as client:
        record = client.get(file)
    if as_json:
        output.print_json(record)
        return
    click.echo(f"{output.printable(record.name)}  {output.size(record.size)} ({record.size} bytes)  {record.mime}")
    click.echo(record.digest)
    rows = [
        (
            replica.platform,
            replica.account,
            replica.purpose,
            replica.remote_id,
            f"gives back {replica.content.replace('-', ' ')}",
            f"verified {replica.verified_at:%Y-%m-%d %H:%M}Z",
            f"expires {replica.expires_at:%Y-%m-%d}" if replica.expires_at else "no expiry stated",
        )
        for replica in record.replicas
    ]
    output.table(rows, ("PLATFORM", "ACCOUNT", "PURPOSE", "ID", "CONTENT", "VERIFIED", "EXPIRES"))


# ===== reading back =====


@cli.command()
@click.argument("file")
@one_platform
@timeout
@click.pass_obj
def text(session: Session, file: str, platform: str | None, timeout: float | None) -> None:
    """Print a file's text, as a platform extracted it."""
    with session.client() as client:
        click.echo(client.text(file, platform=platform, timeout=timeout))


@cli.command()
@click.argument("file")
@click.argument("to", default=".", metavar="[TO]")
@one_platform
@timeout
@as_json
@click.pass_obj
def download(session: Session, file: str, to: str, platform: str | None, timeout: float | None, as_json: bool) -> None:
    """Write what a platform gives back to TO: a file, a directory, or "-" for standard output."""
    if to == "-" and as_json:
        raise click.UsageError('--json goes with a file, not with "-"')
    with session.client() as client:
        if to == "-":
            content = client.content(file, platform=platform, timeout=timeout)
            sys.stdout.buffer.write(content.data)
            _warn_if_text(session, content.kind, content.platform)
            return
        done = client.download(file, to, platform=platform, timeout=timeout)
    _warn_if_text(session, done.kind, done.platform)
    if as_json:
        output.print_json(done)
    else:
        click.echo(f"{done.path}  {output.size(done.size)}  from {done.platform}")


def _warn_if_text(session: Session, kind: str, platform: str) -> None:
    if kind == "extracted-text" and not session.quiet:
        click.echo(f"exai-files: this is text that {platform} extracted, not the file", err=True)


# ===== removing =====


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@one_platform
@click.option("--yes", is_flag=True, help="Do not ask.")
@timeout
@dry_run
@as_json
@click.pass_obj
def rm(
    session: Session,
    files: tuple[str, ...],
    platform: str | None,
    yes: bool,
    timeout: float | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Take files off one platform, or off all. Local files are not touched."""
    with session.client() as client:
        if platform is not None:
            client.capabilities(platform)  # raises for a name that nobody knows
        if dry_run:
            return _each(files, lambda file: _doomed(client.get(file), platform), _print_doomed, as_json)
        if not yes:
            for file in files:
                with contextlib.suppress(NotFoundError):  # said when its turn comes
                    _print_doomed(_doomed(client.get(file), platform), err=True)
            _confirm()
        return _each(files, lambda file: client.delete(file, platform=platform, timeout=timeout), _print_left, as_json)


def _doomed(record: FileRecord, platform: str | None) -> FileRecord:
    """The record with only those copies that `rm` would delete."""
    import dataclasses

    there = record.on(platform) if platform else None
    replicas = tuple(r for r in record.replicas if platform is None or (there and r.platform == there.platform))
    if not replicas:
        place = platform or "any platform"
        raise NotFoundError(f"{record.name!r} is not on {place}", hint="`exai-files stat` shows where it is")
    return dataclasses.replace(record, replicas=replicas)


def _print_doomed(record: FileRecord, *, err: bool = False) -> None:
    name = output.printable(record.name)
    for replica in record.replicas:
        click.echo(f"{name}: {replica.platform} {replica.remote_id} would be deleted", err=err)


def _print_left(record: FileRecord) -> None:
    places = ", ".join(replica.platform for replica in record.replicas)
    click.echo(f"{output.printable(record.name)}: deleted" + (f"; still on {places}" if places else ""))


def _confirm() -> None:
    if not sys.stdin or not sys.stdin.isatty():
        raise click.UsageError("rm deletes from platforms: add --yes")
    click.confirm("Delete?", abort=True, err=True)


# ===== platforms =====


@cli.group()
def platforms() -> None:
    """What platforms can do, and what the accounts hold."""


@platforms.command("ls")
@as_json
@click.pass_obj
def platforms_ls(session: Session, as_json: bool) -> None:
    """List the connected platforms."""
    with session.client() as client:
        infos = client.platforms()
    if not infos and not session.quiet:
        click.echo("exai-files: no platform is connected; set MOONSHOT_API_KEY or ZAI_API_KEY", err=True)
    if as_json:
        for info in infos:
            output.print_json(info)
        return
    rows = [
        (
            info.platform,
            info.account,
            str(info.capabilities["base_url"]),
            f"{info.files} files",
            output.size(info.bytes),
        )
        for info in infos
    ]
    output.table(rows, ("PLATFORM", "ACCOUNT", "BASE URL", "FILES", "SIZE"))


@platforms.command("info")
@click.argument("platform")
@as_json
@click.pass_obj
def platforms_info(session: Session, platform: str, as_json: bool) -> None:
    """Show what one platform can do, with the source and date of each fact. Needs no key."""
    with session.client() as client:
        capabilities = client.capabilities(platform)
    if as_json:
        output.print_json(capabilities)
    else:
        _print_tree(capabilities)


def _print_tree(value: Any, depth: int = 0, name: str = "") -> None:  # noqa: ANN401  (JSON)
    indent = "  " * depth
    if isinstance(value, dict) and set(value) == {"value", "source", "as_of"}:
        click.echo(
            f"{indent}{name}: {json.dumps(value['value'], ensure_ascii=False)}  [{value['source']}, {value['as_of']}]"
        )
    elif isinstance(value, dict):
        if name:
            click.echo(f"{indent}{name}:")
        for key, item in value.items():
            _print_tree(item, depth + bool(name), key)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        click.echo(f"{indent}{name}:")
        for item in value:
            heading = str(item.get("wire", item.get("tier", "-")))
            _print_tree(item, depth + 1, heading)
    else:
        shown = ", ".join(map(str, value)) if isinstance(value, list) else json.dumps(value, ensure_ascii=False)
        click.echo(f"{indent}{name}: {shown}")


# ===== circuit breakers =====


@cli.group()
def breaker() -> None:
    """Which platforms are left in peace after failures, and for how long."""


one_operation = click.option(
    "--operation",
    type=click.Choice(["upload", "list", "get", "content", "delete"]),
    help="Which operation. Default: all.",
)


@breaker.command("ls")
@as_json
@click.pass_obj
def breaker_ls(session: Session, as_json: bool) -> None:
    """Show every circuit breaker."""
    with session.client() as client:
        health = client.health()
    if as_json:
        for platform in health:
            output.print_json(platform)
        return
    rows = [
        (
            platform.platform,
            breaker.operation,
            breaker.state,
            f"{breaker.failures} of {breaker.calls} failed",
            f"until {breaker.open_until:%H:%M:%S}Z" if breaker.open_until else "-",
        )
        for platform in health
        for breaker in platform.breakers
    ]
    output.table(rows, ("PLATFORM", "OPERATION", "STATE", "LATELY", "OPEN"))


@breaker.command("set")
@click.argument("platform")
@click.argument("mode", type=click.Choice(["automatic", "forced-open", "disabled", "metrics-only"]))
@one_operation
@click.pass_obj
def breaker_set(session: Session, platform: str, mode: BreakerMode, operation: str | None) -> None:
    """Force a breaker open, or switch it off, until it is reset."""
    with session.client() as client:
        client.set_breaker(platform, mode, operation=operation)


@breaker.command("reset")
@click.argument("platform")
@one_operation
@click.pass_obj
def breaker_reset(session: Session, platform: str, operation: str | None) -> None:
    """Close a breaker and forget what it counted."""
    with session.client() as client:
        client.reset_breaker(platform, operation=operation)


# ===== config =====


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


# ===== db =====


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
    click.echo(f"{status.database}: schema {status.version} of {status.latest}, {output.size(status.size)}")
    for missing in status.drift:
        click.echo(f"  {missing}")


# ===== sim =====


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

    The first line on standard output is one JSON object with the base URL of each profile (moonshot, zai, zhipu_cn) and
    of admin, which takes faults, clock and settings and gives the truth log and stored bytes.
    """
    import signal

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
