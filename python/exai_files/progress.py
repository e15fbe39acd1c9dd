"""Progress bars for `progress=`: `with progress.rich() as show: files.upload(path, to=…, progress=show)`.

Neither library is a dependency; each function asks for its own. `EXAI_FILES_DISABLE_PROGRESS=1` silences both.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exai_files.records import Transfer


__all__ = ["is_disabled", "rich", "tqdm"]

Show = Callable[["Transfer"], None]


def is_disabled() -> bool:
    """Whether the environment asks for silence."""
    return os.environ.get("EXAI_FILES_DISABLE_PROGRESS", "") not in ("", "0")


@contextlib.contextmanager
def rich(*, file: IO[str] | None = None) -> Iterator[Show]:
    """Bars drawn by rich, one for each file and platform.

    Args:
        file: Where to draw. Default: stderr.

    Yields:
        A callback for `progress=`; one may serve many uploads.
    """
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    bars = Progress(
        TextColumn("{task.fields[place]:<9} {task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TextColumn("{task.fields[phase]}"),
        console=Console(file=file or sys.stderr),
        disable=is_disabled(),
    )
    tasks: dict[tuple[int, str], Any] = {}

    def show(transfer: Transfer) -> None:
        key = (transfer.upload, transfer.platform)
        if key not in tasks:
            tasks[key] = bars.add_task(transfer.name, total=transfer.total, place=transfer.platform, phase="")
        done = transfer.total if transfer.phase in ("sent", "already-there") else transfer.sent
        bars.update(tasks[key], completed=done, phase=transfer.phase.replace("-", " "))

    with bars:
        yield show


@contextlib.contextmanager
def tqdm(**options: Any) -> Iterator[Show]:  # noqa: ANN401  (tqdm's own)
    """Bars drawn by tqdm (`tqdm.auto`: terminal or notebook), one for each file and platform.

    Args:
        **options: Passed on to tqdm.

    Yields:
        A callback for `progress=`; one may serve many uploads.
    """
    from tqdm.auto import tqdm as bar_class

    bars: dict[tuple[int, str], Any] = {}

    def show(transfer: Transfer) -> None:
        key = (transfer.upload, transfer.platform)
        if key not in bars:
            name = f"{transfer.platform}: {transfer.name}"
            defaults = {
                "total": transfer.total,
                "desc": name,
                "unit": "B",
                "unit_scale": True,
                "disable": is_disabled(),
            }
            bars[key] = bar_class(**{**defaults, **options})
        done = transfer.total if transfer.phase in ("sent", "already-there") else transfer.sent
        bars[key].update(done - bars[key].n)
        bars[key].set_postfix_str(transfer.phase)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()
