"""What SQLite's refusals mean: a full disk, a read-only folder, another process, or damage."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ledger.errors import JournalCorrupt, RunBusy, StorageFull, StorageReadOnly, ThoracleError

_MEANING: tuple[tuple[tuple[int, ...], type[ThoracleError], str], ...] = (
    ((sqlite3.SQLITE_FULL,), StorageFull, "no room to write {}; free some space, then go on"),
    (
        (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN),
        StorageReadOnly,
        "cannot write {}; make the folder writable, then go on",
    ),
    (
        (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED),
        RunBusy,
        "another process is writing {}",
    ),
)


def refused(path: Path, error: sqlite3.Error) -> ThoracleError:
    """Return the named error for what SQLite refused on ``path``.

    A transaction that SQLite refuses is rolled back whole, so nothing is half written.
    """
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        for codes, kind, sentence in _MEANING:
            if code & 0xFF in codes:  # the low byte is the class, the rest the detail
                return kind(f"{sentence.format(path)} ({error})")
        if code & 0xFF == sqlite3.SQLITE_IOERR:
            # What a limit on file sizes or a failing disk gives; the system's own text is lost.
            return StorageFull(f"the disk refused a write to {path} ({error})")
    return JournalCorrupt(f"{path.name} cannot be read: {error}")
