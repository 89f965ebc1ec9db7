"""A durable journal of signed transactions: on the disk before they leave, replayed after a crash.

Anvil loses its newest blocks (or, killed while writing, its whole state file); any node can lose
what was only in its pool. The journal holds the signed bytes, so the same transactions can be sent
again, and the time of each block, so that a development node re-creates the same history: the
contract's deadlines, hence its head, depend on the block's time.

One JSON object a line (``docs/adr/0003-chain-back-ends.md``): a header, then ``signed`` (hash,
raw), ``mined`` (hash, block, timestamp, status, gas_used, logs) or ``rejected`` (hash, message).
Every line is flushed to the disk before `TransactionLog` returns. A last line without its line end
was never acted on, and is cut off.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from eth_utils.crypto import keccak
from web3 import Web3
from web3.exceptions import TransactionNotFound

from ledger.canonical import canonical_json, parse_json
from ledger.chain_rpc import TRANSPORT_ERRORS
from ledger.errors import CodecError, JournalCorrupt, TransactionStuck
from ledger.files import read_bounded, storage_error, sync_folder
from ledger.steps import step
from ledger.transactions import Mined, to_hex, unhex

FORMAT = "thoracle/transactions/v1"
MAX_BYTES = 1 << 30
MAX_LINE = 1 << 20
_MINING = 10.0


@dataclass(kw_only=True)
class Entry:
    """One signed transaction and what is known of its fate."""

    tx_hash: bytes
    raw: bytes
    mined: Mined | None = None
    rejected: str | None = None


def read_entries(data: bytes, name: str) -> tuple[dict[bytes, Entry], int]:
    """Read every whole line of a journal.

    Returns:
        The transactions by hash, and how many bytes the whole lines are.

    Raises:
        JournalCorrupt: a line (other than a torn last one) is not as it was written.
    """
    entries: dict[bytes, Entry] = {}
    kept = data.rfind(b"\n") + 1
    for number, line in enumerate(data[:kept].split(b"\n")[:-1]):
        try:
            record = parse_json(line, MAX_LINE)
            if not isinstance(record, dict):
                raise ValueError("not an object")
            if number == 0:
                if record != {"format": FORMAT}:
                    raise ValueError("another format")
            else:
                _apply(record, line, entries)
        except (CodecError, KeyError, ValueError, TypeError) as error:
            raise JournalCorrupt(
                f"line {number + 1} of {name} cannot be read back: {error}"
            ) from None
    return entries, kept


def _apply(record: Mapping[str, Any], line: bytes, entries: dict[bytes, Entry]) -> None:
    tx_hash, kind = unhex(record["hash"]), record["kind"]
    again: dict[str, object] = {"kind": kind, "hash": to_hex(tx_hash)}
    if kind == "signed":
        raw = unhex(record["raw"])
        if keccak(raw) != tx_hash:
            raise ValueError("the bytes are not those of their hash")
        entries[tx_hash] = Entry(tx_hash=tx_hash, raw=raw)
        again["raw"] = to_hex(raw)
    elif tx_hash not in entries:
        raise ValueError("its transaction was never journalled")
    elif kind == "mined":
        mined = entries[tx_hash].mined = Mined.from_record(tx_hash, record)
        again = _mined_record(mined)
    elif kind == "rejected":
        again["message"] = entries[tx_hash].rejected = str(record["message"])
    else:
        raise ValueError(f"the kind {kind!r} is unknown")
    if canonical_json(again) != line:
        raise ValueError("it is not as it was written")


def _mined_record(mined: Mined) -> dict[str, object]:
    return {"kind": "mined", "hash": to_hex(mined.tx_hash), **mined.to_record()}


class TransactionLog:
    """The journal of one node, or of one party that signs."""

    def __init__(self, path: Path) -> None:
        """Open the journal at ``path``, or start one.

        Raises:
            JournalCorrupt: a line (other than a torn last one) cannot be read back.
        """
        self.path = Path(path)
        self._lock = threading.RLock()
        self._entries: dict[bytes, Entry] = {}
        kept = self._load()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream: IO[bytes] = self.path.open("ab")
            if kept is not None:
                self._stream.truncate(kept)
        except OSError as error:
            raise storage_error(self.path, error) from None
        if not kept:
            self._append({"format": FORMAT})
            sync_folder(self.path.parent)

    def _load(self) -> int | None:
        """Read every whole line; return how many bytes they are, None where there is no file."""
        if not self.path.exists():
            return None
        self._entries, kept = read_entries(read_bounded(self.path, MAX_BYTES), self.path.name)
        return kept

    def _append(self, record: Mapping[str, object]) -> None:
        """Append one line durably, or leave the file as it was.

        Raises:
            OutputError: it cannot be written (``StorageFull``, ``StorageReadOnly``).
        """
        line = canonical_json(record) + b"\n"
        descriptor = self._stream.fileno()
        before = os.fstat(descriptor).st_size
        try:
            with step("append", self.path):
                # Past the buffer: what a full disk did not take must not follow the next line.
                written = os.write(descriptor, line)
                while written < len(line):
                    written += os.write(descriptor, line[written:])
                os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, before)
            raise storage_error(self.path, error) from None

    def signed(self, raw: bytes) -> bytes:
        """Note a signed transaction, durably, before it is broadcast; return its hash."""
        tx_hash = keccak(raw)
        with self._lock:
            known = self._entries.get(tx_hash)
            if known is None or known.rejected is not None:  # refused once, offered again
                self._append({"kind": "signed", "hash": to_hex(tx_hash), "raw": to_hex(raw)})
                self._entries[tx_hash] = Entry(tx_hash=tx_hash, raw=raw)
        return tx_hash

    def mined(self, mined: Mined) -> None:
        """Note what became of a journalled transaction; only then may anyone act on it.

        Raises:
            JournalCorrupt: the transaction was never journalled.
        """
        with self._lock:
            entry = self._entries.get(mined.tx_hash)
            if entry is None:
                raise JournalCorrupt(f"{to_hex(mined.tx_hash)} was mined but never journalled")
            if entry.mined != mined:
                self._append(_mined_record(mined))
                entry.mined, entry.rejected = mined, None

    def rejected(self, tx_hash: bytes, message: str) -> None:
        """Note that the node refused a journalled transaction: it is never sent again."""
        with self._lock:
            record = {"kind": "rejected", "hash": to_hex(tx_hash), "message": message[:200]}
            self._append(record)
            self._entries[tx_hash].rejected = message[:200]

    def entries(self) -> tuple[Entry, ...]:
        """Return every transaction: the mined in the order of their blocks, then the others."""
        with self._lock:
            found = list(self._entries.values())
        far = 1 << 64
        return tuple(sorted(found, key=lambda e: e.mined.block if e.mined else far))

    def get(self, tx_hash: bytes) -> Entry | None:
        """Return what is known of one transaction, or None."""
        with self._lock:
            return self._entries.get(tx_hash)

    def close(self) -> None:
        """Close the file; nothing is pending, every line is already on the disk."""
        self._stream.close()

    def replay(self, node: Node, *, warp: Callable[[int], None] | None = None) -> int:
        """Send again whatever the chain no longer (or not yet) knows.

        Args:
            node: the same chain, as `ChainNode` or the managed node sees it.
            warp: sets the time of the node's next block (development nodes only), so that a
                mined transaction gets the block time it had.

        Returns:
            How many transactions were sent.

        Raises:
            JournalCorrupt: what the node holds, or makes of the same transaction now, is not what
                was journalled.
            TransactionStuck: a transaction was sent but not mined.
        """
        sent = 0
        # A development node's own journal is compared whole: its blocks are to be the same again.
        for entry in self.entries() if warp is not None else self._unsure(node):
            if entry.rejected is not None and entry.mined is None:
                continue
            found = node.look_up(entry.tx_hash)
            if found is None:
                if warp is not None and entry.mined is not None:
                    warp(entry.mined.timestamp)
                if not self._resend(node, entry):
                    continue
                sent += 1
                found = _await_mined(node, entry.tx_hash)
            self._settle(entry, found, exact=warp is not None)
        return sent

    def _unsure(self, node: Node) -> tuple[Entry, ...]:
        """Return the entries that a chain may lack: what never was mined, and the newest.

        A chain that forgets, forgets from its end: what was mined before the newest that it still
        has needs no look-up, so a journal of any length costs one where nothing was lost.
        """
        entries = self.entries()
        for place in reversed(range(len(entries))):
            entry = entries[place]
            if entry.mined is not None and node.look_up(entry.tx_hash) is not None:
                never = (before for before in entries[:place] if before.mined is None)
                return (*never, *entries[place:])
        return entries

    def _resend(self, node: Node, entry: Entry) -> bool:
        with step("broadcast", f"{self.path}/{to_hex(entry.tx_hash)}"):
            refused = node.send(entry.raw)
        if refused is None:
            return True
        if entry.mined is not None:
            raise JournalCorrupt(
                f"the node refuses the journalled transaction {to_hex(entry.tx_hash)}: {refused}"
            )
        self.rejected(entry.tx_hash, refused)
        return False

    def _settle(self, entry: Entry, found: Mined, *, exact: bool) -> None:
        """Compare signed content and effects, never block hashes: those may lawfully differ."""
        known = entry.mined
        if known is not None and exact and _effects(known) != _effects(found):
            raise JournalCorrupt(
                f"the node's record of {to_hex(entry.tx_hash)} (block {found.block}) is not the "
                f"journalled one (block {known.block})"
            )
        if known != found:
            self.mined(found)


def _effects(mined: Mined) -> tuple[object, ...]:
    return (mined.timestamp, mined.status, mined.gas_used, mined.logs)


class Node(Protocol):
    """What a replay needs of a node."""

    def look_up(self, tx_hash: bytes) -> Mined | None:
        """Return what became of a transaction, or None where it is not mined."""

    def send(self, raw: bytes) -> str | None:
        """Broadcast a transaction; return why the node refuses it, or None."""


class ChainNode:
    """Any node, through web3; its transport errors pass through."""

    def __init__(self, web3: Web3) -> None:
        self._web3 = web3

    def look_up(self, tx_hash: bytes) -> Mined | None:
        """See `Node`."""
        try:
            receipt = self._web3.eth.get_transaction_receipt(tx_hash)  # type: ignore[arg-type]
        except TransactionNotFound:
            return None
        block = self._web3.eth.get_block(receipt["blockNumber"])
        return Mined.of_receipt(receipt, block["timestamp"])

    def send(self, raw: bytes) -> str | None:
        """See `Node`."""
        try:
            self._web3.eth.send_raw_transaction(raw)
        except TRANSPORT_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001 - every node has its own refusals
            return str(error) or type(error).__name__
        return None


def _await_mined(node: Node, tx_hash: bytes) -> Mined:
    deadline = time.monotonic() + _MINING
    while True:
        found = node.look_up(tx_hash)
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise TransactionStuck(
                f"the transaction {to_hex(tx_hash)} was sent again but not mined"
            )
        time.sleep(0.005)
