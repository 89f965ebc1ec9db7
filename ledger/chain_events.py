"""The contract's events: fetched in bounded ranges, decoded once, read as statements.

The index remembers what it has seen up to one block and that block's hash. Where the chain was
reorganised (or a development chain rewound) the hash differs and everything is fetched anew.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from eth_utils.address import to_checksum_address
from web3.contract import Contract
from web3.exceptions import BlockNotFound
from web3.types import LogReceipt

from ledger.chain_rpc import Transport
from ledger.chain_types import Answer, Closing, LedgerEvent
from ledger.errors import InvalidStatement
from ledger.statement import (
    PROBES,
    Commit,
    Mechanism,
    Opening,
    Outcome,
    Proposal,
    Rules,
    Unit,
    seats_of,
)

SPAN = 5_000
"""Blocks a log query covers: public nodes refuse more than about ten thousand."""


class EventIndex:
    """Every event of one contract, in order, kept up to date as it is asked."""

    def __init__(self, transport: Transport, contract: Contract, *, first_block: int = 0) -> None:
        self._transport = transport
        self._contract = contract
        self._first = first_block
        self._lock = threading.Lock()
        names = (item["name"] for item in contract.abi if item["type"] == "event")
        events = (contract.events[name]() for name in names)
        self._decoders: dict[bytes, Any] = {bytes.fromhex(e.topic[2:]): e for e in events}
        self._clear()

    def _clear(self) -> None:
        self._events: list[LedgerEvent] = []
        self._next = self._first
        self._last_hash: bytes | None = None

    def through(self, block: int) -> tuple[LedgerEvent, ...]:
        """Return every event up to and with ``block``, in the chain's order.

        Raises:
            LedgerUnavailable: the node cannot be reached or cannot answer.
        """
        with self._lock:
            if self._next > self._first and not self._still_there():
                self._clear()
            while self._next <= block:
                self._fetch(min(block, self._next + SPAN - 1))
            return tuple(event for event in self._events if event.block <= block)

    def _still_there(self) -> bool:
        try:
            return self._hash(self._next - 1) == self._last_hash
        except BlockNotFound:
            return False

    def _hash(self, block: int) -> bytes:
        eth = self._transport.web3.eth
        return self._transport.ask("for a block", lambda: bytes(eth.get_block(block)["hash"]))

    def _fetch(self, last: int) -> None:
        eth = self._transport.web3.eth
        # The hash before the logs: a block that changes in between is noticed next time.
        block_hash = self._hash(last)
        logs = self._transport.read(
            "for events",
            lambda: eth.get_logs(
                {"address": self._contract.address, "fromBlock": self._next, "toBlock": last}
            ),
        )
        found = sorted(logs, key=lambda log: (log["blockNumber"], log["logIndex"]))
        self._events.extend(self._decode(log) for log in found)
        self._next, self._last_hash = last + 1, block_hash

    def _decode(self, log: LogReceipt) -> LedgerEvent:
        decoder = self._decoders.get(bytes(log["topics"][0]))
        if decoder is None:
            raise InvalidStatement(f"block {log['blockNumber']} holds an event unknown to the ABI")
        found = decoder.process_log(log)
        return LedgerEvent(
            name=found["event"],
            args={key: _plain(value) for key, value in found["args"].items()},
            block=found["blockNumber"],
            log_index=found["logIndex"],
            tx_hash=bytes(found["transactionHash"]),
        )


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, Mapping):
        return _struct(tuple(value.values()))
    if isinstance(value, tuple):
        return _struct(value)
    if isinstance(value, list):
        return tuple(_plain(item) for item in value)
    return to_checksum_address(value) if _is_address(value) else value


def _is_address(value: object) -> bool:
    return isinstance(value, str) and len(value) == 42 and value.startswith("0x")


def _struct(values: tuple[Any, ...]) -> Mechanism | Rules:
    if len(values) == 6:
        *numbers, list_digest = values
        names = ("epsilon", "noise_multiplier", "sample_rate", "steps", "delta")
        return Mechanism(**dict(zip(names, numbers, strict=True)), list_digest=bytes(list_digest))
    return rules_of(values)


def rules_of(values: tuple[Any, ...]) -> Rules:
    """Read the tuple that web3 returns for Solidity's ``Rules``."""
    federation_id, initial_model, unit, *numbers = values
    names = (
        "min_accepted_of_commits",
        "min_accepted_of_members",
        "max_silent_share",
        "share_cap",
        "vote_share",
        "min_commit_window",
    )
    return Rules(
        federation_id=bytes(federation_id),
        initial_model=bytes(initial_model),
        privacy_unit=Unit(unit),
        **dict(zip(names, numbers, strict=True)),
    )


