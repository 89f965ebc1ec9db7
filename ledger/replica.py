"""The contract's state machine a second time, in Python, driven by its events alone.

An auditor who only re-executes the contract's bytecode trusts that bytecode; this copy is written
from the protocol, so that a fault in either shows as a difference between the two. It also gives
the later levels their facts: who committed what, what was proposed, how each round ended.

Order: ``Deployed`` first, then any event whose turn it is; an event that cannot be followed at all
(another contract's, or before the deployment) is a finding and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.errors import EventMismatch, InvalidStatement
from ledger.facts import Event
from ledger.findings import Book
from ledger.replica_closings import ClosingPhase
from ledger.replica_commits import CommitPhase
from ledger.replica_head import HeadChain
from ledger.replica_members import Members
from ledger.replica_proposals import ProposalPhase
from ledger.replica_round import RoundHistory
from ledger.statement import Domain, Kind, Rules, Unit


@dataclass(kw_only=True)
class Rounds(CommitPhase, ProposalPhase, ClosingPhase):
    """Follows rounds through all their phases."""


@dataclass(frozen=True, kw_only=True)
class History:
    """What the events rebuild.

    Attributes:
        rules: the federation's rules.
        coordinator: at the end; ``founding_coordinator`` at deployment.
        members: roll, budgets and weights at the end.
        rounds: every round, in order.
        head: hash of the last record; ``sequence`` its number.
        model: digest of the last final model.
    """

    rules: Rules
    founding_coordinator: str
    founders: tuple[str, ...]
    members: Members
    rounds: tuple[RoundHistory, ...]
    head: bytes
    sequence: int
    model: bytes

    @property
    def coordinator(self) -> str:
        """The coordinator at the end."""
        return self.members.coordinator


_RULES = {
    "federation_id": "federationId",
    "initial_model": "initialModel",
    "min_accepted_of_commits": "minAcceptedOfCommits",
    "min_accepted_of_members": "minAcceptedOfMembers",
    "max_silent_share": "maxSilentShare",
    "share_cap": "shareCap",
    "vote_share": "voteShare",
    "min_commit_window": "minCommitWindow",
}


def _rules(raw: Mapping[str, Any]) -> Rules:
    values = {key: raw[name] for key, name in _RULES.items()}
    return Rules(privacy_unit=Unit(raw["privacyUnit"]), **values)


def _deploy(
    event: Event, book: Book, heads: HeadChain, domain: Domain
) -> tuple[Members, Rounds, tuple[str, ...]]:
    args = event.args
    rules = _rules(args["rules"])
    members = Members(book=book, heads=heads, rules=rules, coordinator=str(args["coordinator"]))
    founders = tuple(args["founders"])
    for founder in founders:
        members.enrol(founder)
    types = [
        "uint256",
        "address",
        "(bytes32,bytes32,uint8,uint16,uint16,uint16,uint16,uint16,uint32)",
        "address",
        "address[]",
    ]
    values = [domain.chain_id, domain.contract, rules.abi(), members.coordinator, list(founders)]
    heads.record(event, Kind.DEPLOYED, types, values)
    rounds = Rounds(book=book, heads=heads, members=members, rules=rules, model=rules.initial_model)
    return members, rounds, founders


def _handlers(members: Members, rounds: Rounds) -> dict[str, Callable[[Event], None]]:
    return {
        "Registered": members.registered,
        "CapLowered": members.cap_lowered,
        "WeightSet": members.weight_set,
        "Voted": members.voted,
        "Enacted": members.enacted,
        "RoundOpened": rounds.opened,
        "CommitsClosed": rounds.commits_closed,
        "Committed": rounds.committed,
        "Proposed": rounds.proposed,
        "Attested": rounds.answered,
        "Dissented": rounds.answered,
        "Contested": rounds.answered,
        "Finalised": rounds.finalised,
        "RoundAborted": rounds.aborted,
    }


def replay_events(events: Sequence[Event], domain: Domain, book: Book) -> History | None:
    """Follow the events from the deployment on; return what they rebuild.

    Args:
        events: in chain order.
        domain: the federation they claim to be of (bound into the first record).
        book: takes every check, and every finding by the contract's own error names.

    Returns:
        None where not even a deployment can be followed.
    """
    heads = HeadChain(book)
    handlers: dict[str, Callable[[Event], None]] = {"HeadAdvanced": heads.announced}
    members: Members | None = None
    rounds: Rounds | None = None
    founders: tuple[str, ...] = ()
    coordinator = ""
    for event in events:
        try:
            if event.name == "Deployed" and members is None:
                members, rounds, founders = _deploy(event, book, heads, domain)
                handlers |= _handlers(members, rounds)
                coordinator = members.coordinator
            elif event.name in handlers:
                handlers[event.name](event)
            else:
                _unexpected(book, event, "has no place here")
        except (InvalidStatement, KeyError, ValueError, TypeError, OverflowError) as error:
            _unexpected(book, event, f"cannot be followed: {error}")
    heads.settled(events[-1].block if events else 0)
    if members is None or rounds is None:
        _unexpected(book, None, "is missing: there is no deployment to follow")
        return None
    return History(
        rules=members.rules,
        founding_coordinator=coordinator,
        founders=founders,
        members=members,
        rounds=tuple(rounds.rounds),
        head=heads.head,
        sequence=heads.sequence,
        model=rounds.model,
    )


def _unexpected(book: Book, event: Event | None, why: str) -> None:
    name = f"{event.name} in block {event.block}" if event else "Deployed"
    book.check(False, "event order", f"{name} {why}", error=EventMismatch)
