"""Only for `retired`."""

STEPS = ("look", "think")