def of_round(events: Iterable[LedgerEvent], number: int, *names: str) -> list[LedgerEvent]:
    """Return the events of these names that belong to round ``number``, in order."""
    return [e for e in events if e.name in names and e.args["round"] == number]


def opening_of(event: LedgerEvent) -> Opening:
    """Read a ``RoundOpened`` event."""
    args = event.args
    return Opening(
        round=args["round"],
        open_head=args["openHead"],
        base_model=args["baseModel"],
        config_digest=args["configDigest"],
        key_digest=args["keyDigest"],
        norm_bound=args["normBound"],
        commit_deadline=args["commitDeadline"],
        attest_window=args["attestWindow"],
        weight_cap=args["weightCap"],
        roster_count=args["rosterCount"],
        roster_weight=args["rosterWeight"],
    )


def commit_of(event: LedgerEvent) -> Commit:
    """Read a ``Committed`` event."""
    args = event.args
    return Commit(
        round=args["round"],
        hospital=args["hospital"],
        seat=args["seat"],
        seal_digest=args["sealDigest"],
        opening_digest=args["openingDigest"],
        weight=args["weight"],
        mechanism=args["mechanism"],
    )


def proposal_of(event: LedgerEvent) -> Proposal:
    """Read a ``Proposed`` event, unpacking its reasons, probes and totals.

    Raises:
        InvalidStatement: the packed bytes have another length than the bitmaps say.
    """
    args = event.args
    accepted, refused = seats_of(args["accepted"]), seats_of(args["refused"])
    reasons: bytes = args["reasons"]
    probes, totals = unpack(args["probes"], 8), unpack(args["totals"], 16)
    if len(reasons) != len(refused) or len(probes) != PROBES * len(accepted):
        raise InvalidStatement(f"the proposal of round {args['round']} has packed lists cut short")
    if len(totals) != PROBES:
        raise InvalidStatement(f"the proposal of round {args['round']} has no {PROBES} totals")
    rows = (probes[i : i + PROBES] for i in range(0, len(probes), PROBES))
    return Proposal(
        round=args["round"],
        sum_digest=args["sumDigest"],
        model_digest=args["modelDigest"],
        beacon=args["beacon"],
        accepted=args["accepted"],
        refused=args["refused"],
        accepted_weight=args["acceptedWeight"],
        attest_deadline=args["attestDeadline"],
        reasons=dict(zip(refused, reasons, strict=True)),
        probes=dict(zip(accepted, rows, strict=True)),
        totals=totals,
    )


def unpack(data: bytes, size: int) -> tuple[int, ...]:
    """Split ``data`` into big-endian signed integers of ``size`` bytes each.

    Raises:
        InvalidStatement: the length is not a multiple of ``size``.
    """
    if len(data) % size:
        raise InvalidStatement(f"{len(data)} packed bytes are not a multiple of {size}")
    return tuple(
        int.from_bytes(data[i : i + size], "big", signed=True) for i in range(0, len(data), size)
    )


_ANSWERS: Mapping[str, Any] = {
    "Attested": "attested",
    "Dissented": "dissented",
    "Contested": "contested",
}


def answer_of(event: LedgerEvent) -> Answer:
    """Read an ``Attested``, ``Dissented`` or ``Contested`` event."""
    return Answer(
        round=event.args["round"],
        hospital=event.args["hospital"],
        kind=_ANSWERS[event.name],
        code=event.args.get("code", 0),
        block=event.block,
    )


def closing_of(event: LedgerEvent) -> Closing:
    """Read a ``Finalised`` or ``RoundAborted`` event."""
    args = event.args
    aborted = event.name == "RoundAborted"
    return Closing(
        round=args["round"],
        outcome=Outcome.ABORTED if aborted else Outcome(args["outcome"]),
        model=None if aborted else args["model"],
        attested=args["attested"],
        against=args["against"],
        unattested_weight=args.get("unattestedWeight", 0),
        block=event.block,
    )
