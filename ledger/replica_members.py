"""Members, weights, caps and ballots, rebuilt from events: an auditor's own ``Membership.sol``."""

from __future__ import annotations

from dataclasses import dataclass, field

from ledger.errors import (
    AlreadyMember,
    AlreadyRegistered,
    AlreadyVoted,
    BudgetExceeded,
    CapMayOnlyFall,
    EventMismatch,
    MemberRevoked,
    NotMember,
    RoundLive,
    ThoracleError,
    VotesMissing,
    WeightOverflow,
)
from ledger.facts import Event
from ledger.findings import Book
from ledger.replica_head import HeadChain
from ledger.statement import BASIS, MAX_SEATS, MAX_WEIGHT, Ballot, Kind, Rules, Unit

NEVER = 2**32 - 1


@dataclass(kw_only=True)
class Seat:
    """One hospital's standing; epsilon in micro-units, activity in round numbers."""

    index: int
    hospital: str
    registered: bool = False
    weight: int = 0
    cap: int = 0
    opening: int = 0
    spent: int = 0
    active_from: int = NEVER
    active_until: int = NEVER


@dataclass(kw_only=True)
class Members:
    """The roll. ``last_round`` and ``live`` are kept by whoever follows the rounds."""

    book: Book
    heads: HeadChain
    rules: Rules
    coordinator: str
    seats: dict[str, Seat] = field(default_factory=dict)
    electorate: int = 0
    epoch: int = 0
    votes: dict[tuple[int, str, int], int] = field(default_factory=dict)
    last_round: int = 0
    live: bool = False

    def enrol(self, hospital: str) -> None:
        """Seat an address for good; the seat is the next free one."""
        self.book.check(
            hospital not in self.seats and len(self.seats) < MAX_SEATS,
            "enrolled once",
            f"{hospital} was enrolled a second time, which would reset its budget",
            error=AlreadyMember,
            hospital=hospital,
        )
        index = len(self.seats)
        self.seats[hospital] = Seat(index=index, hospital=hospital)
        self.electorate |= 1 << index

    def by_index(self, index: int) -> Seat | None:
        """Return the seat of this number."""
        return next((seat for seat in self.seats.values() if seat.index == index), None)

    def own(self, event: Event, *, standing: bool = True) -> Seat | None:
        """Return the sender's seat, having checked that the sender is who the event names."""
        who = str(event.args["hospital"])
        self._check(
            event.sender == who,
            "own transaction",
            f"{event.name} of {who} was sent by {event.sender}",
            NotMember,
            who,
        )
        seat = self.seats.get(who)
        if not self._check(
            seat is not None, "is a member", f"{who} was never enrolled", NotMember, who
        ):
            return None
        if standing and seat is not None:
            self._check(
                seat.registered and seat.active_until == NEVER,
                "in standing",
                f"{event.name} by {who}, who is not a registered member or was removed",
                MemberRevoked,
                who,
            )
        return seat

    def _check(
        self, holds: bool, check: str, sentence: str, error: type[ThoracleError], who: str
    ) -> bool:
        return self.book.check(holds, check, sentence, error=error, hospital=who)

    def registered(self, event: Event) -> None:
        """``Registered``: once, by its own transaction, opening balance within the cap."""
        seat, args = self.own(event, standing=False), event.args
        if seat is None:
            return
        who = seat.hospital
        fresh = not seat.registered and seat.active_until == NEVER
        self._check(fresh, "registered once", f"{who} registered twice", AlreadyRegistered, who)
        opening = args["spent"]
        private = self.rules.privacy_unit != Unit.NONE
        self._check(
            opening <= args["cap"] and (private or opening == 0),
            "opening balance",
            f"{who} brought an opening balance of {opening} micro-epsilon over its cap",
            BudgetExceeded,
            who,
        )
        self._weight(who, args["weight"])
        self.book.equal(
            (seat.index, self.last_round + 1),
            (args["seat"], args["activeFrom"]),
            "seat and first round",
            f"{who} was given another seat or first round than the roll says",
            error=EventMismatch,
            hospital=who,
        )
        seat.registered, seat.weight, seat.cap = True, args["weight"], args["cap"]
        seat.opening = seat.spent = opening
        seat.active_from = self.last_round + 1
        values = [who, seat.index, seat.cap, opening, seat.weight, seat.active_from]
        self.heads.record(event, Kind.REGISTERED, ["address", *["uint256"] * 5], values)

    def _weight(self, who: str, weight: int) -> None:
        sentence = f"{who} registered the weight {weight}"
        self._check(1 <= weight <= MAX_WEIGHT, "weight range", sentence, WeightOverflow, who)

    def cap_lowered(self, event: Event) -> None:
        """``CapLowered``: a cap only falls."""
        seat = self.own(event)
        if seat is None:
            return
        cap = event.args["cap"]
        self.book.check(
            cap < seat.cap,
            "cap only falls",
            f"{seat.hospital} raised its privacy cap",
            expected=f"below {seat.cap}",
            found=cap,
            error=CapMayOnlyFall,
            hospital=seat.hospital,
        )
        seat.cap = cap
        self.heads.record(event, Kind.CAP_LOWERED, ["address", "uint256"], [seat.hospital, cap])

    def weight_set(self, event: Event) -> None:
        """``WeightSet``: between rounds only."""
        seat = self.own(event)
        if seat is None:
            return
        sentence = f"{seat.hospital} changed its weight while round {self.last_round} was live"
        self._check(not self.live, "weight between rounds", sentence, RoundLive, seat.hospital)
        seat.weight = event.args["weight"]
        self._weight(seat.hospital, seat.weight)
        values = [seat.hospital, seat.weight]
        self.heads.record(event, Kind.WEIGHT_SET, ["address", "uint256"], values)

    def voted(self, event: Event) -> None:
        """``Voted``: one vote a member and ballot, counted in a bitmap of this epoch."""
        seat, args = self.own(event, standing=False), event.args
        if seat is None:
            return
        who, bit = seat.hospital, 1 << seat.index
        key = (int(args["kind"]), str(args["subject"]), self.epoch)
        before = self.votes.get(key, 0)
        self._check(
            bool(self.electorate & bit), "in standing", f"{who} was removed", MemberRevoked, who
        )
        self._check(not before & bit, "votes once", f"{who} voted twice", AlreadyVoted, who)
        self.votes[key] = before | bit
        self.book.equal(
            (self.epoch, before | bit),
            (args["epoch"], args["votes"]),
            "vote bitmap",
            f"the votes recorded in block {event.block} are not the ones that were cast",
            error=EventMismatch,
            hospital=who,
        )

    def enacted(self, event: Event) -> None:
        """``Enacted``: enough votes of this epoch; membership changes from the next round."""
        kind, subject = Ballot(event.args["kind"]), str(event.args["subject"])
        votes = self.votes.get((int(kind), subject, self.epoch), 0)
        needed = self.electorate.bit_count() * self.rules.vote_share // BASIS + 1
        self.book.check(
            votes.bit_count() >= needed,
            "votes suffice",
            f"a ballot on {subject} was enacted with too few votes",
            expected=f"at least {needed}",
            found=votes.bit_count(),
            error=VotesMissing,
            hospital=subject,
        )
        start, epoch = self.last_round + 1, self.epoch
        self.epoch += 1
        if kind == Ballot.ENROL:
            self.enrol(subject)
        elif kind == Ballot.REMOVE and subject in self.seats:
            seat = self.seats[subject]
            self.electorate &= ~(1 << seat.index)
            seat.active_until = start
        elif kind == Ballot.SET_COORDINATOR:
            start -= int(self.live)
            self.coordinator = subject
        self.book.equal(
            (epoch, start),
            (event.args["epoch"], event.args["fromRound"]),
            "effect from",
            f"the ballot on {subject} took effect in another epoch or round",
            error=EventMismatch,
            hospital=subject,
        )
        values = [int(kind), subject, epoch, start, votes]
        types = ["uint256", "address", "uint256", "uint256", "uint256"]
        self.heads.record(event, Kind.ENACTED, types, values)

    def muster(self) -> tuple[int, int, int]:
        """Return (count, effective weight, weight cap) of the active members, as at opening."""
        active = [s for s in self.seats.values() if s.registered and self.electorate >> s.index & 1]
        total = sum(seat.weight for seat in active)
        cap = min(max(total * self.rules.share_cap // BASIS, 1), MAX_WEIGHT)
        return len(active), sum(min(seat.weight, cap) for seat in active), cap
