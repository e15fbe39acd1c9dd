"""`migrate env`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exai_files.cli import output
from exai_files.cli.group import Session
from exai_files.cli.migrate import migrate
from exai_files.cli.options import as_json, dry_run

if TYPE_CHECKING:
    from exai_files.migrate.env import KeyReport, Migration

_WIDE = 40
_a_path = click.Path(path_type=Path)


@migrate.command("env")
@click.argument("files", nargs=-1, required=True, type=_a_path)
@click.option("--code", multiple=True, required=True, type=_a_path, help="Code that reads the keys; repeat it.")
@click.option("--prefer", type=_a_path, metavar="FILE", help="Which file wins. Default: the one named last.")
@click.option("--output", "new", type=_a_path, default=".env.new", show_default=True, help="New environment file.")
@click.option("--toml", type=_a_path, default="exai-files.toml", show_default=True, help="New configuration file.")
@click.option("--check", is_flag=True, help="Write nothing; compare the new environment file with the old ones.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@dry_run
@as_json
@click.pass_obj
def migrate_env(
    session: Session,
    files: tuple[Path, ...],
    code: tuple[Path, ...],
    prefer: Path | None,
    new: Path,
    toml: Path,
    check: bool,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Bring environment FILES, named in the order of loading, into one short file and our configuration file.

    What no code reads goes, and what is the code's own default; what exai-files has settings for moves. The old files
    stay as they are. Secrets are in the new environment file alone, and are never shown.

    With --check, every place in the code that reads a key gets the same after as before, except for the fixes that
    the report lists; else the exit code is 10. Without a new file, what would be written is compared.
    """
    from exai_files.migrate import env, env_file, env_writing

    migration = env.migrate(files, code, prefer=prefer, output=new if check else None, settings=toml)
    if not session.quiet:
        for warning in migration.warnings:
            click.echo(f"exai-files: {output.printable(warning)}", err=True)
    if check:
        text = None if new.exists() else migration.environment
        return _print_check(
            migration, env_file.load([env_file.read(new) if text is None else env_file.of(text)]), as_json
        )
    if not dry_run:
        env_writing.write(migration, new, toml, sources=files, force=force)
    _print_report(migration, new, toml, as_json)
    return 0


def _print_report(migration: Migration, new: Path, toml: Path, as_json: bool) -> None:
    lines = {str(new): migration.environment.count("\n"), str(toml): migration.settings.count("\n")}
    counts = {verdict: migration.count(verdict) for verdict in ("kept", "moved", "dropped")}
    more = {"conflicts": "conflict", "fixes": "fix"}
    counts |= {name: sum(getattr(key, field) is not None for key in migration.keys) for name, field in more.items()}
    if as_json:
        for key in migration.keys:
            output.print_json(key)
        output.print_json({"summary": counts, "lines": lines, "warnings": migration.warnings})
        return
    output.table([_row(key) for key in migration.keys], ("KEY", "VERDICT", "VALUE", "FROM", "WHY"))
    click.echo(", ".join(f"{count} {name}" for name, count in counts.items()))
    click.echo(", ".join(f"{name}: {count} lines" for name, count in lines.items()))


def _row(key: KeyReport) -> tuple[str, ...]:
    value = key.value if len(key.value) <= _WIDE else f"{key.value[: _WIDE - 1]}…"
    said = [f"FIX: {key.fix}"] if key.fix else []
    said += [f"CONFLICT: {key.conflict.winner} wins over {', '.join(key.conflict.losers)}"] if key.conflict else []
    said += [f"now {', '.join(key.settings)}"] if key.settings else []
    return (key.key, key.verdict, value, key.place or "-", "; ".join([*said, key.why]))


def _print_check(migration: Migration, after: dict[str, str], as_json: bool) -> int:
    differences = migration.differences(after)
    fixes = [key for key in migration.keys if key.fix]
    if as_json:
        for each in differences:
            output.print_json(each)
        output.print_json({"places": migration.places, "differences": len(differences), "fixes": fixes})
        return 10 if differences else 0
    output.table([(f"FIX {key.key}", key.fix or "") for key in fixes], ("KEY", "FIX"))
    rows = [(each.key, each.place, each.before, each.after) for each in differences]
    output.table(rows, ("KEY", "READ IN", "BEFORE", "AFTER"))
    click.echo(f"{len(differences)} of {migration.places} places that read a key get something else than before")
    return 10 if differences else 0
