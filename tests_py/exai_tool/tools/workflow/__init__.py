"""Tools that work in steps."""

from .base import *  # noqa: F403
from .expert_analysis import ExpertAnalysis as Expert

__all__ = ["Expert"] + base.__all__  # noqa: RUF005, F405
