"""Progress of a long preparation, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ledger.console import err, progress


class Steps:
    """Says what is being done; silent with ``quiet``."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def say(self, what: str) -> None:
        """Print one line."""
        if not self._quiet:
            err.print(what, style="dim", markup=False)

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Callable[[], None]]:
        """Show a bar over ``total`` things; call what is yielded after each."""
        self.say(what)
        with progress() as shown:
            task = shown.add_task(what, total=total, visible=not self._quiet)
            yield lambda: shown.advance(task)
