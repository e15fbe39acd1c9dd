"""What is known of files, what is in them, and taking them away."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from exai_files.cli import output
from exai_files.cli.group import Session, cli
from exai_files.cli.options import as_json, dry_run, each, fields, one_platform, some_metadata, some_tags, timeout
from exai_files.cli.removing import confirm, doomed, print_doomed, print_left, yes
from exai_files.errors import NotFoundError
from exai_files.sizes import in_units

if TYPE_CHECKING:
    from exai_files.records import FileRecord


# ===== looking =====


@cli.command()
@one_platform
@click.option("--account", metavar="NAME", help="Only files with a copy of this account.")
@click.option("--name", metavar="TEXT", help="Only files whose name contains this.")
@click.option("--digest", metavar="START", help="Only files whose digest begins so.")
@click.option("--tag", multiple=True, metavar="TAG", help="Only files with this tag; repeat it for all of several.")
@click.option("--owner", metavar="NAME", help="Only files that this one handed over first.")
@click.option("--status", type=click.Choice(["live", "unplaced", "trashed"]), help="Default: all but the trash.")
@click.option("--newer-than", type=float, metavar="SECONDS", help="Only files uploaded within this time.")
@click.option("--older-than", type=float, metavar="SECONDS", help="Only files uploaded before that.")
@click.option("--larger-than", type=click.IntRange(0), metavar="BYTES", help="Only larger files.")
@click.option("--smaller-than", type=click.IntRange(0), metavar="BYTES", help="Only smaller files.")
@click.option("--expires-within", type=float, metavar="SECONDS", help="Only files that a platform will drop by then.")
@click.option("--remote", is_flag=True, help="What the platform itself lists; needs --platform.")
@as_json
@click.pass_obj
def ls(session: Session, /, remote: bool, as_json: bool, **wanted: Any) -> None:  # noqa: ANN401  (the filters)
    """List files, newest first."""
    with session.client() as client:
        if remote:
            if wanted["platform"] is None:
                raise click.UsageError("--remote needs --platform")
            _print_remote(client.list_remote(wanted["platform"], account=wanted["account"]), as_json)
            return
        rows = []
        for record in client.list(**wanted):
            if as_json:
                output.print_json(record)
            else:
                places = ", ".join(replica.platform for replica in record.replicas) or "-"
                tags = " ".join(f"#{tag}" for tag in record.tags)
                rows.append((output.short(record.digest), record.name, in_units(record.size), places, tags))
        output.table(rows, ("DIGEST", "NAME", "SIZE", "WHERE", "TAGS"))


def _print_remote(files: list[Any], as_json: bool) -> None:
    rows = []
    for file in files:
        if as_json:
            output.print_json(file)
        size = "-" if file.size is None else in_units(file.size)
        rows.append((file.id, file.name or "-", size, file.purpose or "-", file.status))
    if not as_json:
        output.table(rows, ("ID", "NAME", "SIZE", "PURPOSE", "STATUS"))


@cli.command()
@click.argument("file")
@as_json
@click.pass_obj
def stat(session: Session, file: str, as_json: bool) -> None:
    """Show one file, each of its copies, and what holds it.

    FILE is a digest or at least six characters of one, a remote id, or an exact name.
    """
    with session.client() as client:
        record = client.get(file)
        holds = client.holds(record)
    if as_json:
        output.print_json({**vars(record), "holds": holds})
        return
    click.echo(f"{output.printable(record.name)}  {in_units(record.size)} ({record.size} bytes)  {record.mime}")
    click.echo(record.digest)
    _print_labels(record)
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
    output.print_holds(holds)


def _print_labels(record: FileRecord) -> None:
    said = [f"owner {record.owner}"] if record.owner else []
    said += [f"#{tag}" for tag in record.tags]
    said += [f"{field}={json.dumps(value, ensure_ascii=False)}" for field, value in record.metadata.items()]
    if record.keep_until:
        said.append(f"wanted until {record.keep_until:%Y-%m-%d %H:%M}Z")
    if record.trashed_at:
        said.append(f"in the trash since {record.trashed_at:%Y-%m-%d %H:%M}Z")
    if said:
        click.echo(output.printable("  ".join(said)))


@cli.command()
@click.argument("file")
@some_tags
@click.option("--untag", multiple=True, metavar="TAG", help="A tag to take away; repeat it.")
@some_metadata
@click.option("--owner", metavar="NAME", help="Whose it is.")
@as_json
@click.pass_obj
def update(
    session: Session,
    file: str,
    tags: tuple[str, ...],
    untag: tuple[str, ...],
    metadata: tuple[str, ...],
    owner: str | None,
    as_json: bool,
) -> None:
    """Change what is said of a file. A field set to null is removed."""
    with session.client() as client:
        record = client.update(file, tags=tags, untag=untag, metadata=fields(metadata), owner=owner)
    if as_json:
        output.print_json(record)
    else:
        click.echo(f"{output.short(record.digest)}  {output.printable(record.name)}")
        _print_labels(record)


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
        click.echo(f"{done.path}  {in_units(done.size)}  from {done.platform}")


def _warn_if_text(session: Session, kind: str, platform: str) -> None:
    if kind == "extracted-text" and not session.quiet:
        click.echo(f"exai-files: this is text that {platform} extracted, not the file", err=True)


# ===== moving and removing =====


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--from", "from_", required=True, metavar="NAME", help="The platform to take them off.")
@click.option("--to", required=True, metavar="NAME", help="The platform to put them on, first.")
@click.option("--purpose", metavar="NAME", help="What they are for there.")
@timeout
@dry_run
@as_json
@click.pass_obj
def mv(
    session: Session,
    files: tuple[str, ...],
    from_: str,
    to: str,
    purpose: str | None,
    timeout: float | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Put files on one platform and then take them off another."""
    if from_ == to:
        raise click.UsageError(f"--from {from_} --to {to}: name two platforms")
    with session.client() as client:
        if dry_run:
            for platform in (from_, to):
                client.capabilities(platform)  # raises for a name that nobody knows
            return each(files, lambda file: doomed(client.get(file), from_), lambda r: _print_moving(r, to), as_json)

        def move(file: str) -> FileRecord:
            return client.move(file, from_=from_, to=to, purpose=purpose, timeout=timeout)

        return each(files, move, lambda record: _print_moved(record, from_, to), as_json)


