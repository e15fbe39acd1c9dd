"""Runs the command line, and ends it with a documented code."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from exai_files.cli import (
    audit,
    auth,
    check,
    config,
    copies,
    db,
    doctor,
    files,
    holds,
    lifecycle,
    migrate_env,
    migrate_legacy,
    output,
    platforms,
    reconcile,
    recover,
    sim,
    status,
    upload,
    watch,
)
from exai_files.cli.group import cli
from exai_files.errors import Error

COMMANDS = (
    *(upload, files, check, holds, lifecycle),
    *(reconcile, watch, recover, copies, audit, status),
    *(platforms, auth, config, doctor, db, sim),
    *(migrate_env, migrate_legacy),
)
"""The modules whose commands there are, imported for that."""

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command line and exits with a documented code."""
    _mend_streams()
    try:
        code = _run(sys.argv[1:] if args is None else list(args))
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except Error as error:
        output.complain(error)
        sys.exit(output.exit_code(error))
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("exai-files: interrupted; run it again to go on where it stopped", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the output has enough. Nothing is left to be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        click.echo(f"exai-files: {error.strerror or error}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _run(args: list[str]) -> object:
    if "_EXAI_FILES_COMPLETE" in os.environ:
        return cli.main(args, prog_name="exai-files")
    # Not `cli.main`: it makes a failure of every closed pipe.
    with cli.make_context("exai-files", args) as context:
        return cli.invoke(context)


def _mend_streams() -> None:
    """Output that was closed goes nowhere; characters that the terminal lacks are spelt out."""
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)  # takes its number, which the next file opened would have got
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  (for the rest of the process)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
