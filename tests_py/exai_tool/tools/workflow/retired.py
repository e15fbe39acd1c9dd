"""Nothing imports this; one script names it."""

from .retired_steps import STEPS


class RetiredTool:
    steps = STEPS
