"""One round as the chain saw it, and what following its phases needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from ledger.errors import (
    EventMismatch,
    NotCoordinator,
    ThoracleError,
    WrongPhase,
)
from ledger.facts import Event
from ledger.findings import Book
from ledger.replica_head import HeadChain
from ledger.replica_members import Members
from ledger.statement import (
    Commit,
    Opening,
    Outcome,
    Phase,
    Proposal,
    Rules,
)


@dataclass(kw_only=True)
class RoundHistory:
    """One round as the chain saw it.

    ``phase`` is where it stands, or stood when it was closed; ``proposed_head`` the head right
    after the proposal, which every attestation must name.
    """

    opening: Opening
    opened_at: int
    commit_deadline: int
    phase: Phase = Phase.COMMITTING
    commits: dict[int, Commit] = field(default_factory=dict)
    proposal: Proposal | None = None
    proposed_head: bytes = bytes(32)
    attested: int = 0
    against: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    outcome: Outcome = Outcome.NONE
    unattested_weight: int = 0
    final_model: bytes | None = None

    @property
    def committed(self) -> int:
        """Bitmap of the seats that committed."""
        return sum(1 << seat for seat in self.commits)

    def weight_of(self, bitmap: int) -> int:
        """Return the effective weight of some committed seats."""
        return sum(c.weight for seat, c in self.commits.items() if bitmap >> seat & 1)

    def seats(self, bitmap: int) -> tuple[int, ...]:
        """Return the seats of a bitmap that committed (a forged record may name others)."""
        return tuple(seat for seat in sorted(self.commits) if bitmap >> seat & 1)

    def refusal_of(self, seat: int) -> int:
        """Return the code a seat was refused with; 0: accepted, or not decided."""
        return 0 if self.proposal is None else self.proposal.reasons.get(seat, 0)

    def hashes(self, bitmap: int, federation_id: bytes) -> list[bytes]:
        """Return the commit hashes of some committed seats, by ascending seat."""
        chosen = (self.commits[seat] for seat in sorted(self.commits) if bitmap >> seat & 1)
        return [commit.commit_hash(federation_id) for commit in chosen]


@dataclass(kw_only=True)
class RoundBase:
    """What every phase needs; ``model`` is the digest of the last final model."""

    book: Book
    heads: HeadChain
    members: Members
    rules: Rules
    model: bytes
    rounds: list[RoundHistory] = field(default_factory=list)

    def check(
        self,
        holds: bool,
        check: str,
        sentence: str,
        error: type[ThoracleError],
        hospital: str = "",
        expected: object = "",
        found: object = "",
    ) -> bool:
        """As ``Book.check``, about the latest round."""
        return self.book.check(
            holds,
            check,
            sentence,
            expected=expected,
            found=found,
            error=error,
            round=self.rounds[-1].opening.round if self.rounds else 0,
            hospital=hospital,
        )

    def equal(
        self,
        expected: object,
        found: object,
        check: str,
        sentence: str,
        error: type[ThoracleError] = EventMismatch,
        hospital: str = "",
    ) -> bool:
        """As ``Book.equal``, about the latest round."""
        return self.check(
            expected == found, check, sentence, error, hospital, expected=expected, found=found
        )

    def by_coordinator(self, event: Event) -> None:
        """Check that the coordinator of that moment sent it."""
        who = self.members.coordinator
        sentence = f"{event.name} was sent by {event.sender}, not by the coordinator {who}"
        self.check(event.sender == who, "coordinator's transaction", sentence, NotCoordinator)

    def in_phase(self, event: Event, phase: Phase) -> RoundHistory | None:
        """Return the round an event is about, if it is the live one and in this phase."""
        live = self.rounds[-1] if self.rounds else None
        number = event.args["round"]
        if not self.check(
            live is not None and live.opening.round == number and live.phase == phase,
            "phase",
            f"{event.name} of round {number} came while no such round was {phase.name.lower()}",
            WrongPhase,
        ):
            return None
        return live
