"""The head that the events of a node lead to, and one round, read from those very events.

A hospital reads everything from events, and a node could show it other bytes than the contract
emitted: with another hospital's probes forged, a wrong sum would seem to agree with the totals. So
every record is hashed again (`HeadChain.sol`), from the deployment on; the head that comes out is
the hospital's own. It names that one to the contract when it commits and when it attests: shown
anything else than what happened, heads included, it names another head and is refused, and what it
signed shows what it saw.

Commits and votes stand in no record of their own: proposals, aborts and enactments fold them in. A
commit's seat and weight stand in none at all, but follow from its hospital's registration. Answers
bind nobody here. Hashing takes about 0.2 ms for a record or a commit, once.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from ledger.chain_events import commit_of, opening_of, proposal_of
from ledger.chain_types import LedgerEvent
from ledger.errors import HeadMismatch, Unconfirmed
from ledger.statement import HEAD_TAG, Commit, Domain, Kind, Opening, Proposal

_RECORDS: Final[Mapping[str, tuple[Kind, str]]] = {
    "Deployed": (Kind.DEPLOYED, "chainId contract rules coordinator founders"),
    "Registered": (Kind.REGISTERED, "hospital seat cap spent weight activeFrom"),
    "CapLowered": (Kind.CAP_LOWERED, "hospital cap"),
    "WeightSet": (Kind.WEIGHT_SET, "hospital weight"),
    "Enacted": (Kind.ENACTED, "kind subject epoch fromRound votes"),
    "RoundOpened": (
        Kind.OPENED,
        (
            "round baseModel configDigest keyDigest normBound commitDeadline attestWindow "
            "weightCap rosterCount rosterWeight"
        ),
    ),
    "Proposed": (
        Kind.PROPOSED,
        (
            "round sumDigest modelDigest beacon accepted refused acceptedWeight commitDeadline "
            "attestDeadline reasons probes totals commitsDigest"
        ),
    ),
    "Finalised": (Kind.FINALISED, "round outcome model attested against unattestedWeight"),
    "RoundAborted": (
        Kind.ABORTED,
        "round phase commitDeadline committed attested against commitsDigest",
    ),
}
"""The fields of each event's record, in the interface's order; the ABI pads all numbers alike."""
_TYPES: Final[Mapping[str, str]] = {
    "rules": "(bytes32,bytes32,uint8,uint16,uint16,uint16,uint16,uint16,uint32)",
    "founders": "address[]",
    **dict.fromkeys(("contract", "coordinator", "hospital", "subject"), "address"),
    **dict.fromkeys(("baseModel", "configDigest", "keyDigest", "model"), "bytes32"),
    **dict.fromkeys(("sumDigest", "modelDigest", "beacon", "commitsDigest"), "bytes32"),
    **dict.fromkeys(("reasons", "probes", "totals"), "bytes32"),
}
"""The type of each field; every other one is a number."""
_HASHED: Final = frozenset({"reasons", "probes", "totals"})
"""Fields of any length, which a record holds as their keccak256."""


@dataclass(frozen=True, kw_only=True)
class ShownProposal:
    """A round with its proposal, as events showed it.

    Attributes:
        opening: how it was opened.
        commits: by hospital, in the chain's order.
        proposal: the one proposal.
        head: the head right after it, computed from every event up to it.
    """

    opening: Opening
    commits: Mapping[str, Commit]
    proposal: Proposal
    head: bytes


class History:
    """A federation's rounds as a node shows them; what was hashed once is not hashed again."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._seen: list[LedgerEvent] = []
        self._follower = _Follower(self._domain)
        self._openings: dict[int, Opening] = {}
        self._proposals: dict[int, ShownProposal] = {}

    def opening(self, events: Sequence[LedgerEvent], number: int) -> Opening:
        """Return how round ``number`` was opened; every event is hashed.

        Args:
            events: all of the contract's, in the chain's order.
            number: the round.

        Raises:
            HeadMismatch: the events do not lead to the heads they announce.
            InvalidStatement: they do, but no contract of ours emits such events.
            Unconfirmed: they show no such opening.
        """
        with self._lock:
            self._follow(events)
            found = self._openings.get(number)
        if found is None:
            raise Unconfirmed(f"round {number} is not open on the chain")
        return found

    def proposal(self, events: Sequence[LedgerEvent], number: int) -> ShownProposal | None:
        """Return round ``number`` with its proposal, None if there is none (see `opening`)."""
        with self._lock:
            self._follow(events)
            return self._proposals.get(number)

    def _follow(self, events: Sequence[LedgerEvent]) -> None:
        known = len(self._seen)
        if list(events[:known]) != self._seen:  # another history: a reorganisation, or a lie
            self._clear()
            known = 0
        try:
            for event in events[known:]:
                self._follower.take(event)
                self._keep(event)
                self._seen.append(event)
        except Exception:
            self._clear()  # it stopped half-way
            raise

    def _keep(self, event: LedgerEvent) -> None:
        opening = self._follower.opening
        if opening is not None and event.name == "RoundOpened":
            self._openings[opening.round] = opening
        elif event.name == "Proposed":
            if opening is None or opening.round != event.args["round"]:
                raise HeadMismatch("a round is said to be proposed that was not open")
            self._proposals[opening.round] = ShownProposal(
                opening=opening,
                commits=dict(self._follower.commits),
                proposal=proposal_of(event),
                head=self._follower.head,
            )


