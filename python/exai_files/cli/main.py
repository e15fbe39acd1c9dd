"""Runs the command line, and ends it with a documented code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from exai_files.cli import commands, output
from exai_files.cli.group import cli
from exai_files.errors import Error

__all__ = ["commands", "main"]


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command line and exits with a documented code."""
    try:
        code = cli.main(args=None if args is None else list(args), prog_name="exai-files", standalone_mode=False)
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
        sys.stderr.close()
        sys.exit(0)
