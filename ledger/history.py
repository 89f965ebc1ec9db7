"""The signed transactions that made a contract's history, as a program can run them again.

A history is plain JSON: the chain's id, the contract, where it ended, and every transaction that
left an event, with its block's number and time and what the chain said it did. It is collected
from any node (`export_history`) or from a journal (`history_of_journal`), and re-executed by
`ledger.reexecute`. Nothing in it has to be believed: the signatures prove who sent what, and the
effects are computed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from web3 import Web3
from web3.exceptions import MethodUnavailable, Web3RPCError

from ledger.chain_reads import LedgerReader
from ledger.errors import BundleInvalid, LedgerUnavailable
from ledger.transactions import Mined, to_hex, unhex
from ledger.txlog import TransactionLog

FORMAT = "thoracle/history/v1"
MAX_TRANSACTIONS = 1_000_000
MAX_RAW = 1 << 18


@dataclass(frozen=True, kw_only=True)
class Step:
    """One signed transaction and what the chain said it did."""

    raw: bytes
    mined: Mined


@dataclass(frozen=True, kw_only=True)
class History:
    """A contract's history (see the module's docstring).

    ``storage_root`` is the root of the contract's storage trie at the end, None where the node
    offers no proofs.
    """

    chain_id: int
    contract: str
    head: bytes
    sequence: int
    storage_root: bytes | None
    code: bytes = field(repr=False)
    steps: tuple[Step, ...] = field(repr=False)

    def to_record(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {
            "format": FORMAT,
            "chain_id": self.chain_id,
            "contract": self.contract,
            "head": to_hex(self.head),
            "sequence": self.sequence,
            "storage_root": None if self.storage_root is None else to_hex(self.storage_root),
            "code": to_hex(self.code),
            "transactions": [
                {"raw": to_hex(step.raw), **step.mined.to_record()} for step in self.steps
            ],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> History:
        """Read what `to_record` wrote.

        Raises:
            BundleInvalid: it is not a history, or over its bounds.
        """
        try:
            if record["format"] != FORMAT:
                raise ValueError("another format")
            items, root = record["transactions"], record["storage_root"]
            if not isinstance(items, list) or len(items) > MAX_TRANSACTIONS:
                raise ValueError("too many transactions")
            return cls(
                chain_id=_natural(record["chain_id"]),
                contract=to_checksum_address(record["contract"]),
                head=_sized(record["head"]),
                sequence=_natural(record["sequence"]),
                storage_root=None if root is None else _sized(root),
                code=unhex(record["code"]),
                steps=tuple(_step(item) for item in items),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise BundleInvalid(f"the history cannot be read: {error}") from None


def _step(item: Mapping[str, Any]) -> Step:
    raw = unhex(item["raw"])
    if len(raw) > MAX_RAW:
        raise ValueError("a transaction is over its bound")
    return Step(raw=raw, mined=Mined.from_record(keccak(raw), item))


def _natural(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ValueError("a number is outside its range")
    return value


def _sized(text: object) -> bytes:
    found = unhex(text)
    if len(found) != 32:
        raise ValueError("a digest is not 32 bytes")
    return found


def export_history(
    ledger: LedgerReader, *, progress: Callable[[int, int], None] | None = None
) -> dict[str, object]:
    """Collect a contract's history from its node, as plain JSON values.

    Args:
        ledger: the federation's ledger.
        progress: called with (transactions done, of how many).

    Raises:
        LedgerUnavailable: the node cannot be reached, or no longer has a transaction.
    """
    tip, web3 = ledger.tip(), ledger.web3
    hashes = list(dict.fromkeys(e.tx_hash for e in ledger.events() if e.block <= tip.block))
    steps = []
    for number, tx_hash in enumerate(hashes):
        steps.append(ledger.ask("for a transaction", lambda h=tx_hash: _fetch(web3, h)))  # type: ignore[misc]
        if progress is not None:
            progress(number + 1, len(hashes))
    contract = ledger.anchors.contract
    code = ledger.ask(
        "for the code", lambda: web3.eth.get_code(to_checksum_address(contract), tip.block)
    )
    return History(
        chain_id=ledger.anchors.chain_id,
        contract=contract,
        head=tip.head,
        sequence=tip.sequence,
        storage_root=ledger.ask("for a proof", lambda: _storage_root(web3, contract, tip.block)),
        code=bytes(code),
        steps=tuple(steps),
    ).to_record()


def history_of_journal(
    journal: TransactionLog, ledger: LedgerReader, *, storage_root: bytes | None = None
) -> dict[str, object]:
    """Return the history that a journal holds, with the ledger's present head to compare with.

    Unlike `export_history` it also has transactions that reverted, and those to other contracts.
    """
    tip = ledger.tip()
    contract = to_checksum_address(ledger.anchors.contract)
    mined = [(entry.raw, entry.mined) for entry in journal.entries()]
    code = ledger.ask("for the code", lambda: ledger.web3.eth.get_code(contract, tip.block))
    return History(
        chain_id=ledger.anchors.chain_id,
        contract=contract,
        head=tip.head,
        sequence=tip.sequence,
        storage_root=storage_root,
        code=bytes(code),
        steps=tuple(Step(raw=raw, mined=found) for raw, found in mined if found is not None),
    ).to_record()


def _fetch(web3: Web3, tx_hash: bytes) -> Step:
    receipt = web3.eth.get_transaction_receipt(tx_hash)  # type: ignore[arg-type]
    block = web3.eth.get_block(receipt["blockNumber"])
    raw = signed_bytes(web3.eth.get_transaction(tx_hash))  # type: ignore[arg-type]
    if keccak(raw) != tx_hash:
        raise LedgerUnavailable(f"the node's transaction {to_hex(tx_hash)} has another hash")
    return Step(raw=raw, mined=Mined.of_receipt(receipt, block["timestamp"]))


def signed_bytes(found: Mapping[str, Any]) -> bytes:
    """Rebuild the signed bytes of a transaction from a node's description of it.

    Not every node serves raw transactions, but every node serves their fields; the caller checks
    the hash.

    Raises:
        LedgerUnavailable: the kind of transaction is not one that a ledger's parties send.
    """
    fields = {"nonce": found["nonce"], "gas": found["gas"], "value": found["value"]}
    fields["to"] = bytes.fromhex(found["to"][2:]) if found.get("to") else b""
    fields["data"] = bytes(found["input"])
    kind = found.get("type") or 0
    kind = int(kind, 16) if isinstance(kind, str) else int(kind)
    if kind != 2:
        raise LedgerUnavailable(
            f"the node's transaction is of the kind {kind}, which is not used here"
        )
    fields |= {
        "type": 2,
        "chainId": found["chainId"],
        "maxFeePerGas": found["maxFeePerGas"],
        "maxPriorityFeePerGas": found["maxPriorityFeePerGas"],
        "accessList": (),
        "v": int(found.get("yParity", found["v"])),
        "r": int.from_bytes(bytes(found["r"]), "big"),
        "s": int.from_bytes(bytes(found["s"]), "big"),
    }
    return bytes(TypedTransaction.from_dict(fields).encode())


def _storage_root(web3: Web3, contract: str, block: int) -> bytes | None:
    try:
        ask: Callable[..., Any] = (
            web3.eth.get_proof
        )  # typed for one tuple, called with three values
        proof = ask(to_checksum_address(contract), [], block)
    except (Web3RPCError, MethodUnavailable, NotImplementedError, ValueError):
        return None  # the in-process chain, and some nodes, offer none
    return bytes(proof["storageHash"])
