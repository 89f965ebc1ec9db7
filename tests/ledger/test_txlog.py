from __future__ import annotations

from pathlib import Path

import pytest
from eth_utils.crypto import keccak
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.errors import JournalCorrupt, TransactionStuck
from ledger.transactions import Log, Mined
from ledger.txlog import TransactionLog
from tests.ledger.small_federation import account

LOG = Log(address=account("contract").address, topics=(bytes(32),), data=b"data")


def mined(raw: bytes, block: int, timestamp: int = 0, logs: tuple[Log, ...] = (LOG,)) -> Mined:
    return Mined(
        tx_hash=keccak(raw),
        block=block,
        timestamp=timestamp or 1_000 + block,
        status=1,
        gas_used=21_000,
        logs=logs,
    )


class Node:
    """A node that mines each transaction at once, at the time it was told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.chain: dict[bytes, Mined] = {}
        self.sent: list[bytes] = []
        self.refuses: set[bytes] = set()
        self.time = 9_999

    def warp(self, at: int) -> None:
        self.time = at

    def look_up(self, tx_hash: bytes) -> Mined | None:
        return self.chain.get(tx_hash)

    def send(self, raw: bytes) -> str | None:
        assert raw.hex() in self.path.read_text(), "broadcast before it was on the disk"
        if raw in self.refuses:
            return "nonce too low"
        self.sent.append(raw)
        self.chain[keccak(raw)] = mined(raw, len(self.chain) + 1, self.time)
        return None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "transactions.jsonl"


def test_a_journal_reads_back(path: Path) -> None:
    log = TransactionLog(path)
    for raw in (b"one", b"two", b"three"):
        log.signed(raw)
    log.mined(mined(b"two", 1))
    log.mined(mined(b"one", 2))
    log.rejected(keccak(b"three"), "nonce too low")
    log.close()
    again = TransactionLog(path)
    entries = again.entries()
    assert [e.raw for e in entries] == [b"two", b"one", b"three"]
    assert entries[0].mined == mined(b"two", 1)
    assert entries[2].rejected == "nonce too low"
    again.close()


def test_signing_twice_is_one_entry(path: Path) -> None:
    log = TransactionLog(path)
    assert log.signed(b"one") == log.signed(b"one") == keccak(b"one")
    lines = path.read_text().count("\n")
    log.mined(mined(b"one", 1))
    log.mined(mined(b"one", 1))
    assert path.read_text().count("\n") == lines + 1
    log.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(cut=st.integers(min_value=0, max_value=10**6))
def test_a_torn_last_line_is_cut_off(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "transactions.jsonl"
    log = TransactionLog(path)
    log.signed(b"one")
    log.mined(mined(b"one", 1))
    log.signed(b"two")
    log.close()
    data = path.read_bytes()
    path.write_bytes(data[: cut % len(data)])
    again = TransactionLog(path)
    kept = [e.raw for e in again.entries()]
    assert kept == [b"one", b"two"][: len(kept)]
    again.signed(b"three")
    again.close()
    last = TransactionLog(path)
    assert [e.raw for e in last.entries()] == [*kept, b"three"]
    last.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [lines[0], "rubbish", *lines[1:]],
        lambda lines: ['{"format":"another"}', *lines[1:]],
        lambda lines: [lines[0], lines[2]],  # mined, never signed
        lambda lines: [lines[0], lines[1].replace("6f6e65", "6f6e66"), *lines[2:]],
        lambda lines: [*lines, '{"hash":"0x00","kind":"other"}'],
        lambda lines: [*lines, "[]"],
        lambda lines: [lines[0], lines[1], lines[2].replace('"status":1', '"status":-1')],
    ],
)
def test_a_damaged_journal_is_refused(path: Path, damage: object) -> None:
    log = TransactionLog(path)
    log.signed(b"one")
    log.mined(mined(b"one", 1))
    log.close()
    lines = damage(path.read_text().splitlines())  # type: ignore[operator]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(JournalCorrupt):
        TransactionLog(path)


def test_mined_needs_signed(path: Path) -> None:
    log = TransactionLog(path)
    with pytest.raises(JournalCorrupt):
        log.mined(mined(b"one", 1))
    log.close()


def test_replay_recreates_the_lost_blocks_at_their_times(path: Path) -> None:
    log, node = TransactionLog(path), Node(path)
    for number, raw in enumerate((b"one", b"two", b"three"), 1):
        log.signed(raw)
        log.mined(mined(raw, number))
    node.chain[keccak(b"one")] = mined(b"one", 1)
    assert log.replay(node, warp=node.warp) == 2
    assert node.sent == [b"two", b"three"]
    assert node.chain[keccak(b"three")] == mined(b"three", 3)
    assert log.replay(node, warp=node.warp) == 0
    log.close()


def test_replay_settles_what_was_sent_but_never_answered(path: Path) -> None:
    log, node = TransactionLog(path), Node(path)
    log.signed(b"persisted")
    log.signed(b"lost")
    node.chain[keccak(b"persisted")] = mined(b"persisted", 1)
    assert log.replay(node, warp=node.warp) == 1
    assert [e.mined is not None for e in log.entries()] == [True, True]
    assert node.sent == [b"lost"]
    log.close()


def test_replay_never_sends_the_refused(path: Path) -> None:
    log, node = TransactionLog(path), Node(path)
    log.signed(b"one")
    log.rejected(keccak(b"one"), "nonce too low")
    log.signed(b"two")
    node.refuses.add(b"two")
    assert log.replay(node) == 0
    assert log.replay(node) == 0
    assert node.sent == []
    assert [e.rejected for e in log.entries()] == ["nonce too low", "nonce too low"]
    log.signed(b"one")  # offered once more by its sender
    assert log.replay(node) == 1
    log.close()


def test_replay_refuses_a_node_with_other_effects(path: Path) -> None:
    log, node = TransactionLog(path), Node(path)
    log.signed(b"one")
    log.mined(mined(b"one", 1))
    node.chain[keccak(b"one")] = mined(b"one", 1, logs=())
    with pytest.raises(JournalCorrupt):
        log.replay(node, warp=node.warp)
    log.close()


def test_replay_refuses_a_node_that_refuses_the_mined(path: Path) -> None:
    log, node = TransactionLog(path), Node(path)
    log.signed(b"one")
    log.mined(mined(b"one", 1))
    node.refuses.add(b"one")
    with pytest.raises(JournalCorrupt):
        log.replay(node, warp=node.warp)
    log.close()


def test_replay_follows_a_reorganisation_elsewhere(path: Path) -> None:
    """On a chain that is not ours the time of a block may change; the journal follows."""
    log, node = TransactionLog(path), Node(path)
    log.signed(b"one")
    log.mined(mined(b"one", 1))
    assert log.replay(node) == 1
    entry = log.get(keccak(b"one"))
    assert entry is not None
    assert entry.mined == mined(b"one", 1, 9_999)
    log.close()


def test_replay_notices_what_is_never_mined(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.txlog._MINING", 0.05)
    log, node = TransactionLog(path), Node(path)
    log.signed(b"one")
    monkeypatch.setattr(node, "look_up", lambda tx_hash: None)
    with pytest.raises(TransactionStuck):
        log.replay(node)
    log.close()


def test_replay_of_a_long_journal_asks_only_about_its_end(path: Path) -> None:
    """A chain forgets from its end, so what lies before the newest known block is there."""
    log, node = TransactionLog(path), Node(path)
    for number in range(1, 41):
        raw = b"%d" % number
        log.signed(raw)
        log.mined(mined(raw, number))
        if number <= 38:
            node.chain[keccak(raw)] = mined(raw, number)
    asked: list[bytes] = []
    look_up = node.look_up

    def counted(tx_hash: bytes) -> Mined | None:
        asked.append(tx_hash)
        return look_up(tx_hash)

    node.look_up = counted  # type: ignore[method-assign]
    assert log.replay(node) == 2
    assert len(asked) <= 8
    log.close()


def test_replay_sends_again_what_never_was_mined_wherever_it_stands(path: Path) -> None:
    log, node = TransactionLog(path), Node(path)
    for raw in (b"one", b"two", b"three"):
        log.signed(raw)
    log.mined(mined(b"two", 1))
    node.chain[keccak(b"two")] = mined(b"two", 1)
    assert log.replay(node) == 2
    assert keccak(b"one") in node.chain
    assert keccak(b"three") in node.chain
    log.close()
