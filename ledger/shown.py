"""Whether the events a node shows are those the ledger's head stands for.

A hospital reads rounds from events, and a node could show it other bytes than the contract
emitted: with another hospital's probes forged, a wrong sum would seem to agree with the totals. The
head chain folds every record in (`HeadChain.sol`), so a record that is hashed again and led to the
shown head binds the events to the head, which witnesses compare and the next commit names.
"""

from __future__ import annotations

from collections.abc import Sequence

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from ledger.chain_events import commit_of, of_round, opening_of
from ledger.chain_types import LedgerEvent
from ledger.errors import HeadMismatch
from ledger.statement import HEAD_TAG, Kind

_OPENED = ["uint256", *["bytes32"] * 3, *["uint256"] * 6]
_PROPOSED = ["uint256", *["bytes32"] * 3, *["uint256"] * 5, *["bytes32"] * 4]


def check_opened(events: Sequence[LedgerEvent], number: int) -> None:
    """Check that the opening of round ``number`` is the one its head stands for.

    Raises:
        HeadMismatch: it is not.
    """
    for event in of_round(events, number, "RoundOpened"):
        o = opening_of(event)
        values = [o.round, o.base_model, o.config_digest, o.key_digest, o.norm_bound]
        values += [o.commit_deadline, o.attest_window, o.weight_cap, o.roster_count]
        head = _led_to(
            events, event, Kind.OPENED, keccak(encode(_OPENED, [*values, o.roster_weight]))
        )
        if head != o.open_head:
            raise HeadMismatch(
                f"round {number} is said to open at another head than its record leads to",
                expected=head,
                given=o.open_head,
            )


def check_proposed(events: Sequence[LedgerEvent], number: int, federation_id: bytes) -> None:
    """Check that the proposal and the commits of round ``number`` are those its head stands for.

    Raises:
        HeadMismatch: they are not.
    """
    for event in of_round(events, number, "Proposed"):
        args = event.args
        deadline = opening_of(of_round(events, number, "RoundOpened")[0]).commit_deadline
        for closed in of_round(events, number, "CommitsClosed"):
            deadline = closed.args["closedAt"]
        commits = sorted(
            (commit_of(e) for e in of_round(events, number, "Committed")), key=lambda c: c.seat
        )
        names = ("round", "sumDigest", "modelDigest", "beacon", "accepted", "refused")
        values = [
            *(args[name] for name in (*names, "acceptedWeight")),
            *(deadline, args["attestDeadline"]),
            *(keccak(bytes(args[name])) for name in ("reasons", "probes", "totals")),
            keccak(b"".join(commit.commit_hash(federation_id) for commit in commits)),
        ]
        _led_to(events, event, Kind.PROPOSED, keccak(encode(_PROPOSED, values)))


def _led_to(events: Sequence[LedgerEvent], event: LedgerEvent, kind: Kind, record: bytes) -> bytes:
    """Return the head that a record leads to, which must be the one announced before it."""
    heads = [e for e in events if e.name == "HeadAdvanced"]
    place = (event.block, event.log_index - 1)
    shown = next((e for e in heads if (e.block, e.log_index) == place), None)
    if shown is None:
        raise HeadMismatch(f"no head was announced for {event.name} in block {event.block}")
    sequence = shown.args["sequence"]
    parent = next((e.args["head"] for e in heads if e.args["sequence"] == sequence - 1), bytes(32))
    fields = ["bytes32", "bytes32", "uint256", "uint256", "bytes32"]
    head = keccak(encode(fields, [HEAD_TAG, parent, sequence, int(kind), record]))
    if head != shown.args["head"]:
        raise HeadMismatch(
            f"{event.name} in block {event.block} is not the record that its head stands for",
            expected=shown.args["head"],
            given=head,
        )
    return head
