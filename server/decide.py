"""Every commit of a round gets one decision: accepted, or refused with a named reason.

Admission (``server.verify``) hospital by hospital, then the screen over those admitted. The record
holds what was measured, so that an audit with the key decides again and compares. A hospital's
bad bytes never stop the round: only errors of the coordinator's own house do (``PolicyError``,
``StoreError``, ``LedgerError``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ledger.canonical import sha256
from ledger.errors import CodecError, NothingReceived, Refusal, SealingError, ThoracleError
from ledger.messages import TrainReply
from server.screen import Measurement, ScreenPolicy, screen
from server.verify import RoundFacts, Unseal, admit

DECISIONS_FORMAT = "thoracle/decisions/v1"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What became of one hospital's reply.

    Attributes:
        hospital: its address.
        seat: its seat, or None when it has no commit.
        weight: its effective weight in this round, 0 when it has no commit.
        error: why it was refused, or None when accepted.
        evidence: SHA-256 of the ciphertext it sent, or None when nothing arrived.
        measurement: what the screen measured, or None when it was not opened.
    """

    hospital: str
    seat: int | None
    weight: int
    error: ThoracleError | None
    evidence: bytes | None
    measurement: Measurement | None = None

    @property
    def accepted(self) -> bool:
        """Whether the update enters the sum."""
        return self.error is None

    @property
    def code(self) -> int:
        """The reason as it stands on the chain; 0 when accepted."""
        return 0 if self.error is None else self.error.code

    def to_json(self) -> dict[str, object]:
        """Return the plain form that stands in the decision record."""
        return {
            "hospital": self.hospital,
            "seat": self.seat,
            "weight": self.weight,
            "accepted": self.accepted,
            "reason": self.error.name if self.error else "",
            "code": self.code,
            "detail": str(self.error) if self.error else "",
            "evidence": self.evidence.hex() if self.evidence else None,
            "measurement": self.measurement.to_json() if self.measurement else None,
        }


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """All decisions of a round, by hospital, and the updates of those accepted."""

    round: int
    by_hospital: dict[str, Decision]
    updates: dict[str, NDArray[np.int16]] = field(repr=False)

    def accepted(self) -> list[Decision]:
        """Return the accepted, by ascending seat."""
        return self._with_seat(accepted=True)

    def refused(self) -> list[Decision]:
        """Return the refused that have a commit, by ascending seat."""
        return self._with_seat(accepted=False)

    def _with_seat(self, *, accepted: bool) -> list[Decision]:
        found = [d for d in self.by_hospital.values() if d.seat is not None]
        return sorted((d for d in found if d.accepted is accepted), key=lambda d: d.seat or 0)

    def refuse(self, hospital: str, error: ThoracleError) -> Decisions:
        """Return the decisions with one accepted hospital refused after all."""
        old = self.by_hospital[hospital]
        changed = Decision(
            hospital=hospital,
            seat=old.seat,
            weight=old.weight,
            error=error,
            evidence=old.evidence,
            measurement=old.measurement,
        )
        return Decisions(
            round=self.round,
            by_hospital=self.by_hospital | {hospital: changed},
            updates={name: q for name, q in self.updates.items() if name != hospital},
        )

    def to_json(self) -> dict[str, object]:
        """Return the decision record: ``evidence/decisions/<round>.json``."""
        return {
            "format": DECISIONS_FORMAT,
            "round": self.round,
            "decisions": [self.by_hospital[name].to_json() for name in sorted(self.by_hospital)],
        }


def decide(
    received: Iterable[TrainReply],
    facts: RoundFacts,
    unseal: Unseal,
    policy: ScreenPolicy,
    unreadable: Mapping[str, ThoracleError] | None = None,
) -> Decisions:
    """Decide on every commit and every reply of a round.

    Args:
        received: at most one reply a hospital (``Coordinator.receive`` sees to that).
        facts: the chain's side.
        unseal: opens ciphertexts with the round's key.
        policy: the screen of the round's configuration.
        unreadable: what was wrong with a message that could not even be read, by hospital.

    Raises:
        PolicyError: the screen or the privacy policy is misconfigured: nothing passes.
    """
    replies = {reply.hospital: reply for reply in received}
    errors: dict[str, ThoracleError] = {}
    updates: dict[str, NDArray[np.int16]] = {}
    for hospital in sorted(set(replies) | set(facts.commits)):
        try:
            if hospital not in replies:
                raise (unreadable or {}).get(hospital) or NothingReceived(
                    f"{hospital} committed, but sent no update"
                )
            updates[hospital] = admit(replies[hospital], facts, unseal).q
        except (Refusal, CodecError, SealingError) as error:
            errors[hospital] = error
    screening = screen(updates, policy=policy, norm_bound=facts.opening.norm_bound)
    errors |= screening.refusals
    return Decisions(
        round=facts.opening.round,
        by_hospital=_records(replies, facts, errors, screening.measurements),
        updates={name: q for name, q in updates.items() if name not in errors},
    )


def _records(
    replies: Mapping[str, TrainReply],
    facts: RoundFacts,
    errors: Mapping[str, ThoracleError],
    measurements: Mapping[str, Measurement],
) -> dict[str, Decision]:
    records = {}
    for hospital in sorted(set(replies) | set(facts.commits)):
        commit, reply = facts.commits.get(hospital), replies.get(hospital)
        records[hospital] = Decision(
            hospital=hospital,
            seat=commit.seat if commit else None,
            weight=commit.weight if commit else 0,
            error=errors.get(hospital),
            evidence=sha256(reply.ciphertext) if reply else None,
            measurement=measurements.get(hospital),
        )
    return records
