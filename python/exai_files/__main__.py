"""`python -m exai_files` is the command `exai-files`."""

from exai_files.cli import main

main()
