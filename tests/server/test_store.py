from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from ledger.errors import (
    EvidenceMismatch,
    EvidenceMissing,
    JournalCorrupt,
    RunBusy,
    StoreError,
)
from server.journal import Journal
from server.store import RunStore


def test_steps_are_durable_and_never_rewritten(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.record(1, "opening", {"started": 1.5})
        journal.record(1, "opening", {"started": 1.5})
        with pytest.raises(StoreError, match="recorded otherwise"):
            journal.record(1, "opening", {"started": 2.5})
    with Journal(tmp_path / "j.sqlite") as journal:
        assert journal.read(1, "opening") == {"started": 1.5}
        assert journal.read(2, "opening") is None
        assert journal.rounds() == [1]


def test_steps_by_prefix(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        for step in ("reply/a", "reply/b", "reply%", "repl"):
            journal.record(1, step, {})
        assert list(journal.matching(1, "reply/")) == ["reply/a", "reply/b"]


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(JournalCorrupt):
        Journal(path)


def test_a_damaged_step_is_named(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    Journal(path).close()
    database = sqlite3.connect(path)
    database.execute("INSERT INTO steps VALUES (1, 'opening', x'7B')")
    database.execute("INSERT INTO steps VALUES (1, 'other', x'5B5D')")
    database.commit()
    database.close()
    with Journal(path) as journal:
        for step in ("opening", "other"):
            with pytest.raises(JournalCorrupt):
                journal.read(1, step)


def test_two_processes_on_one_run(tmp_path: Path) -> None:
    with RunStore(tmp_path), pytest.raises(RunBusy):
        RunStore(tmp_path)
    RunStore(tmp_path).close()


def test_configurations_are_named_by_their_digest(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        digest = store.put_config({"b": 1, "a": [2.5]})
        assert store.get_config(digest) == b'{"a":[2.5],"b":1}'
        path = tmp_path / "configs" / f"{digest.hex()}.json"
        path.write_bytes(b'{"a":[2.5],"b":2}')
        with pytest.raises(EvidenceMismatch):
            store.get_config(digest)
        path.unlink()
        with pytest.raises(EvidenceMissing):
            store.get_config(digest)


def test_metrics_keep_one_line_a_round(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        store.write_metrics({"round": 1, "outcome": "ABORTED"})
        store.write_metrics({"round": 2, "outcome": "SUM_VERIFIED", "metric_auc": 0.5})
        store.write_metrics({"round": 1, "outcome": "SUM_VERIFIED"})
        assert {(row["round"], row["outcome"]) for row in store.read_metrics()} == {
            ("1", "SUM_VERIFIED"),
            ("2", "SUM_VERIFIED"),
        }
        text = (tmp_path / "metrics.csv").read_text()
    assert text.splitlines()[0] == "round,outcome,metric_auc"


def test_decisions_round_trip(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        assert store.get_decisions(1) is None
        store.put_decisions(1, {"round": 1})
        assert store.get_decisions(1) == {"round": 1}
        store.decisions_path(1).write_bytes(b"[]")
        with pytest.raises(EvidenceMismatch):
            store.get_decisions(1)
