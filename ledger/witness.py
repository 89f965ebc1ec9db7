"""A hospital's own memory of the ledger: what a single operator of a chain cannot rewrite.

Order and time on a chain run by one operator are that operator's. Each hospital therefore keeps,
in its own durable file, every (sequence, head) it has seen. A chain that later shows less
(`LedgerRollback`), another head at a number already seen (`HeadMismatch`) or another time than the
hospital's clock (`ClockSkew`) is refused; and two hospitals that compare their files find the
first record on which they were told different things.

About clocks: a chain that mines only on demand has an old latest block whenever nothing has
happened, so a witness compares its clock with the time the node would give a block mined *now*
(`Ledger.clock`), and with the block of its own transaction, which it saw mined (`observe`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger.canonical import canonical_json, parse_json
from ledger.chain_reads import LedgerReader
from ledger.chain_types import Receipt, Tip
from ledger.errors import (
    ClockSkew,
    CodecError,
    HeadMismatch,
    JournalCorrupt,
    LedgerRollback,
    WrongLedger,
)
from ledger.files import atomic_write, read_bounded
from ledger.statement import Domain

FORMAT = "thoracle/witness/v1"
MAX_SKEW = 120
"""Seconds the chain's clock and the hospital's may differ."""
MAX_BYTES = 1 << 26


@dataclass(frozen=True, kw_only=True)
class WitnessRecord:
    """What a witness file says.

    Attributes:
        domain: the federation.
        heads: the head (32 bytes) at every sequence number seen.
        block: number of the newest block seen; told, not compared (a re-created chain may differ).
    """

    domain: Domain
    heads: Mapping[int, bytes]
    block: int

    @property
    def highest(self) -> int:
        """The highest sequence number seen, -1 before any."""
        return max(self.heads, default=-1)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two witness files say of each other.

    Attributes:
        common: how many sequence numbers both have seen.
        agreed: the highest number below any split on which both have the same head, -1 if none.
        split: the first number at which the heads differ, or None.
        heads: both heads at ``split``.
    """

    common: int
    agreed: int
    split: int | None
    heads: tuple[bytes, bytes] | None


