"""The hospital's own durable record of what it has spent: a charge before any training.

One row a round in SQLite with full synchronisation, written *ahead*: a crash after the charge and
before, during or after training loses the training, never the charge. The record is reconciled
with the chain before every round; if the chain knows of more than this record (it was restored
from an old backup, say) nothing is trained.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.epsilon import cumulative_micro
from ledger.errors import AccountantRollback, BudgetExhausted, JournalCorrupt, PolicyError
from ledger.files import storage_error
from ledger.sqlite import refused
from ledger.statement import Mechanism
from ledger.steps import step

_SCHEMA = """
CREATE TABLE IF NOT EXISTS charge (
    round INTEGER PRIMARY KEY,
    noise_multiplier INTEGER NOT NULL,
    sample_rate INTEGER NOT NULL,
    steps INTEGER NOT NULL,
    delta INTEGER NOT NULL,
    epsilon INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS opening (
    only INTEGER PRIMARY KEY CHECK (only = 0),
    epsilon INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS federation (
    only INTEGER PRIMARY KEY CHECK (only = 0),
    name TEXT NOT NULL
) STRICT;
"""


class Accountant:
    """Cumulative epsilon of one hospital in one federation.

    Args:
        path: the SQLite file, made if missing.
        opening: micro-epsilon spent before this federation (fixed at the first use).
        federation: which federation's rounds these are (fixed at the first use; empty: not asked).
            Another one counts its rounds from 1 again, and would find them charged already.

    Raises:
        JournalCorrupt: the file is not such a record.
        OutputError: it cannot be made (a full or read-only disk by name).
        PolicyError: the record is another federation's.
    """

    def __init__(self, path: Path, *, opening: int = 0, federation: str = "") -> None:
        self._path = path
        if path.parent.is_dir() and not path.exists():
            try:
                path.touch(mode=0o600)
            except OSError as error:
                raise storage_error(path, error) from None
        with self._open() as database:
            database.executescript(_SCHEMA)
            database.execute("INSERT OR IGNORE INTO opening VALUES (0, ?)", (opening,))
            if federation:
                database.execute("INSERT OR IGNORE INTO federation VALUES (0, ?)", (federation,))
                known = database.execute("SELECT name FROM federation").fetchone()[0]
                if known != federation:
                    raise PolicyError(
                        f"the accountant {path.name} keeps the budget of another federation; start"
                        " a new one whose opening balance is what was spent there"
                    )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            database = sqlite3.connect(self._path, timeout=30.0, isolation_level=None)
        except sqlite3.Error as error:
            raise refused(self._path, error) from None
        try:
            database.execute("PRAGMA synchronous = FULL")
            yield database
        except sqlite3.DatabaseError as error:
            raise refused(self._path, error) from None
        finally:
            database.close()

    @property
    def opening(self) -> int:
        """Micro-epsilon brought along from before."""
        with self._open() as database:
            return _opening(database)

    def charges(self) -> dict[int, Mechanism]:
        """Return every round's charged mechanism, by round."""
        with self._open() as database:
            return _read(database)

    def spent(self) -> int:
        """Return the cumulative micro-epsilon charged so far."""
        charged = self.charges()
        return max((m.epsilon for m in charged.values()), default=self.opening)

    def charge(self, round_number: int, run: Mechanism, *, on_chain: int, cap: int) -> Mechanism:
        """Charge one round durably and return its mechanism with the cumulative epsilon.

        Charging the same round again returns the first charge, so a resumed round costs nothing
        more (its mechanism must be the same).

        Args:
            round_number: on the chain.
            run: what will be run; its ``epsilon`` is ignored.
            on_chain: cumulative micro-epsilon that the chain records.
            cap: in micro-epsilon.

        Raises:
            AccountantRollback: the chain records more than this record.
            BudgetExhausted: the round would go past the cap; nothing is charged.
            JournalCorrupt: the round was charged with another mechanism.
        """
        with self._open() as database:
            # One writer at a time from the reading to the writing: two charges that both read
            # the same total would together be charged once.
            database.execute("BEGIN IMMEDIATE")
            try:
                return self._charged(database, round_number, run, on_chain, cap)
            finally:
                if database.in_transaction:
                    database.execute("ROLLBACK")

    def _charged(
        self,
        database: sqlite3.Connection,
        round_number: int,
        run: Mechanism,
        on_chain: int,
        cap: int,
    ) -> Mechanism:
        charged = _read(database)
        known = charged.get(round_number)
        opening = _opening(database)
        spent = max((item.epsilon for item in charged.values()), default=opening)
        if on_chain > spent:
            raise AccountantRollback(
                f"the chain records {on_chain / 1e6:.6f} spent, this accountant only"
                f" {spent / 1e6:.6f}: it was rolled back, so nothing is trained"
            )
        if known is not None:
            if _same_run(known, run):
                return known
            raise JournalCorrupt(f"round {round_number} was charged with another mechanism")
        total = cumulative_micro([*charged.values(), run], opening)[-1]
        total = max(total, spent + 1)  # the contract wants it to rise, however little was added
        if total > cap:
            raise BudgetExhausted(
                f"round {round_number} would bring epsilon to {total / 1e6:.4f}, over this"
                f" hospital's cap of {cap / 1e6:.4f}; nothing was trained"
            )
        made = Mechanism(
            epsilon=total,
            noise_multiplier=run.noise_multiplier,
            sample_rate=run.sample_rate,
            steps=run.steps,
            delta=run.delta,
        )
        with step("record", f"{self._path}/{round_number}"):
            database.execute(
                "INSERT INTO charge VALUES (?, ?, ?, ?, ?, ?)",
                (
                    round_number,
                    made.noise_multiplier,
                    made.sample_rate,
                    made.steps,
                    made.delta,
                    made.epsilon,
                ),
            )
            database.execute("COMMIT")
        return made


def _opening(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT epsilon FROM opening").fetchone()[0])


def _read(database: sqlite3.Connection) -> dict[int, Mechanism]:
    rows = database.execute("SELECT * FROM charge ORDER BY round").fetchall()
    return {
        row[0]: Mechanism(
            noise_multiplier=row[1],
            sample_rate=row[2],
            steps=row[3],
            delta=row[4],
            epsilon=row[5],
        )
        for row in rows
    }


def _same_run(left: Mechanism, right: Mechanism) -> bool:
    return (left.noise_multiplier, left.sample_rate, left.steps, left.delta) == (
        right.noise_multiplier,
        right.sample_rate,
        right.steps,
        right.delta,
    )
