"""`migrate`: the group; its commands are in modules of their own."""

from __future__ import annotations

from exai_files.cli.group import cli


@cli.group()
def migrate() -> None:
    """Bring the existing EXAI tool over: one environment file, and no dead modules."""