class Witness:
    """One hospital's witness of one federation."""

    def __init__(
        self, path: Path, ledger: LedgerReader, *, now: Callable[[], float] = time.time
    ) -> None:
        """Open the witness file at ``path``, or start one on the first `advance`.

        Args:
            path: the file; private to the hospital.
            ledger: the chain as this hospital's node shows it.
            now: the hospital's clock, in Unix seconds.

        Raises:
            WrongLedger: the file is of another federation, contract or chain.
            JournalCorrupt: it cannot be read.
        """
        self.path = Path(path)
        self._ledger = ledger
        self._now = now
        if self.path.exists():
            self.record = read_witness(self.path)
            if self.record.domain != ledger.domain:
                raise WrongLedger(f"{self.path.name} is the witness of another federation")
        else:
            self.record = WitnessRecord(domain=ledger.domain, heads={}, block=0)

    def check(self) -> Tip:
        """Compare the chain with everything seen before, and with the clock; record nothing.

        Returns:
            The chain's tip, which is at or above what was seen.

        Raises:
            LedgerRollback: the chain is behind what was seen.
            HeadMismatch: it shows another head at a number already seen.
            ClockSkew: its clock is more than `MAX_SKEW` seconds from this one's.
        """
        return self._checked()[0]

    def advance(self) -> Tip:
        """Check, then durably remember every head up to the tip (see `check`)."""
        tip, heads = self._checked()
        if heads != self.record.heads or tip.block != self.record.block:
            self.record = WitnessRecord(domain=self.record.domain, heads=heads, block=tip.block)
            atomic_write(self.path, _encode(self.record))
        return tip

    def observe(self, receipt: Receipt) -> None:
        """Compare the clock with the block of one's own transaction, just mined.

        Raises:
            ClockSkew: the block's time is more than `MAX_SKEW` seconds from this clock.
        """
        self._compare_clocks(self._ledger.time(receipt.block))

    def _checked(self) -> tuple[Tip, dict[int, bytes]]:
        tip, seen = self._ledger.tip(), self.record
        if tip.sequence < seen.highest:
            raise LedgerRollback(
                f"the ledger is at record {tip.sequence}, but record {seen.highest} was seen before"
            )
        shown = self._shown(tip)
        for sequence, head in sorted(seen.heads.items()):
            if shown[sequence] != head:
                raise HeadMismatch(
                    f"at record {sequence} the head was 0x{head.hex()}, and now it is "
                    f"0x{shown[sequence].hex()}",
                    expected=head,
                    given=shown[sequence],
                )
        self._compare_clocks(self._ledger.clock())
        return tip, shown

    def _shown(self, tip: Tip) -> dict[int, bytes]:
        """Return the heads that the chain's events show, which must lead to its state."""
        found = {
            event.args["sequence"]: event.args["head"]
            for event in self._ledger.events()
            if event.name == "HeadAdvanced" and event.block <= tip.block
        }
        missing = next((n for n in range(tip.sequence + 1) if n not in found), None)
        if missing is not None:
            raise LedgerRollback(f"the ledger no longer shows its record {missing}")
        if found[tip.sequence] != tip.head:
            raise HeadMismatch(
                f"the ledger's head is 0x{tip.head.hex()}, but its last event says "
                f"0x{found[tip.sequence].hex()}",
                expected=tip.head,
                given=found[tip.sequence],
            )
        return {number: found[number] for number in range(tip.sequence + 1)}

    def _compare_clocks(self, chain: int) -> None:
        skew = chain - self._now()
        if abs(skew) > MAX_SKEW:
            where = "ahead of" if skew > 0 else "behind"
            raise ClockSkew(
                f"the chain's clock is {abs(skew):.0f} s {where} this machine's; "
                f"at most {MAX_SKEW} s are allowed"
            )


def read_witness(path: Path) -> WitnessRecord:
    """Read a witness file.

    Raises:
        JournalCorrupt: it is not one.
        EvidenceMissing: there is no such file.
    """
    try:
        value = parse_json(read_bounded(path, MAX_BYTES), MAX_BYTES)
        return _decode(value)
    except (CodecError, KeyError, ValueError, TypeError) as error:
        raise JournalCorrupt(f"{path.name} is not a witness file: {error}") from None


def compare(first: WitnessRecord, second: WitnessRecord) -> Comparison:
    """Find the first record on which two witnesses were shown different heads.

    Raises:
        WrongLedger: they witness different federations.
    """
    if first.domain != second.domain:
        raise WrongLedger("the two files witness different federations")
    common = sorted(set(first.heads) & set(second.heads))
    agreed = -1
    for number in common:
        ours, theirs = first.heads[number], second.heads[number]
        if ours != theirs:
            return Comparison(common=len(common), agreed=agreed, split=number, heads=(ours, theirs))
        agreed = number
    return Comparison(common=len(common), agreed=agreed, split=None, heads=None)


def _encode(record: WitnessRecord) -> bytes:
    value = {
        "format": FORMAT,
        "federation_id": record.domain.federation_id.hex(),
        "chain_id": record.domain.chain_id,
        "contract": record.domain.contract,
        "block": record.block,
        "heads": [[number, head.hex()] for number, head in sorted(record.heads.items())],
    }
    return canonical_json(value) + b"\n"


def _decode(value: Any) -> WitnessRecord:
    if value["format"] != FORMAT:
        raise ValueError("another format")
    heads: dict[int, bytes] = {}
    for number, text in value["heads"]:
        head = bytes.fromhex(text)
        if type(number) is not int or number in heads or len(head) != 32:
            raise ValueError("a head is malformed or given twice")
        heads[number] = head
    domain = Domain(
        federation_id=bytes.fromhex(value["federation_id"]),
        chain_id=value["chain_id"],
        contract=value["contract"],
    )
    return WitnessRecord(domain=domain, heads=heads, block=int(value["block"]))
