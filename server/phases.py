"""What the coordinator plans for one phase: a span of rounds that update a part of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Final

from ledger.errors import ConfigError
from ledger.travels import PhaseTerms

PRIVATE: Final = frozenset({"clip_norm", "multiplicity", "physical_batch"})
"""Fields of a round's privacy that may differ by phase: none of them changes epsilon."""


@dataclass(frozen=True, kw_only=True)
class PhasePlan:
    """One phase, from public values only; what is not here is the run's own in every phase.

    Attributes:
        name: of the learner's phase.
        rounds: how many rounds it has, at least 1.
        travels: names of the tensors whose changes its rounds sum, ascending.
        train: fields of the local training plan.
        privacy: fields of ``PRIVATE`` that replace the run's; empty without privacy.
        metrics: names of the numbers replies may carry.
        max_norm, coordinate_drift, coordinate_noise: as of ``server.plan.RoundPlan``.
        noise_floor: of the screen, in this phase's quantised units.

    Raises:
        ConfigError: a name, count or field that a phase cannot have.
    """

    name: str
    rounds: int
    travels: tuple[str, ...]
    train: Mapping[str, object] = field(default_factory=dict)
    privacy: Mapping[str, object] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    max_norm: float = 20.0
    coordinate_drift: float = 0.5
    coordinate_noise: float = 0.0
    noise_floor: float = 0.0

    def __post_init__(self) -> None:
        """Check what can be checked without the model; ``ledger.travels`` checks the names."""
        PhaseTerms(name=self.name, round=1, rounds=self.rounds)
        object.__setattr__(self, "travels", tuple(self.travels))
        object.__setattr__(self, "metrics", tuple(self.metrics))
        if not self.travels:
            raise ConfigError(f"phase {self.name}: nothing of the model travels")
        if set(self.privacy) - PRIVATE:
            raise ConfigError(f"phase {self.name}: one mechanism holds in all phases of a run")

    def to_json(self) -> dict[str, object]:
        """Return the plan as plain JSON values."""
        return {**asdict(self), "travels": list(self.travels), "metrics": list(self.metrics)}

    @classmethod
    def from_json(cls, value: object) -> PhasePlan:
        """Read a plan back.

        Raises:
            ConfigError: it is not a phase's plan.
        """
        if not isinstance(value, dict) or set(value) != {item.name for item in fields(cls)}:
            raise ConfigError("the plan of a phase lacks or adds fields")
        return cls(**value)


def phase_at(phases: tuple[PhasePlan, ...], number: int) -> tuple[PhasePlan, PhaseTerms]:
    """Return the phase of a round, and where it stands there.

    Aborted rounds count as on the chain; rounds beyond the plan stay at the last phase's end.

    Args:
        phases: in order, at least one.
        number: of the round on the chain, from 1.
    """
    before = 0
    for phase in phases:
        if number <= before + phase.rounds:
            break
        before += phase.rounds
    else:
        before, phase = 0, phases[-1]
    place = min(number - before, phase.rounds)
    return phase, PhaseTerms(name=phase.name, round=place, rounds=phase.rounds)
