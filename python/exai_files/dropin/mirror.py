"""The tool's tables on their way to a Supabase project whose REST interface is all we may use.

The embedded registry stays the truth; its outbox survives everything, and this thread empties it. A row is written by a
key of its own, so that writing it twice is writing it once. Supabase being away delays nothing here.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING

from exai_files.dropin.connection import first_set
from exai_files.dropin.metrics import gauge
from exai_files.errors import Error

if TYPE_CHECKING:
    from exai_files.dropin.rows import Rows

__all__ = ["Mirror", "mirror_of"]

log = logging.getLogger("exai_files.dropin")

EVERY = 5.0
"""Seconds between two looks into the outbox; while nothing arrives, up to `SELDOM`."""

SELDOM = 300.0

REFUSED_AGAIN = 86_400.0
"""Seconds after which rows that were refused are sent again; the first time, at once: somebody may have made room."""

AT_EXIT = 2.0
"""Seconds that a process which ends may still send for, twice."""

waiting = gauge("exai_files_dropin_mirror_waiting", "Rows of the tool's tables that are still to be mirrored.")


class Mirror:
    """Sends what waits, until it is stopped."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="exai-files-mirror", daemon=True)

    def start(self) -> None:
        self._thread.start()
        atexit.register(self.stop)

    def stop(self) -> None:
        """Sends what can be sent at once; the rest is sent by the next process."""
        if self._is_over.is_set():
            return
        self._is_over.set()
        atexit.unregister(self.stop)
        self._thread.join(AT_EXIT)
        if not self._thread.is_alive():
            self.send(AT_EXIT)

    def send(self, within: float = 60.0, *, again: bool = False) -> bool:
        """Empties the outbox; says whether it could.

        Args:
            within: Seconds.
            again: Also what was refused before.
        """
        try:
            done = self._rows.tables.send(within, again).wait()
        except Error as error:
            log.warning("the tool's tables are not mirrored at the moment: %s", error)
            return False
        waiting.set(done["waiting"])
        return True

    def _run(self) -> None:
        pause, refused_at = 0.0, -REFUSED_AGAIN
        while not self._is_over.wait(pause):
            again = monotonic() - refused_at >= REFUSED_AGAIN
            refused_at = monotonic() if again else refused_at
            pause = EVERY if self.send(again=again) else min(max(EVERY, 2 * pause), SELDOM)


def mirror_of(environment: Mapping[str, str], rows: Rows) -> Mirror | None:
    """Begins to mirror where SUPABASE_URL and a service key are set. What is wrong with them is logged."""
    url = first_set(environment, "SUPABASE_URL")
    key = first_set(environment, "SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_SERVICE_KEY")
    if not (url and key):
        return None
    try:
        rows.tables.mirror_to(url, key).wait()
    except Error as error:
        log.error("the tool's tables are not mirrored: %s", error)
        return None
    log.info("the tool's tables are mirrored to Supabase's REST interface")
    mirror = Mirror(rows)
    mirror.start()
    return mirror
