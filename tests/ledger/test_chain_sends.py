"""Sending where a pool drops transactions, or wants a better price."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from web3.exceptions import TransactionNotFound

from contracts.artefact import load_artefact
from ledger.chain_errors import RevertDecoder
from ledger.chain_rpc import Patience, Transport
from ledger.chain_sends import TransactionSender
from ledger.errors import TransactionStuck
from ledger.txlog import TransactionLog

SENDER = Account.from_key(bytes(31) + b"\7")
CONTRACT = "0x" + "11" * 20


class Pool:
    """A node that mines nothing below its price, and may forget what it was given."""

    def __init__(self, *, base_fee: int, worth: int = 0, forgets: int = 0) -> None:
        self.base_fee, self.worth, self.forgets = base_fee, worth, forgets
        self.offered: list[dict[str, Any]] = []
        self.receipts: dict[bytes, dict[str, Any]] = {}
        self.max_priority_fee = 10
        self.block_number = 5

    def get_block(self, _which: object) -> dict[str, int]:
        return {"baseFeePerGas": self.base_fee, "gasLimit": 30_000_000, "timestamp": 1_000}

    def call(self, _fields: object, _block: object) -> bytes:
        return b""

    def estimate_gas(self, _fields: object) -> int:
        return 50_000

    def get_transaction_count(self, _who: str, _block: object) -> int:
        return 3

    def get_transaction(self, _tx_hash: bytes) -> None:
        raise TransactionNotFound("unknown")

    def send_raw_transaction(self, raw: bytes) -> None:
        fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        self.offered.append(fields)
        if len(self.offered) > self.forgets and fields["maxPriorityFeePerGas"] >= self.worth:
            self.receipts[keccak(raw)] = {
                "transactionHash": keccak(raw), "blockNumber": 6, "status": 1,
                "gasUsed": 40_000, "logs": [],
            }  # fmt: skip

    def get_transaction_receipt(self, tx_hash: bytes) -> dict[str, Any]:
        if tx_hash not in self.receipts:
            raise TransactionNotFound("unknown")
        return self.receipts[tx_hash]


def sender(pool: Pool, path: Path) -> tuple[TransactionSender, TransactionLog]:
    transport = Transport(
        cast("Any", SimpleNamespace(eth=pool)), Patience(mining=0.15, poll=0.01, outage=0.1)
    )
    journal = TransactionLog(path / "transactions.jsonl")
    decoder = RevertDecoder(load_artefact().abi)
    return TransactionSender(transport, decoder, chain_id=1, journal=journal), journal


def test_a_stuck_transaction_is_replaced_at_a_better_price(tmp_path: Path) -> None:
    """The same nonce, journalled before it leaves, and only one of the offers is ever mined."""
    pool = Pool(base_fee=100, worth=12)
    sending, journal = sender(pool, tmp_path)
    receipt, _ = sending.send(SENDER, b"\1\2\3\4", CONTRACT)
    assert [offer["nonce"] for offer in pool.offered] == [3, 3]
    assert [offer["maxPriorityFeePerGas"] for offer in pool.offered] == [10, 13]
    assert list(pool.receipts) == [receipt.tx_hash]
    entries = journal.entries()
    assert [entry.mined is not None for entry in entries] == [True, False]
    assert entries[0].tx_hash == receipt.tx_hash
    journal.close()


def test_where_gas_is_free_the_same_bytes_are_offered_again(tmp_path: Path) -> None:
    pool = Pool(base_fee=0, forgets=1)
    sending, journal = sender(pool, tmp_path)
    sending.send(SENDER, b"\1\2\3\4", CONTRACT)
    assert len(pool.offered) == 2
    assert pool.offered[0] == pool.offered[1]
    assert len(journal.entries()) == 1
    journal.close()


def test_what_nobody_mines_is_stuck_and_journalled(tmp_path: Path) -> None:
    pool = Pool(base_fee=100, worth=10**9)
    sending, journal = sender(pool, tmp_path)
    with pytest.raises(TransactionStuck, match="offered 3 times"):
        sending.send(SENDER, b"\1\2\3\4", CONTRACT)
    assert len(journal.entries()) == len(pool.offered) == 3
    journal.close()


def test_an_earlier_offer_may_be_mined_meanwhile(tmp_path: Path) -> None:
    """The replacement is refused, because the first was mined: its receipt counts."""

    class Late(Pool):
        raw = b""

        def send_raw_transaction(self, raw: bytes) -> None:
            if self.offered:
                first = keccak(self.raw)
                self.receipts[first] = {
                    "transactionHash": first, "blockNumber": 6, "status": 1,
                    "gasUsed": 40_000, "logs": [],
                }  # fmt: skip
                raise ValueError("nonce too low")
            self.raw = raw
            super().send_raw_transaction(raw)

    pool = Late(base_fee=100, worth=10**9)
    sending, journal = sender(pool, tmp_path)
    receipt, _ = sending.send(SENDER, b"\1\2\3\4", CONTRACT)
    assert receipt.tx_hash == keccak(pool.raw)
    journal.close()
