"""The commands."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any

import click

from exai_files import progress
from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.errors import Error, InvalidRequestError
from exai_files.records import FileRecord, Transfer

as_json = click.option("--json", "as_json", is_flag=True, help='One JSON object per line, with "schema".')
dry_run = click.option("--dry-run", is_flag=True, help="Say what would happen, and change nothing.")
one_platform = click.option("--platform", metavar="NAME", help="Which platform.")
timeout = click.option("--timeout", type=float, metavar="SECONDS", help="Deadline of the whole call.")


# ===== upload =====


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--to", "to", multiple=True, metavar="PLATFORM", help="Where to; repeat it for several.")
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
    if name is not None and len(files) > 1:
        raise click.UsageError("--name goes with one file")
    options: dict[str, Any] = {"to": list(to), "purpose": purpose, "name": name}
    if dry_run:
        return _plan(session, files, options, as_json)
    import asyncio  # half of the start-up, and only needed here

    options |= {"paranoid": paranoid, "timeout": timeout}
    return asyncio.run(_upload(session, files, options, concurrency, as_json))


def _source(file: str) -> str | IO[bytes]:
    return sys.stdin.buffer if file == "-" else file


def _plan(session: Session, files: tuple[str, ...], options: dict[str, Any], as_json: bool) -> int:
    with session.client() as client:
        for file in files:
            plan = client.plan(_source(file), **options)
            if as_json:
                output.print_json(plan)
                continue
            for target in plan.targets:
                what = "is there already" if target.is_there else f"would be sent as {target.remote_name!r}"
                click.echo(f"{plan.name}  {output.size(plan.size)}  {target.platform} ({target.purpose}): {what}")
    return 0


async def _upload(
    session: Session, files: tuple[str, ...], options: dict[str, Any], concurrency: int, as_json: bool
) -> int:
    import asyncio

    room = asyncio.Semaphore(concurrency)
    async with session.async_client() as client:
        with _progress(session) as show:

            async def one(file: str) -> FileRecord | Error:
                async with room:
                    try:
                        return await client.upload(_source(file), progress=show, **options)
                    except Error as error:
                        return error

            outcomes = await asyncio.gather(*map(one, files))
    failures = [outcome for outcome in outcomes if isinstance(outcome, Error)]
    for outcome in outcomes:
        if isinstance(outcome, Error):
            output.complain(outcome)
        elif as_json:
            output.print_json(outcome)
        else:
            output.print_uploaded(outcome)
    if not failures:
        return 0
    codes = {output.exit_code(failure) for failure in failures}
    return codes.pop() if len(failures) == len(outcomes) and len(codes) == 1 else 3


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
    click.echo(f"{record.name}  {output.size(record.size)} ({record.size} bytes)  {record.mime}")
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
        records = [client.get(file) for file in files]
        if dry_run or not yes:
            for record in records:
                for replica in _doomed(record, platform):
                    click.echo(
                        f"{record.name}: {replica.platform} {replica.remote_id} would be deleted", err=not dry_run
                    )
        if dry_run:
            return 0
        if not yes:
            _confirm()
        for record in records:
            left = client.delete(record, platform=platform, timeout=timeout)
            if as_json:
                output.print_json(left)
            else:
                places = ", ".join(replica.platform for replica in left.replicas)
                click.echo(f"{record.name}: deleted" + (f"; still on {places}" if places else ""))
    return 0


def _doomed(record: FileRecord, platform: str | None) -> list[Any]:
    if platform is None:
        return list(record.replicas)
    replica = record.on(platform)
    return [] if replica is None else [replica]


def _confirm() -> None:
    if not sys.stdin.isatty():
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


# ===== sim =====


@cli.group()
def sim() -> None:
    """The platforms on this machine: no key, no network, any fault you like."""


@sim.command("serve")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1. Default: any free one.")
@click.option("--seed", type=int, default=0, show_default=True, help="Ids and random faults follow from it.")
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
    with simulator:
        urls = simulator.urls
        click.echo(json.dumps(urls))
        sys.stdout.flush()
        click.echo("# to use it from another shell:", err=True)
        for variable, profile in (("MOONSHOT", "moonshot"), ("ZAI", "zai"), ("ZHIPUAI", "zhipu_cn")):
            platform = getattr(simulator, profile)
            click.echo(
                f"export {variable}_BASE_URL={platform.base_url} {variable}_API_KEY={platform.api_key}", err=True
            )
        signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                signal.pause()
