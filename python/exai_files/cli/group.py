"""`exai-files` itself: its options, and what the commands below it get of them."""

from __future__ import annotations

import logging
import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

import exai_files

if TYPE_CHECKING:
    from exai_files.async_client import AsyncClient
    from exai_files.client import Client
    from exai_files.database import Database

HELP = """Put files on AI platforms, exactly once each, and know where they are.

\b
  exai-files upload paper.pdf --to moonshot --to zai
  exai-files ls --platform zai --json | jq -r .name
  exai-files text paper.pdf
  exai-files rm 9f2c41d07a3b --platform moonshot

Keys come from MOONSHOT_API_KEY, ZAI_API_KEY and ZHIPUAI_API_KEY, or from files named in the configuration; never from
the command line. To try it without a key: exai-files sim serve.
"""

EPILOG = """\b
Exit codes:
    0  done
    1  error not classified below
    2  usage or configuration error
    3  partial: some files or platforms failed
    4  not found
    5  temporary; a retry may help (rate limit, platform down, time-out)
    6  authentication or permission
    7  fatal; a retry will not help (too large, refused, unsupported, billing)
    8  quota or storage full, or a safety limit reached
   10  differences found
   12  integrity: bytes are not what the record says
  130  interrupted
Treat any other code as failure.
"""


class SuggestingGroup(click.Group):
    """Answers a mistyped command with the nearest ones."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], self.list_commands(ctx))
            if near:
                raise click.UsageError(f"{error.message} Did you mean {' or '.join(near)}?", ctx) from None
            raise


@click.group(cls=SuggestingGroup, help=HELP, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "config_file", type=click.Path(), metavar="FILE", help="Configuration file.")
@click.option("--registry", metavar="PLACE", help='Registry file, ":memory:", or a PostgreSQL URL without password.')
@click.option("-q", "--quiet", is_flag=True, help="No progress and no remarks; errors only.")
@click.option("-v", "--verbose", count=True, help="Say what happens; twice: in detail.")
@click.version_option(exai_files.__version__, prog_name="exai-files")
@click.pass_context
def cli(ctx: click.Context, config_file: str | None, registry: str | None, quiet: bool, verbose: int) -> None:
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(level=logging.ERROR if quiet else level, format="%(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    if registry and "://" in registry and ":" in registry.split("://", 1)[1].rpartition("@")[0]:
        raise click.UsageError("passwords do not belong on the command line: set EXAI_FILES_REGISTRY__URL")
    ctx.obj = Session(config_file, registry, quiet)


class Session:
    """What the options of the group say, for the commands below it."""

    def __init__(self, config_file: str | None, registry: str | None, quiet: bool) -> None:
        self._options: dict[str, Any] = {"config_file": config_file, "registry": registry}
        self.quiet = quiet

    def database(self) -> Database:
        return exai_files.Database(**self._options)

    def client(self, *, recovers: bool = True) -> Client:
        """`recovers`: whether it finishes in the background what was cut short."""
        settings = None if recovers else {"recovery": {"every": 0}}
        return exai_files.Client(**self._options, settings=settings)

    def async_client(self) -> AsyncClient:
        return exai_files.AsyncClient(**self._options)
