"""Half of the contract in plain Python: hash chain, members, budgets and votes.

Written from the interface's text, not from the contract's code. Every method takes ``(sender, time,
...)`` and returns the events in order, or raises ``Refused`` with the contract's error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from ledger.statement import BASIS, HEAD_TAG, MAX_WEIGHT, Kind, Rules, Unit, bitmap_of

NEVER = 2**32 - 1
MAX_WINDOW = 90 * 86400
ENROL, REMOVE, SET_COORDINATOR = 0, 1, 2
IDLE, COMMITTING, ATTESTING = 0, 1, 2
SUM_VERIFIED, QUORUM_ONLY = 1, 2
RULES_TYPE = "(bytes32,bytes32,uint8,uint16,uint16,uint16,uint16,uint16,uint32)"

Events = list[tuple[str, dict[str, Any]]]


class Refused(Exception):
    """What the contract must revert with."""

    def __init__(self, name: str, *arguments: object) -> None:
        super().__init__(f"{name}{arguments}")
        self.name = name
        self.arguments = arguments


@dataclass
class Hospital:
    """One seat."""

    seat: int
    registered: bool = False
    weight: int = 0
    cap: int = 0
    spent: int = 0
    active_from: int = NEVER
    active_until: int = NEVER
    commit_hash: bytes = bytes(32)


@dataclass
class LiveRound:
    """The live or last round; answers and commits are sets of addresses."""

    number: int = 0
    phase: int = IDLE
    opened_at: int = 0
    commit_deadline: int = 0
    attest_deadline: int = 0
    attest_window: int = 0
    weight_cap: int = 0
    norm_bound: int = 0
    roster: frozenset[str] = frozenset()
    roster_weight: int = 0
    accepted_weight: int = 0
    committed: set[str] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)
    attested: set[str] = field(default_factory=set)
    against: set[str] = field(default_factory=set)
    open_head: bytes = bytes(32)
    proposed_head: bytes = bytes(32)
    proposed_model: bytes = bytes(32)


class HeadOracle:
    """The hash chain."""

    def __init__(self) -> None:
        self.head = bytes(32)
        self.sequence = -1

    def advance(self, kind: Kind, types: list[str], values: list[Any]) -> Events:
        """Append a record; return its ``HeadAdvanced``."""
        record = keccak(encode(types, values))
        self.sequence += 1
        fields = [HEAD_TAG, self.head, self.sequence, int(kind), record]
        self.head = keccak(encode(["bytes32", "bytes32", "uint64", "uint8", "bytes32"], fields))
        arguments = {
            "sequence": self.sequence,
            "kind": int(kind),
            "record": record,
            "head": self.head,
        }
        return [("HeadAdvanced", arguments)]


class MemberOracle(HeadOracle):
    """Members, budgets and votes."""

    def __init__(
        self, rules: Rules, chain_id: int, contract: str, coordinator: str, founders: list[str]
    ) -> None:
        super().__init__()
        self.rules = rules
        self.coordinator = coordinator
        self.model = rules.initial_model
        self.hospitals = {name: Hospital(seat) for seat, name in enumerate(founders)}
        self.epoch = 0
        self.ballots: dict[tuple[int, str], set[str]] = {}
        self.round = LiveRound()
        self.genesis = self.advance(
            Kind.DEPLOYED,
            ["uint256", "address", RULES_TYPE, "address", "address[]"],
            [chain_id, contract, rules.abi(), coordinator, founders],
        )

    # ---- membership ----

    def register(self, sender: str, _time: int, cap: int, opening: int, weight: int) -> Events:
        """See ``IAggregationLedger.register``."""
        hospital = self._enrolled(sender)
        if hospital.active_until != NEVER:
            raise Refused("MemberRevoked", sender, hospital.active_until)
        if hospital.registered:
            raise Refused("AlreadyRegistered", sender)
        if opening > cap:
            raise Refused("BudgetExceeded", cap, opening)
        if opening and self.rules.privacy_unit is Unit.NONE:
            raise Refused("InvalidArgument", "openingEpsilon")
        self._check_weight(weight)
        hospital.registered = True
        hospital.cap, hospital.spent, hospital.weight = cap, opening, weight
        hospital.active_from = self.round.number + 1
        values = [sender, hospital.seat, cap, opening, weight, hospital.active_from]
        head = self.advance(
            Kind.REGISTERED, ["address", "uint8", "uint40", "uint40", "uint24", "uint32"], values
        )
        names = ("hospital", "seat", "cap", "spent", "weight", "activeFrom")
        return [*head, ("Registered", dict(zip(names, values, strict=True)))]

    def lowerCap(self, sender: str, _time: int, cap: int) -> Events:  # noqa: N802
        """See ``IAggregationLedger.lowerCap``."""
        hospital = self._standing(sender)
        if cap >= hospital.cap:
            raise Refused("CapMayOnlyFall", hospital.cap, cap)
        hospital.cap = cap
        head = self.advance(Kind.CAP_LOWERED, ["address", "uint40"], [sender, cap])
        return [*head, ("CapLowered", {"hospital": sender, "cap": cap})]

    def setWeight(self, sender: str, _time: int, weight: int) -> Events:  # noqa: N802
        """See ``IAggregationLedger.setWeight``."""
        hospital = self._standing(sender)
        if self.round.phase != IDLE:
            raise Refused("RoundLive", self.round.number)
        self._check_weight(weight)
        hospital.weight = weight
        head = self.advance(Kind.WEIGHT_SET, ["address", "uint24"], [sender, weight])
        return [*head, ("WeightSet", {"hospital": sender, "weight": weight})]

    def vote(self, sender: str, _time: int, kind: int, subject: str) -> Events:
        """See ``IAggregationLedger.vote``."""
        hospital = self._enrolled(sender)
        if hospital.active_until != NEVER:
            raise Refused("MemberRevoked", sender, hospital.active_until)
        self._check_subject(kind, subject)
        voters = self.ballots.setdefault((kind, subject), set())
        if sender in voters:
            raise Refused("AlreadyVoted", sender)
        voters.add(sender)
        arguments = {
            "hospital": sender,
            "kind": kind,
            "subject": subject,
            "epoch": self.epoch,
            "votes": self._bitmap(voters),
        }
        return [("Voted", arguments)]

    def enact(self, _sender: str, _time: int, kind: int, subject: str) -> Events:
        """See ``IAggregationLedger.enact``."""
        self._check_subject(kind, subject)
        voters = self.ballots.get((kind, subject), set())
        electorate = [h for h in self.hospitals.values() if h.active_until == NEVER]
        needed = len(electorate) * self.rules.vote_share // BASIS + 1
        if len(voters) < needed:
            raise Refused("VotesMissing", len(voters), needed)
        from_round = self.round.number + 1
        if kind == ENROL:
            self.hospitals[subject] = Hospital(len(self.hospitals))
        elif kind == REMOVE:
            self.hospitals[subject].active_until = from_round
        else:
            from_round = self.round.number if self.round.phase != IDLE else from_round
            self.coordinator = subject
        values = [kind, subject, self.epoch, from_round, self._bitmap(voters)]
        head = self.advance(
            Kind.ENACTED, ["uint8", "address", "uint32", "uint32", "uint64"], values
        )
        names = ("kind", "subject", "epoch", "fromRound")
        self.epoch += 1
        self.ballots = {}
        return [*head, ("Enacted", dict(zip(names, values[:4], strict=True)))]

    # ---- rules behind several calls ----

    def _enrolled(self, name: str) -> Hospital:
        if name not in self.hospitals:
            raise Refused("NotMember", name)
        return self.hospitals[name]

    def _standing(self, name: str) -> Hospital:
        hospital = self._enrolled(name)
        if hospital.active_until != NEVER:
            raise Refused("MemberRevoked", name, hospital.active_until)
        if not hospital.registered:
            raise Refused("NotMember", name)
        return hospital

    def _check_weight(self, weight: int) -> None:
        if not 1 <= weight <= MAX_WEIGHT:
            raise Refused("WeightOverflow", weight, MAX_WEIGHT)

    def _check_subject(self, kind: int, subject: str) -> None:
        if int(subject, 16) == 0:
            raise Refused("InvalidArgument", "subject")
        if kind == ENROL:
            if subject in self.hospitals:
                raise Refused("AlreadyMember", subject)
            if len(self.hospitals) == 64:
                raise Refused("InvalidArgument", "seats")
        elif kind == REMOVE:
            hospital = self._enrolled(subject)
            if hospital.active_until != NEVER:
                raise Refused("MemberRevoked", subject, hospital.active_until)

    def _seat(self, name: str) -> int:
        return self.hospitals[name].seat

    def _by_seat(self, names: set[str]) -> list[str]:
        return sorted(names, key=self._seat)

    def _bitmap(self, names: set[str] | frozenset[str]) -> int:
        return bitmap_of([self._seat(name) for name in names])
