"""Side-by-side measurements against what a user would pick instead, all in one run on one machine."""
