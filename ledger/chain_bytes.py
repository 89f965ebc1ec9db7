"""Ethereum's own bytes, as far as an offline auditor needs them: headers, transactions, tries.

Everything here is computed from bytes that were hashed into a block, so nothing has to be believed:
a block hash is keccak of the header's RLP, the header holds the roots of the transaction, receipt
and state tries (Yellow Paper, sections 4.3 and 4.4; EIP-2718 for typed values; EIP-1186 proofs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import rlp
from eth_account import Account
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from trie.exceptions import BadTrieProof, ValidationError
from trie.hexary import HexaryTrie

from ledger.errors import BundleInvalid
from ledger.facts import AccountProof

_Trie: Any = HexaryTrie  # the library's types are partial
EMPTY_ROOT = keccak(rlp.encode(b""))
"""Root of a trie without entries."""
HEADER_FIELDS = (
    "parentHash",
    "sha3Uncles",
    "miner",
    "stateRoot",
    "transactionsRoot",
    "receiptsRoot",
    "logsBloom",
    "difficulty",
    "number",
    "gasLimit",
    "gasUsed",
    "timestamp",
    "extraData",
    "mixHash",
    "nonce",
    "baseFeePerGas",
    "withdrawalsRoot",
    "blobGasUsed",
    "excessBlobGas",
    "parentBeaconBlockRoot",
    "requestsHash",
)
"""A header's fields in RLP order; those after ``nonce`` came with later forks."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """The parts of a block header that an audit uses."""

    hash: bytes
    parent: bytes
    number: int
    time: int
    state_root: bytes
    transactions_root: bytes
    receipts_root: bytes


@dataclass(frozen=True, kw_only=True)
class Transaction:
    """A signed transaction; ``sender`` is recovered from its signature, ``to`` None creates."""

    hash: bytes
    sender: str
    nonce: int
    chain_id: int | None
    to: str | None
    value: int
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Log:
    """One log, as the receipt holds it."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes


def _decoded(data: bytes, what: str) -> Any:
    try:
        return rlp.decode(data)
    except rlp.DecodingError as error:
        raise BundleInvalid(f"{what} is not RLP: {error}") from None


def _integer(value: bytes) -> int:
    if not isinstance(value, bytes) or len(value) > 32 or value[:1] == b"\0":
        raise BundleInvalid("an RLP integer is not canonical")
    return int.from_bytes(value, "big")


def _address(value: bytes) -> str:
    if not isinstance(value, bytes) or len(value) != 20:
        raise BundleInvalid("an address must be 20 bytes")
    return str(to_checksum_address(value))


def parse_header(data: bytes) -> Header:
    """Read a block header from its RLP.

    Raises:
        BundleInvalid: it is not a header.
    """
    items = _decoded(data, "a block header")
    if not isinstance(items, list) or not 15 <= len(items) <= 32:
        raise BundleInvalid("a block header needs 15 fields or a few more")
    if any(len(items[i]) != 32 for i in (0, 3, 4, 5)):
        raise BundleInvalid("a block header's roots must be 32 bytes")
    return Header(
        hash=keccak(data),
        parent=items[0],
        state_root=items[3],
        transactions_root=items[4],
        receipts_root=items[5],
        number=_integer(items[8]),
        time=_integer(items[11]),
    )


def ordered_root(values: Sequence[bytes]) -> bytes:
    """Return the root of the trie ``rlp(index) -> value`` (transactions, receipts of a block)."""
    trie = _Trie({})
    for index, value in enumerate(values):
        trie.set(rlp.encode(index), value)
    return bytes(trie.root_hash)


def storage_root(storage: Mapping[int, int], *, keep_zeros: bool = False) -> bytes:
    """Return the storage root of a contract with these slots.

    By the Yellow Paper a slot that holds zero does not exist. Anvil 1.7 hashes such slots all the
    same once they were written (``keep_zeros``).
    """
    trie = _Trie({})
    for slot, value in storage.items():
        if value or keep_zeros:
            trie.set(keccak(slot.to_bytes(32, "big")), rlp.encode(value))
    return bytes(trie.root_hash)


def account_proven(state_root: bytes, address: str, proof: AccountProof) -> bool:
    """Return whether the proof shows exactly this account under ``state_root``."""
    leaf = rlp.encode([proof.nonce, proof.balance, proof.storage_root, proof.code_hash])
    try:
        nodes = [rlp.decode(node) for node in proof.nodes]
        found = _Trie.get_from_proof(state_root, keccak(hexstr=address), nodes)
    except (BadTrieProof, ValidationError, rlp.DecodingError, ValueError, TypeError, KeyError):
        return False
    return bool(found == leaf)


@lru_cache(maxsize=1 << 14)
def parse_transaction(raw: bytes) -> Transaction:
    """Read a signed transaction (legacy, EIP-2930 or EIP-1559) and recover its sender.

    Raises:
        BundleInvalid: it is not one, or its signature is not valid.
    """
    try:
        sender = str(Account.recover_transaction(raw))
    except Exception as error:  # noqa: BLE001 - eth-account raises anything on hostile bytes
        raise BundleInvalid(f"a transaction's signature does not recover: {error}") from None
    kind = raw[0] if raw[0] < 0x80 else 0
    items = _decoded(raw[1:] if kind else raw, "a transaction")
    if kind == 0:  # nonce, gasPrice, gas, to, value, data, v, r, s
        nonce, to, value, data = items[0], items[3], items[4], items[5]
        v = _integer(items[6])
        chain_id = (v - 35) // 2 if v >= 35 else None
    elif kind in (1, 2):
        first = 4 if kind == 1 else 5
        chain_id = _integer(items[0])
        nonce, (to, value, data) = items[1], items[first : first + 3]
    else:
        raise BundleInvalid(f"transactions of type {kind} are not part of this protocol")
    return Transaction(
        hash=keccak(raw),
        sender=sender,
        nonce=_integer(nonce),
        chain_id=chain_id,
        to=_address(to) if to else None,
        value=_integer(value),
        data=data,
    )


def parse_receipt(data: bytes) -> tuple[bool, int, tuple[Log, ...]]:
    """Return (succeeded, cumulative gas, logs) of a receipt.

    Raises:
        BundleInvalid: it is not a receipt.
    """
    typed = bool(data) and data[0] < 0x80
    items = _decoded(data[1:] if typed else data, "a receipt")
    try:
        status, gas, _, logs = items
        parsed = tuple(
            Log(address=_address(where), topics=tuple(topics), data=payload)
            for where, topics, payload in logs
        )
    except (ValueError, TypeError):
        raise BundleInvalid("a receipt has other fields than status, gas, bloom and logs") from None
    return _integer(status) == 1, _integer(gas), parsed


def created_address(sender: str, nonce: int) -> str:
    """Return the address of the contract that a sender's transaction creates."""
    packed = rlp.encode([bytes.fromhex(sender[2:]), nonce])
    return str(to_checksum_address(keccak(packed)[12:]))