class _Follower:
    """Follows events from the deployment on, and holds the latest round as they show it."""

    def __init__(self, domain: Domain) -> None:
        self.head = bytes(32)
        self.opening: Opening | None = None
        self.commits: dict[str, Commit] = {}
        self._domain = domain
        self._sequence = -1
        self._announced: LedgerEvent | None = None
        self._deadline = 0
        self._votes: dict[tuple[int, str, int], int] = {}
        self._seats: dict[str, int] = {}
        self._weights: dict[str, int] = {}

    def take(self, event: LedgerEvent) -> None:
        """Follow the next event.

        Raises:
            HeadMismatch: a record and the head announced for it do not go together.
        """
        announced, self._announced = self._announced, None
        if (event.name in _RECORDS) != (announced is not None):
            raise HeadMismatch(
                f"{event.name} in block {event.block} has no head, or a head no record"
            )
        if announced is not None:
            self._record(event, announced)
        self._note(event)

    def _record(self, event: LedgerEvent, announced: LedgerEvent) -> None:
        kind, names = _RECORDS[event.name]
        folded = self._folded(event)
        if any(event.args.get(name, value) != value for name, value in folded.items()):
            raise HeadMismatch(f"{event.name} in block {event.block} misstates what it folds in")
        values = {**event.args, **folded}
        values |= {name: keccak(bytes(values[name])) for name in _HASHED & values.keys()}
        if event.name == "Deployed":
            values |= {"rules": values["rules"].abi(), "founders": list(values["founders"])}
        types = [_TYPES.get(name, "uint256") for name in names.split()]
        record = keccak(encode(types, [values[name] for name in names.split()]))
        self._sequence += 1
        fields = ["bytes32", "bytes32", "uint256", "uint256", "bytes32"]
        head = keccak(encode(fields, [HEAD_TAG, self.head, self._sequence, int(kind), record]))
        said = tuple(announced.args[name] for name in ("sequence", "kind", "record", "head"))
        if said != (self._sequence, int(kind), record, head):
            raise HeadMismatch(
                f"{event.name} in block {event.block} is not the record that its head stands for",
                expected=announced.args["head"],
                given=head,
            )
        self.head = head

    def _folded(self, event: LedgerEvent) -> dict[str, Any]:
        """Return those fields of a record that stand in earlier events, or in none."""
        args = event.args
        if event.name == "Deployed":
            return {"chainId": self._domain.chain_id, "contract": self._domain.contract}
        if event.name == "Enacted":
            ballot = (args["kind"], args["subject"], args["epoch"])
            return {"votes": self._votes.get(ballot, 0)}
        if event.name in ("Proposed", "RoundAborted"):
            commits = sorted(self.commits.values(), key=lambda commit: commit.seat)
            hashes = (commit.commit_hash(self._domain.federation_id) for commit in commits)
            return {"commitDeadline": self._deadline, "commitsDigest": keccak(b"".join(hashes))}
        return {}

    def _note(self, event: LedgerEvent) -> None:
        args, name = event.args, event.name
        if name == "HeadAdvanced":
            self._announced = event
        elif name == "Voted":
            self._votes[(args["kind"], args["subject"], args["epoch"])] = args["votes"]
        elif name in ("Registered", "WeightSet"):
            self._weights[args["hospital"]] = args["weight"]
            if name == "Registered":
                self._seats[args["hospital"]] = args["seat"]
        elif name == "RoundOpened":
            self._open(opening_of(event))
        elif self.opening is not None and args.get("round") == self.opening.round:
            if name == "CommitsClosed":
                self._deadline = args["closedAt"]
            elif name == "Committed":
                self._commit(commit_of(event), self.opening)

    def _open(self, opening: Opening) -> None:
        if opening.open_head != self.head:
            raise HeadMismatch(
                f"round {opening.round} is said to open at another head than its record leads to",
                expected=self.head,
                given=opening.open_head,
            )
        self.opening, self._deadline, self.commits = opening, opening.commit_deadline, {}

    def _commit(self, commit: Commit, opening: Opening) -> None:
        who = commit.hospital
        standing = (self._seats.get(who), min(self._weights.get(who, 0), opening.weight_cap))
        if (commit.seat, commit.weight) != standing:
            raise HeadMismatch(f"the commit of {who} shows a seat or weight it does not have")
        self.commits[who] = commit
