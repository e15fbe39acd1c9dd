"""Brings an installation of the existing EXAI tool over: its environment files, and modules that nothing needs any more."""
