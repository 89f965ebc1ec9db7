"""What a hospital must not forget survives; what was changed is noticed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.spool import Entry, Spool, Verdict
from ledger.canonical import sha256
from ledger.errors import EvidenceMismatch, JournalCorrupt
from ledger.statement import Mechanism

SEALED, UPDATE = b"a ciphertext", b"an opening"
ENTRY = Entry(
    round=7,
    open_head=sha256(b"head"),
    base_model=sha256(b"base"),
    config_digest=sha256(b"config"),
    seal_digest=sha256(SEALED),
    opening_digest=sha256(b"opening"),
    mechanism=Mechanism(epsilon=5, list_digest=sha256(b"list")),
    metrics={"train_loss": 0.25},
)
VERDICT = Verdict(
    round=7, proposed_head=sha256(b"head"), kind="attested", code=0, model_digest=sha256(b"model")
)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def test_an_entry_comes_back_after_a_restart(tmp_path: Path, spool: Spool) -> None:
    spool.keep_config(7, b"{}")
    spool.keep_update(ENTRY, UPDATE, SEALED)
    again = Spool(tmp_path / "spool")
    assert again.entry(7) == ENTRY
    assert again.sealed(ENTRY) == SEALED
    assert again.update(ENTRY) == UPDATE
    assert again.config(7) == b"{}"


def test_nothing_is_remembered_of_a_round_that_never_was(spool: Spool) -> None:
    assert spool.entry(1) is None
    assert spool.config(1) is None
    assert spool.verdict(1) is None
    assert not spool.is_committed(1)


def test_an_update_without_its_entry_never_was(tmp_path: Path, spool: Spool) -> None:
    spool.keep_update(ENTRY, UPDATE, SEALED)
    (tmp_path / "spool" / "00000007" / "entry.json").unlink()
    assert spool.entry(7) is None


def test_the_committed_mark(spool: Spool) -> None:
    spool.mark_committed(7)
    assert spool.is_committed(7)
    assert not spool.is_committed(8)


@pytest.mark.parametrize("metrics", [None, {}, {"auc": 0.5}])
@pytest.mark.parametrize("kind", ["attested", "dissented", "contested", "silent"])
def test_a_verdict_comes_back(spool: Spool, kind: str, metrics: dict[str, float] | None) -> None:
    verdict = replace(VERDICT, kind=kind, metrics=metrics)
    spool.keep_verdict(verdict)
    assert spool.verdict(7) == verdict


@given(
    metrics=st.dictionaries(
        st.text(min_size=1, max_size=10),
        st.floats(allow_nan=False, allow_infinity=False),
        max_size=4,
    ),
    epsilon=st.integers(0, 2**40 - 1),
)
def test_entries_survive_json(metrics: dict[str, float], epsilon: int) -> None:
    entry = replace(ENTRY, metrics=metrics, mechanism=Mechanism(epsilon=epsilon))
    assert Entry.from_json(entry.to_json()) == entry


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"{", b'{"round":7}', b"\xff"])
@pytest.mark.parametrize("name", ["entry.json", "verdict.json"])
def test_a_corrupt_file_is_named(tmp_path: Path, spool: Spool, name: str, data: bytes) -> None:
    spool.keep_update(ENTRY, UPDATE, SEALED)
    (tmp_path / "spool" / "00000007" / name).write_bytes(data)
    with pytest.raises(JournalCorrupt):
        spool.entry(7) if name == "entry.json" else spool.verdict(7)


def test_a_changed_ciphertext_is_not_sent(tmp_path: Path, spool: Spool) -> None:
    spool.keep_update(ENTRY, UPDATE, SEALED)
    (tmp_path / "spool" / "00000007" / "sealed").write_bytes(SEALED + b"x")
    with pytest.raises(EvidenceMismatch):
        spool.sealed(ENTRY)


def test_an_entry_in_the_wrong_folder(tmp_path: Path, spool: Spool) -> None:
    spool.keep_update(ENTRY, UPDATE, SEALED)
    (tmp_path / "spool" / "00000007").rename(tmp_path / "spool" / "00000008")
    with pytest.raises(JournalCorrupt):
        spool.entry(8)


def test_a_lost_update_is_named(tmp_path: Path, spool: Spool) -> None:
    spool.keep_update(ENTRY, UPDATE, SEALED)
    for name in ("update", "sealed"):
        (tmp_path / "spool" / "00000007" / name).unlink()
    with pytest.raises(EvidenceMismatch):
        spool.update(ENTRY)
    with pytest.raises(EvidenceMismatch):
        spool.sealed(ENTRY)


def test_pruning_keeps_what_is_asked(tmp_path: Path, spool: Spool) -> None:
    for number in (3, 4, 5):
        spool.keep_config(number, b"{}")
    (tmp_path / "spool" / "notes").mkdir()
    spool.prune(5)
    assert sorted(path.name for path in (tmp_path / "spool").iterdir()) == ["00000005", "notes"]


def test_secrets_are_their_owners(tmp_path: Path, spool: Spool) -> None:
    spool.keep_update(ENTRY, UPDATE, SEALED)
    folder = tmp_path / "spool" / "00000007"
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0
    assert (folder / "update").stat().st_mode & 0o077 == 0
    assert (folder / "entry.json").stat().st_mode & 0o077 == 0
    assert not list(folder.glob("*.tmp"))
