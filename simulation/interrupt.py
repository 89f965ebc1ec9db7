"""Ctrl-C during a run: stop now, say how to go on.

Flower's engine waits for its worker threads before it lets an interrupt through, and those wait
for the run's end. Nothing is lost by leaving at once: every step is durable before the next, so
the run is taken up with ``--resume``.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from ledger.console import err

EXIT_CODE = 130
"""What shells report for a program ended by SIGINT."""
_GRACE = 10.0


@contextmanager
def stopped_by_interrupt(folder: Path) -> Iterator[None]:
    """End the process on SIGINT or SIGTERM inside the block (of the main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(_number: int, _frame: FrameType | None) -> None:
        # Whatever hangs while being stopped, the process ends.
        watchdog = threading.Timer(_GRACE, os._exit, (EXIT_CODE,))
        watchdog.daemon = True
        watchdog.start()
        err.print(
            f"Interrupted. Go on with: thoracle simulate --resume {folder}",
            markup=False,
            soft_wrap=True,
        )
        import ray

        with suppress(Exception):  # it may not have started
            ray.shutdown()
        os._exit(EXIT_CODE)  # the chain's node ends with its parent; its journal is durable

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: it was not set from Python, and cannot be set from there
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
