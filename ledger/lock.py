"""One process at a time on a folder: a lock of the kernel's, with a note of who holds it.

The lock ends with its process, however that ends, so nothing stale can be in the way. The note
beside it (``.NAME.pid``) is only told to people; nobody decides by it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from ledger.errors import RunBusy


class RunLock:
    """An exclusive lock on a folder's work.

    Args:
        folder: the folder; must exist when the lock is taken.
        name: of the lock's file, ``.NAME.lock``.
        what: what is being worked on, for the error's sentence.
    """

    def __init__(self, folder: Path, name: str, what: str) -> None:
        self._lock = FileLock(str(folder / f".{name}.lock"), thread_local=False)
        self._note = folder / f".{name}.pid"
        self._what = what

    def acquire(self) -> None:
        """Take the lock, and note who has it.

        Raises:
            RunBusy: another process has it; the sentence names its id.
        """
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise RunBusy(f"{self.holder()} is working on {self._what}") from None
        with suppress(OSError):  # a note for people: a full disk does not matter here
            since = datetime.now(UTC).isoformat(timespec="seconds")
            self._note.write_text(f"{os.getpid()} {since}\n")

    def release(self) -> None:
        """Let another process work."""
        self._lock.release()

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def held(self) -> bool:
        """Say whether some process has the lock now."""
        if self._lock.is_locked:
            return True
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return True
        self._lock.release()
        return False

    def holder(self) -> str:
        """Return who has the lock, as far as is known: for people."""
        try:
            text = self._note.read_text()[:100]
        except OSError:
            text = ""
        number, _, since = text.strip().partition(" ")
        return f"process {number} (since {since})" if number.isdigit() else "another process"
