"""Opening and commits, rebuilt from events: an auditor's own copy of the contract's first half.

Nothing is taken over that can be computed: windows from block times, weights from the roll.
"""

from __future__ import annotations

from dataclasses import dataclass

from ledger.errors import (
    AlreadyCommitted,
    BudgetExceeded,
    BudgetNotCharged,
    CommitWindowClosed,
    CommitWindowOpen,
    InvalidArgument,
    NotMember,
    ParentMismatch,
    RoundLive,
)
from ledger.facts import Event
from ledger.replica_round import RoundBase, RoundHistory
from ledger.statement import (
    Commit,
    Kind,
    Mechanism,
    Opening,
    Phase,
    Unit,
)

_OPENED = (
    "round",
    "baseModel",
    "configDigest",
    "keyDigest",
    "normBound",
    "commitDeadline",
    "attestWindow",
    "weightCap",
    "rosterCount",
    "rosterWeight",
)


@dataclass(kw_only=True)
class CommitPhase(RoundBase):
    """Follows ``RoundOpened``, ``CommitsClosed`` and ``Committed``."""

    def opened(self, event: Event) -> None:
        """``RoundOpened``: one live round, on the last final model, roster mustered."""
        args = event.args
        idle = not self.rounds or self.rounds[-1].phase == Phase.IDLE
        self.check(idle, "one live round", f"round {args['round']} opened early", RoundLive)
        self.by_coordinator(event)
        opening = Opening(
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
        self.rounds.append(
            RoundHistory(
                opening=opening, opened_at=event.time, commit_deadline=opening.commit_deadline
            )
        )
        number = f"round {opening.round}"
        self.equal(
            (len(self.rounds), self.heads.head),
            (opening.round, opening.open_head),
            "round number and head",
            f"{number} opened out of turn, or on another head",
        )
        self.equal(
            self.model,
            opening.base_model,
            "model lineage",
            f"{number} was opened on another model than the last final one",
            ParentMismatch,
        )
        self.equal(
            self.members.muster(),
            (opening.roster_count, opening.roster_weight, opening.weight_cap),
            "roster",
            f"{number} was opened with another roster, weight or share cap than the roll gives",
        )
        window = opening.commit_deadline - event.time
        self.check(
            window > 0 and window >= self.rules.min_commit_window and opening.norm_bound > 0,
            "commit window",
            f"{number} was opened with a window of {window} s",
            InvalidArgument,
        )
        self.members.last_round, self.members.live = opening.round, True
        values = [args[k] for k in _OPENED]
        types = ["uint256", "bytes32", "bytes32", "bytes32", *["uint256"] * 6]
        self.heads.record(event, Kind.OPENED, types, values, opening.round)

    def commits_closed(self, event: Event) -> None:
        """``CommitsClosed``: by the coordinator, not before the ruled minimum, nor twice."""
        self.by_coordinator(event)
        live = self.in_phase(event, Phase.COMMITTING)
        if live is None:
            return
        early = live.opened_at + self.rules.min_commit_window
        self.check(
            early <= event.time < live.commit_deadline and event.args["closedAt"] == event.time,
            "early close",
            "the commit window was closed before its ruled minimum, or after its deadline",
            CommitWindowOpen,
        )
        live.commit_deadline = event.time

    def committed(self, event: Event) -> None:
        """``Committed``: an active member, once, in the window, within its budget."""
        live = self.in_phase(event, Phase.COMMITTING)
        seat = self.members.own(event, standing=False)
        if live is None or seat is None:
            return
        args, who, number = event.args, seat.hospital, live.opening.round
        raw = args["mechanism"]
        mechanism = Mechanism(
            epsilon=raw["epsilon"],
            noise_multiplier=raw["noiseMultiplier"],
            sample_rate=raw["sampleRate"],
            steps=raw["steps"],
            delta=raw["delta"],
            list_digest=raw["list"],
        )
        self.check(
            seat.registered and seat.active_from <= number < seat.active_until,
            "active member",
            f"{who} committed in round {number} without being active in it",
            NotMember,
            who,
        )
        self.check(
            event.time < live.commit_deadline,
            "commit in window",
            f"{who} committed {event.time - live.commit_deadline} s after the window closed",
            CommitWindowClosed,
            who,
        )
        self.check(
            seat.index not in live.commits,
            "one commit a round",
            f"{who} committed twice in round {number}",
            AlreadyCommitted,
            who,
        )
        weight = min(seat.weight, live.opening.weight_cap)
        self.equal(
            (seat.index, weight),
            (args["seat"], args["weight"]),
            "effective weight",
            f"the weight recorded for {who} is not its registered one under the share cap",
            hospital=who,
        )
        self._charge(seat.hospital, mechanism)
        live.commits[seat.index] = Commit(
            round=number,
            hospital=who,
            seat=seat.index,
            seal_digest=args["sealDigest"],
            opening_digest=args["openingDigest"],
            weight=weight,
            mechanism=mechanism,
        )

    def _charge(self, who: str, mechanism: Mechanism) -> None:
        seat = self.members.seats[who]
        if self.rules.privacy_unit == Unit.NONE:
            sentence = f"{who} declared a mechanism in a federation without a privacy unit"
            self.check(mechanism == Mechanism(), "no mechanism", sentence, InvalidArgument, who)
            return
        self.check(
            mechanism.epsilon > seat.spent,
            "epsilon rises",
            f"the cumulative epsilon of {who} did not rise",
            BudgetNotCharged,
            who,
            expected=f"above {seat.spent}",
            found=mechanism.epsilon,
        )
        self.check(
            mechanism.epsilon <= seat.cap,
            "budget within cap",
            f"the cumulative epsilon of {who} is over its cap",
            BudgetExceeded,
            who,
            expected=f"at most {seat.cap}",
            found=mechanism.epsilon,
        )
        seat.spent = mechanism.epsilon
