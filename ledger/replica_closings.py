"""Answers and closings, rebuilt from events: who attested, and how each round had to end."""

from __future__ import annotations

from dataclasses import dataclass

from eth_utils.crypto import keccak

from ledger.errors import (
    AlreadyAnswered,
    AttestationsMissing,
    DeadlineNotPassed,
    HeadMismatch,
    NotAccepted,
    WrongPhase,
)
from ledger.facts import Event
from ledger.replica_round import RoundBase, RoundHistory
from ledger.statement import (
    BASIS,
    Kind,
    Outcome,
    Phase,
)

_FINALISED = ("round", "outcome", "model", "attested", "against", "unattestedWeight")


@dataclass(kw_only=True)
class ClosingPhase(RoundBase):
    """Follows answers, ``Finalised`` and ``RoundAborted``."""

    def answered(self, event: Event) -> None:
        """``Attested``, ``Dissented``, ``Contested``: once, by whom it concerns."""
        live = self.in_phase(event, Phase.ATTESTING)
        seat = self.members.own(event, standing=False)
        if live is None or seat is None or live.proposal is None:
            return
        who, bit = seat.hospital, 1 << seat.index
        concerned = live.proposal.refused if event.name == "Contested" else live.proposal.accepted
        self.check(
            bool(concerned & bit),
            "answer by whom it concerns",
            f"{event.name} by {who}, whom it does not concern",
            NotAccepted,
            who,
        )
        self.check(
            not (live.attested | live.against) & bit and event.time < live.proposal.attest_deadline,
            "one answer in the window",
            f"{who} answered twice or after the deadline",
            AlreadyAnswered,
            who,
        )
        if event.name != "Attested":
            live.against |= bit
            live.codes[who] = event.args["code"]
            return
        live.attested |= bit
        self.equal(
            live.proposed_head,
            event.args["proposedHead"],
            "attested head",
            f"{who} attested another history than the one that led to the proposal",
            HeadMismatch,
            who,
        )

    def _verdict(self, live: RoundHistory, time: int) -> tuple[Outcome, int]:
        proposal = live.proposal
        if proposal is None:
            return Outcome.NONE, 0
        if live.attested == proposal.accepted:
            return Outcome.SUM_VERIFIED, 0
        silent = live.weight_of(proposal.accepted & ~live.attested)
        allowed = self.rules.max_silent_share
        dissent = live.against & proposal.accepted
        if not allowed or dissent or time < proposal.attest_deadline:
            return Outcome.NONE, 0
        if silent * BASIS > allowed * proposal.accepted_weight:
            return Outcome.NONE, 0
        return Outcome.QUORUM_ONLY, silent

    def finalised(self, event: Event) -> None:
        """``Finalised``: the outcome that the attestations give, and its model."""
        live = self.in_phase(event, Phase.ATTESTING)
        if live is None or live.proposal is None:
            return
        args, number = event.args, live.opening.round
        outcome, silent = self._verdict(live, event.time)
        found = (Outcome(args["outcome"]), args["unattestedWeight"], args["attested"])
        self.equal(
            ((outcome, silent, live.attested), live.against, live.proposal.model_digest),
            (found, args["against"], args["model"]),
            "outcome",
            f"round {number} was finalised otherwise than its attestations allow",
            AttestationsMissing,
        )
        live.outcome, live.unattested_weight = outcome, silent
        live.final_model = self.model = args["model"]
        live.phase, self.members.live = Phase.IDLE, False
        values = [args[k] for k in _FINALISED]
        types = ["uint256", "uint256", "bytes32", *["uint256"] * 3]
        self.heads.record(event, Kind.FINALISED, types, values, number)

    def aborted(self, event: Event) -> None:
        """``RoundAborted``: only when due; spent budgets stay spent and the model stands."""
        live = self.rounds[-1] if self.rounds else None
        if live is None or live.phase == Phase.IDLE:
            self.check(False, "phase", "a round was aborted while none was live", WrongPhase)
            return
        args, number = event.args, live.opening.round
        if live.phase == Phase.COMMITTING:
            deadline = live.commit_deadline + live.opening.attest_window
            due = event.sender == self.members.coordinator or event.time >= deadline
        else:
            accepted, deadline = 0, 0
            if live.proposal is not None:
                accepted, deadline = live.proposal.accepted, live.proposal.attest_deadline
            final = self._verdict(live, event.time)[0] != Outcome.NONE
            due = not final and (bool(live.against & accepted) or event.time >= deadline)
        self.check(due, "abort due", f"round {number} was aborted too early", DeadlineNotPassed)
        digest = keccak(b"".join(live.hashes(live.committed, self.rules.federation_id)))
        bitmaps = (live.committed, live.attested, live.against)
        self.equal(
            (number, live.phase, bitmaps, digest),
            (
                args["round"],
                Phase(args["phase"]),
                (args["committed"], args["attested"], args["against"]),
                args["commitsDigest"],
            ),
            "aborted record",
            f"the abort of round {number} records another state than its events give",
        )
        values = [number, int(live.phase), live.commit_deadline, *bitmaps, digest]
        live.phase, live.outcome = Phase.IDLE, Outcome.ABORTED
        self.members.live = False
        self.heads.record(event, Kind.ABORTED, [*["uint256"] * 6, "bytes32"], values, number)
