"""The head chain, rebuilt from events: an auditor's own copy of ``HeadChain.sol``.

Every record but commits and answers advances the head; the proposal and the closing record fold
those in. `HeadAdvanced` announces a record, the record's own event follows in the same
transaction; both must be there, in this order, and hash to what they say.
"""

from __future__ import annotations

from collections.abc import Sequence

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from ledger.errors import EventMismatch, HeadMismatch
from ledger.facts import Event
from ledger.findings import Book
from ledger.statement import HEAD_TAG, Kind


def word_hash(types: Sequence[str], values: Sequence[object]) -> bytes:
    """Return ``keccak256(abi.encode(...))``."""
    return keccak(encode(list(types), list(values)))


class HeadChain:
    """Follows the head; ``head`` is zero before the first record."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.head = bytes(32)
        self.sequence = -1
        self._announced: Event | None = None

    def announced(self, event: Event) -> None:
        """Take a ``HeadAdvanced``: the next sequence number, hashed onto the last head."""
        self.settled(event.block)
        args = event.args
        self.sequence += 1
        self.book.equal(
            self.sequence,
            args["sequence"],
            "head sequence",
            f"block {event.block} records another sequence number than the next one",
            error=EventMismatch,
        )
        expected = word_hash(
            ["bytes32", "bytes32", "uint64", "uint8", "bytes32"],
            [HEAD_TAG, self.head, self.sequence, args["kind"], args["record"]],
        )
        self.book.equal(
            expected,
            args["head"],
            "head chain",
            f"the head recorded in block {event.block} does not follow from the one before it",
            error=HeadMismatch,
        )
        self.head = args["head"]
        self._announced = event

    def record(
        self,
        event: Event,
        kind: Kind,
        types: Sequence[str],
        values: Sequence[object],
        round: int = 0,  # noqa: A002 - the protocol's word
    ) -> None:
        """Match a record's own event with its announcement: same transaction, kind and hash."""
        before, self._announced = self._announced, None
        same = before is not None and before.transaction == event.transaction
        if not self.book.check(
            same,
            "record announced",
            f"{event.name} in block {event.block} was not announced by the head chain",
            error=EventMismatch,
            round=round,
        ):
            return
        assert before is not None  # noqa: S101 - narrows the type
        self.book.equal(
            (int(kind), word_hash(types, values)),
            (before.args["kind"], before.args["record"]),
            "record hash",
            f"the head chain records other fields than {event.name} in block {event.block}",
            error=EventMismatch,
            round=round,
        )

    def settled(self, block: int) -> None:
        """Check that no announcement is left without its record's event."""
        if self._announced is not None:
            self.book.check(
                False,
                "record announced",
                f"a record announced before block {block} has no event of its own",
                error=EventMismatch,
            )
            self._announced = None
