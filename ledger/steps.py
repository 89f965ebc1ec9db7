"""Every durable step passes here by name, so that a test can stop the program at each of them.

A step is one thing that outlives the process: a file replaced, a line appended, a row inserted, a
file removed, a transaction broadcast. The primitives that do these things (`ledger.files`,
`ledger.txlog`, `ledger.chain_sends`, the journal and the accountant) announce each one here, once
before it is begun and once when it is done. Nobody listens in normal work. The fault injector
(``tests/faults``) listens to one undisturbed run, and so learns the list of steps from the code
itself; then it stops the program at each, before ("failed") and after ("failed but persisted").
A test reads the source and refuses any file that is written past these primitives.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, Protocol

Kind = Literal["write", "rename", "append", "record", "remove", "broadcast"]
Phase = Literal["before", "after"]

KINDS: Final[tuple[Kind, ...]] = ("write", "rename", "append", "record", "remove", "broadcast")
"""write and rename: a file replaced (the rename is the moment it counts); append: a line of a
journal; record: a row of a database; remove: a file or folder deleted; broadcast: a signed
transaction handed to the node."""


class Watcher(Protocol):
    """Hears of steps; whatever it raises ends the program at that point."""

    def __call__(self, kind: Kind, what: str, phase: Phase, /) -> None:
        """Hear of one step: its kind, what it is about (a path, mostly) and which side of it."""


_watchers: list[Watcher] = []


@contextmanager
def step(kind: Kind, what: Path | str) -> Iterator[None]:
    """Announce a durable step around the block that takes it.

    Args:
        kind: what sort of step.
        what: the file it changes; for a database the file and the row, for a transaction its
            sender and the function's selector.
    """
    if not _watchers:
        yield
        return
    _tell(kind, str(what), "before")
    yield
    _tell(kind, str(what), "after")


def _tell(kind: Kind, what: str, phase: Phase) -> None:
    for watcher in tuple(_watchers):
        watcher(kind, what, phase)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Let ``watcher`` hear of every step inside the block, in all threads of this process."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)