def _print_moving(record: FileRecord, to: str) -> None:
    for replica in record.replicas:
        name = output.printable(record.name)
        click.echo(f"{name}: {replica.platform} {replica.remote_id} would be moved to {to}")


def _print_moved(record: FileRecord, from_: str, to: str) -> None:
    there = record.on(to)
    click.echo(f"{output.printable(record.name)}: {from_} -> {to} {there.remote_id if there else ''}")


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@one_platform
@yes
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
            return each(files, lambda file: doomed(client.get(file), platform), print_doomed, as_json)
        if not yes:
            for file in files:
                with contextlib.suppress(NotFoundError):  # said when its turn comes
                    print_doomed(doomed(client.get(file), platform), err=True)
            confirm("rm deletes from platforms", "Delete?")

        def delete(file: str) -> FileRecord:
            return client.delete(file, platform=platform, timeout=timeout)

        return each(files, delete, lambda record: print_left(record, "deleted"), as_json)


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@dry_run
@as_json
@click.pass_obj
def trash(session: Session, files: tuple[str, ...], dry_run: bool, as_json: bool) -> int:
    """Put files into the trash: not listed and not used any more, and left where they are."""
    with session.client() as client:
        work = client.get if dry_run else client.trash
        return each(files, work, lambda file: click.echo(f"{output.printable(file.name)}: to the trash"), as_json)


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@dry_run
@as_json
@click.pass_obj
def restore(session: Session, files: tuple[str, ...], dry_run: bool, as_json: bool) -> int:
    """Take files out of the trash."""
    with session.client() as client:
        work = client.get if dry_run else client.restore
        return each(files, work, lambda file: click.echo(f"{output.printable(file.name)}: restored"), as_json)
