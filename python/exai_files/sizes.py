"""Numbers of bytes, said to people."""

__all__ = ["in_units"]


def in_units(count: int) -> str:
    """A number of bytes in powers of ten: `48.2 kB`."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
