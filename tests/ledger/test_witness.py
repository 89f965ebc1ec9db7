from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.devchain import DevChain
from ledger.errors import (
    ClockSkew,
    HeadMismatch,
    JournalCorrupt,
    LedgerRollback,
    LedgerUnavailable,
    WrongLedger,
)
from ledger.witness import MAX_SKEW, Witness, compare, read_witness
from tests.ledger.small_federation import Federation, found

World = tuple[DevChain, Federation]


@pytest.fixture(scope="module")
def shared() -> World:
    chain = DevChain()
    return chain, found(chain.web3)


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    moment = shared[0].snapshot()
    yield shared
    shared[0].revert(moment)


def watch(world: World, path: Path) -> Witness:
    return Witness(path, world[1].ledger, now=world[0].clock)


def test_a_witness_remembers_every_head(world: World, tmp_path: Path) -> None:
    path = tmp_path / "witness.json"
    witness = watch(world, path)
    assert witness.check().sequence == 3
    assert not path.exists()
    witness.advance()
    world[1].open()
    tip = watch(world, path).advance()
    record = read_witness(path)
    assert list(record.heads) == [0, 1, 2, 3, 4]
    assert record.heads[4] == tip.head == world[1].ledger.head()
    assert record.domain == world[1].ledger.domain
    assert (record.highest, record.block) == (4, tip.block)


def test_nothing_new_writes_nothing(world: World, tmp_path: Path) -> None:
    path = tmp_path / "witness.json"
    watch(world, path).advance()
    before = path.stat().st_mtime_ns
    watch(world, path).advance()
    assert path.stat().st_mtime_ns == before


def test_rollback_is_refused(world: World, tmp_path: Path) -> None:
    chain, fed = world
    moment = chain.snapshot()
    fed.ledger.set_weight(fed.hospitals[0], 5)
    witness = watch(world, tmp_path / "witness.json")
    witness.advance()
    chain.revert(moment)
    for again in (witness, watch(world, tmp_path / "witness.json")):
        with pytest.raises(LedgerRollback):
            again.check()
        with pytest.raises(LedgerRollback):
            again.advance()


def test_another_history_is_refused_even_if_longer(world: World, tmp_path: Path) -> None:
    chain, fed = world
    moment = chain.snapshot()
    fed.ledger.set_weight(fed.hospitals[0], 5)
    witness = watch(world, tmp_path / "witness.json")
    seen = witness.advance()
    chain.revert(moment)
    fed.ledger.set_weight(fed.hospitals[0], 6)
    fed.ledger.set_weight(fed.hospitals[0], 7)
    with pytest.raises(HeadMismatch) as caught:
        witness.check()
    assert caught.value.arguments["expected"] == seen.head
    assert read_witness(tmp_path / "witness.json").highest == seen.sequence


def test_events_that_do_not_lead_to_the_state_are_refused(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed = world[1]
    events = fed.ledger.events()
    last = max(i for i, e in enumerate(events) if e.name == "HeadAdvanced")
    forged = dict(events[last].args) | {"head": bytes(32)}
    events[last] = type(events[last])(
        name="HeadAdvanced", args=forged, block=1, log_index=0, tx_hash=bytes(32)
    )
    monkeypatch.setattr(fed.ledger, "events", lambda: events)
    with pytest.raises(HeadMismatch):
        watch(world, tmp_path / "witness.json").check()
    monkeypatch.setattr(fed.ledger, "events", lambda: events[:last])
    with pytest.raises(LedgerRollback):
        watch(world, tmp_path / "witness.json").check()


@pytest.mark.parametrize("seconds", [MAX_SKEW + 60, -MAX_SKEW - 60])
def test_a_clock_that_is_off_is_refused(world: World, tmp_path: Path, seconds: int) -> None:
    chain, fed = world
    witness = Witness(tmp_path / "witness.json", fed.ledger, now=lambda: chain.clock() - seconds)
    with pytest.raises(ClockSkew):
        witness.advance()
    assert not (tmp_path / "witness.json").exists()


def test_a_warped_chain_is_refused(world: World, tmp_path: Path) -> None:
    chain, fed = world
    now = chain.clock()
    witness = Witness(tmp_path / "witness.json", fed.ledger, now=lambda: now)
    witness.check()
    chain.travel(3600)
    with pytest.raises(ClockSkew, match="ahead"):
        witness.check()
    with pytest.raises(ClockSkew):
        witness.observe(fed.ledger.set_weight(fed.hospitals[0], 5))


def test_two_views_split_at_their_first_difference(world: World, tmp_path: Path) -> None:
    chain, fed = world
    moment = chain.snapshot()
    fed.ledger.set_weight(fed.hospitals[0], 5)
    fed.ledger.set_weight(fed.hospitals[0], 6)
    watch(world, tmp_path / "a.json").advance()
    chain.revert(moment)
    watch(world, tmp_path / "early.json").advance()
    fed.ledger.set_weight(fed.hospitals[0], 7)
    watch(world, tmp_path / "b.json").advance()
    a, b, early = (read_witness(tmp_path / f"{name}.json") for name in ("a", "b", "early"))
    split = compare(a, b)
    assert (split.split, split.agreed, split.common) == (4, 3, 5)
    assert split.heads == (a.heads[4], b.heads[4])
    assert compare(a, early).split is None
    assert compare(a, early).agreed == 3


def test_the_file_of_another_federation_is_refused(world: World, tmp_path: Path) -> None:
    path = tmp_path / "witness.json"
    watch(world, path).advance()
    chain = DevChain()
    other = found(chain.web3, hospitals=1, name="other ")
    with pytest.raises(WrongLedger):
        Witness(path, other.ledger)
    Witness(tmp_path / "other.json", other.ledger, now=chain.clock).advance()
    with pytest.raises(WrongLedger):
        compare(read_witness(path), read_witness(tmp_path / "other.json"))


@pytest.mark.parametrize(
    "change",
    [
        {"format": "another"},
        {"heads": [[0, "00"]]},
        {"heads": [[0, "00" * 32], [0, "00" * 32]]},
        {"heads": [["0", "00" * 32]]},
        {"heads": 5},
        {"federation_id": "zz"},
        {"contract": "0x0"},
    ],
)
def test_a_damaged_file_is_refused(world: World, tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "witness.json"
    watch(world, path).advance()
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(JournalCorrupt):
        watch(world, path)


def test_an_unreachable_chain_is_not_trusted(world: World, tmp_path: Path) -> None:
    from ledger.chain import Ledger
    from ledger.chain_rpc import Patience, connect

    gone = Ledger(
        connect("http://127.0.0.1:9"), world[1].ledger.anchors, patience=Patience(outage=0.1)
    )
    with pytest.raises(LedgerUnavailable):
        Witness(tmp_path / "witness.json", gone).advance()
