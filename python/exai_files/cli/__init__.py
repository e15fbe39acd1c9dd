"""The command line: the verbs of `exai_files.Client`, and nothing the client cannot do."""

from exai_files.cli.main import main

__all__ = ["main"]
