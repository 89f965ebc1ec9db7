from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from eth_account import Account
from hexbytes import HexBytes

from ledger.canonical import sha256
from ledger.devchain import DevChain
from ledger.errors import AlreadyRegistered, BundleInvalid, EventMismatch
from ledger.history import History, export_history, history_of_journal
from ledger.reexecute import reexecute
from ledger.statement import Unit
from ledger.txlog import TransactionLog
from tests.ledger.small_federation import found

Record = dict[str, Any]


@pytest.fixture(scope="module")
def exported() -> str:
    """One hospital, one round opened, one commit: transactions 0 to 3."""
    fed = found(DevChain().web3, hospitals=1)
    fed.commit(fed.hospitals[0], fed.open())
    return json.dumps(export_history(fed.ledger))


@pytest.fixture
def history(exported: str) -> Record:
    found: Record = json.loads(exported)
    return found


def test_the_same_transactions_give_the_same_ledger() -> None:
    chain = DevChain()
    fed = found(chain.web3, unit=Unit.PATIENT)
    fed.round(epsilon=1_000_000)
    history: Record = json.loads(json.dumps(export_history(fed.ledger)))
    assert history["storage_root"] is None  # eth-tester offers no proofs
    result = reexecute(history).require()
    assert result.head == fed.ledger.head()
    assert result.sequence == fed.ledger.sequence()
    assert result.storage_root == chain.storage_root(fed.ledger.anchors.contract)
    assert result.gas_used == result.gas_told > 0
    assert result.transactions == len(history["transactions"]) == 13
    assert History.from_record(history).to_record() == history


def _shift(history: Record) -> None:
    opened = history["transactions"][2]
    opened["timestamp"] += 1


def _log(history: Record) -> None:
    log = history["transactions"][3]["logs"][0]
    log["data"] = log["data"][:-2] + ("00" if log["data"][-2:] != "00" else "01")


def _drop_log(history: Record) -> None:
    history["transactions"][3]["logs"].pop()


def _drop(history: Record) -> None:
    del history["transactions"][1]


def _head(history: Record) -> None:
    history["head"] = "0x" + sha256(b"another").hex()


def _sequence(history: Record) -> None:
    history["sequence"] += 1


def _root(history: Record) -> None:
    history["storage_root"] = "0x" + sha256(b"another").hex()


def _code(history: Record) -> None:
    history["code"] = history["code"][:-2] + "ff"


def _status(history: Record) -> None:
    history["transactions"][3]["status"] = 0


@pytest.mark.parametrize(
    ("tamper", "what"),
    [
        (_shift, "log"),
        (_log, "log 0"),
        (_drop_log, "number of logs"),
        (_drop, "log"),
        (_head, "head"),
        (_sequence, "sequence"),
        (_root, "storage root"),
        (_code, "code"),
        (_status, "status"),
    ],
)
def test_every_change_is_found(
    history: Record, tamper: Callable[[Record], None], what: str
) -> None:
    tamper(history)
    result = reexecute(history)
    assert any(what in difference.what for difference in result.differences)
    with pytest.raises(EventMismatch):
        result.require()


def _swap(history: Record) -> None:
    items = history["transactions"]
    items[0], items[1] = items[1], items[0]


def _twice(history: Record) -> None:
    history["transactions"].append(copy.deepcopy(history["transactions"][-1]))


def _signature(history: Record) -> None:
    item = history["transactions"][3]
    item["raw"] = item["raw"][:-64] + "ff" * 32


def _rubbish(history: Record) -> None:
    history["transactions"][3]["raw"] = "0x00"


def _chain_id(history: Record) -> None:
    history["chain_id"] = 1


def _no_hex(history: Record) -> None:
    history["transactions"][3]["raw"] = "raw"


def _format(history: Record) -> None:
    history["format"] = "another"


def _empty(history: Record) -> None:
    history["transactions"] = []


def _short_head(history: Record) -> None:
    history["head"] = "0x00"


@pytest.mark.parametrize(
    "tamper",
    [_swap, _twice, _signature, _rubbish, _chain_id, _no_hex, _format, _empty, _short_head],
)
def test_what_cannot_be_run_is_refused(history: Record, tamper: Callable[[Record], None]) -> None:
    tamper(history)
    with pytest.raises(BundleInvalid):
        reexecute(history)


def test_a_forged_commit_has_no_member_behind_it(history: Record) -> None:
    """A commit re-signed by a stranger cannot pass for the hospital's."""
    from eth_account.typed_transactions.typed_transaction import TypedTransaction

    item = history["transactions"][3]
    fields = TypedTransaction.from_bytes(HexBytes(item["raw"])).as_dict()
    unsigned = {k: v for k, v in fields.items() if k not in ("v", "r", "s")}
    stranger = Account.from_key(sha256(b"stranger"))
    item["raw"] = "0x" + bytes(stranger.sign_transaction(unsigned).raw_transaction).hex()
    first = reexecute(history).differences[0]
    assert (first.transaction, first.what, first.found) == (3, "the status", "0")


def test_a_journal_is_a_history_too(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = DevChain()
    journal = TransactionLog(tmp_path / "transactions.jsonl")
    fed = found(chain.web3, hospitals=1, journal=journal)
    monkeypatch.setattr(fed.ledger._sender, "_try", lambda question: None)
    with pytest.raises(AlreadyRegistered):
        fed.ledger.register(fed.hospitals[0], 1, 0, 1)
    journal.close()
    reopened = TransactionLog(tmp_path / "transactions.jsonl")
    root = chain.storage_root(fed.ledger.anchors.contract)
    record = history_of_journal(reopened, fed.ledger, storage_root=root)
    reopened.close()
    steps = History.from_record(record).steps
    assert [step.mined.status for step in steps] == [1, 1, 0]
    assert reexecute(json.loads(json.dumps(record))).require().storage_root == root
