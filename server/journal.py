"""The coordinator's journal: each step of each round, durable before the next one begins.

One SQLite table (synchronous FULL, rollback journal): a step is there whole or not at all, and is
never rewritten. A restarted coordinator reads which steps are done and does the rest; a step that
sent a transaction but was not recorded is recognised from the chain (see ``server.rounds``).
Values are canonical JSON, so nothing here can run code.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import TracebackType

from ledger.canonical import canonical_json, parse_json
from ledger.errors import JournalCorrupt, StoreError
from ledger.sqlite import refused
from ledger.steps import step as durable

MAX_STEP_BYTES = 4 * 2**20
"""A step's record is small (digests and counts); anything longer is not ours."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS steps (
    round INTEGER NOT NULL,
    step  TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (round, step)
) WITHOUT ROWID
"""


class Journal:
    """Steps by round and name; values are JSON objects.

    Args:
        path: the database file; created when absent (its folder must exist).

    Raises:
        JournalCorrupt: the file is not a readable journal.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # Flower's strategy may run on another thread than the one that opened the run; calls
            # never overlap, because one round's steps follow one another.
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA synchronous=FULL")
            if self._db.execute("PRAGMA quick_check").fetchone() != ("ok",):
                raise JournalCorrupt(f"the journal {path.name} is damaged")
            self._db.execute(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise refused(path, error) from error

    def record(self, number: int, step: str, value: dict[str, object]) -> None:
        """Make a step durable.

        Raises:
            StoreError: the step is already recorded with another value.
            OutputError: the disk refuses (``StorageFull``, ``StorageReadOnly``).
        """
        data = canonical_json(value)
        try:
            with durable("record", f"{self._path}/{number}/{step}"):
                self._db.execute(
                    "INSERT OR IGNORE INTO steps VALUES (?, ?, ?)", (number, step, data)
                )
        except sqlite3.Error as error:
            raise refused(self._path, error) from error
        if self.read(number, step) != parse_json(data, MAX_STEP_BYTES):
            raise StoreError(f"step {step} of round {number} is already recorded otherwise")

    def read(self, number: int, step: str) -> dict[str, object] | None:
        """Return a step's value, or None when the step is not done.

        Raises:
            JournalCorrupt: the record cannot be read back.
        """
        rows = self._select("round = ? AND step = ?", (number, step))
        return rows[0][1] if rows else None

    def matching(self, number: int, prefix: str) -> dict[str, dict[str, object]]:
        """Return the steps of a round whose name begins with ``prefix``, by name."""
        rows = self._select("round = ? AND substr(step, 1, ?) = ?", (number, len(prefix), prefix))
        return dict(rows)

    def rounds(self) -> list[int]:
        """Return the rounds that have any step, ascending."""
        try:
            found = self._db.execute("SELECT DISTINCT round FROM steps ORDER BY round").fetchall()
        except sqlite3.DatabaseError as error:
            raise JournalCorrupt(f"the journal cannot be read: {error}") from error
        return [int(row[0]) for row in found]

    def _select(
        self, where: str, arguments: tuple[int | str, ...]
    ) -> list[tuple[str, dict[str, object]]]:
        try:
            rows = self._db.execute(
                f"SELECT step, value FROM steps WHERE {where} ORDER BY step",  # noqa: S608 - ours
                arguments,
            ).fetchall()
        except sqlite3.DatabaseError as error:
            raise JournalCorrupt(f"the journal cannot be read: {error}") from error
        return [(str(step), self._object(step, value)) for step, value in rows]

    @staticmethod
    def _object(step: str, data: bytes) -> dict[str, object]:
        try:
            value = parse_json(data, MAX_STEP_BYTES)
        except Exception as error:
            raise JournalCorrupt(f"step {step} of the journal cannot be parsed") from error
        if not isinstance(value, dict):
            raise JournalCorrupt(f"step {step} of the journal is not an object")
        return value

    def close(self) -> None:
        """Close the file; everything recorded is already durable."""
        self._db.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
