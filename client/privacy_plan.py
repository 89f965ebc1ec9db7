"""Plan the noise of a whole run before it starts, from public numbers only.

The plan fixes the least noise multiplier with which ``rounds`` rounds of ``steps`` steps at
``sample_rate`` stay within the target epsilon, by the canonical accountant (``ledger.epsilon``) and
on the integers that will stand on the chain. Sampling is by rate, not by batch size: then every
hospital, whatever its size, runs the same mechanism, spends the same epsilon, and the plan says
nothing about how many patients a hospital has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ledger.epsilon import Release, epsilon_of
from ledger.errors import ConfigError
from ledger.statement import Unit

MAX_EPSILON = 1000.0
MIN_COHORT = 20
"""Units (patients) below which a hospital may not train privately: noise would be all it adds."""
_MICRO, _NANO, _PICO = 10**6, 10**9, 10**12
_LARGEST_NOISE = 1000 * _MICRO


@dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """The mechanism of every round of a run, in the chain's integer units.

    Attributes:
        unit: whom it protects.
        noise_multiplier: 1e-6.
        sample_rate: 1e-9.
        steps: a round.
        rounds: planned.
        delta: 1e-12.
    """

    unit: Unit
    noise_multiplier: int
    sample_rate: int
    steps: int
    rounds: int
    delta: int

    def release(self, rounds: int = 1) -> Release:
        """Return what some rounds release, in real units."""
        return Release(
            noise_multiplier=self.noise_multiplier / _MICRO,
            sample_rate=self.sample_rate / _NANO,
            steps=self.steps * rounds,
        )

    def epsilon(self, rounds: int) -> float:
        """Return the cumulative epsilon after some rounds."""
        return epsilon_of([self.release(rounds)], self.delta / _PICO) if rounds else 0.0

    def to_config(self) -> dict[str, Any]:
        """Return the plan as it stands in every round's configuration."""
        return {
            "unit": self.unit.name.lower(),
            "noise_multiplier": self.noise_multiplier,
            "sample_rate": self.sample_rate,
            "steps": self.steps,
            "rounds": self.rounds,
            "delta": self.delta,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PrivacyPlan:
        """Return the plan of a round's configuration; other fields of it are not looked at.

        Raises:
            ConfigError: a field is missing, of the wrong type or out of range.
        """
        names = ("noise_multiplier", "sample_rate", "steps", "rounds", "delta")
        values = {name: config.get(name) for name in names}
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"the privacy plan's {name} must be a whole number above 0")
        unit = config.get("unit")
        if unit not in {"patient", "image"}:
            raise ConfigError("the privacy plan's unit must be patient or image")
        plan = cls(unit=Unit[str(unit).upper()], **{k: int(v or 0) for k, v in values.items()})
        if plan.sample_rate > _NANO or plan.delta >= _PICO or plan.noise_multiplier >= 1 << 32:
            raise ConfigError("the privacy plan is out of range")
        return plan


def plan_noise(
    *,
    epsilon: float,
    delta: float,
    sample_rate: float,
    steps: int,
    rounds: int,
    unit: Unit = Unit.PATIENT,
) -> PrivacyPlan:
    """Return the plan with the least noise that stays within ``epsilon``.

    Args:
        epsilon: target for the whole run, above 0 and at most 1000.
        delta: of the guarantee, above 0 and below 0.01.
        sample_rate: probability of each unit in each step, (0, 1].
        steps: optimiser steps a round, at least 1.
        rounds: planned, at least 1.
        unit: patient or image.

    Raises:
        ConfigError: a value is out of range, or no noise reaches the target.
    """
    if not 0 < epsilon <= MAX_EPSILON:
        raise ConfigError(f"epsilon must be above 0 and at most {MAX_EPSILON:g}, or off")
    if not 1e-12 <= delta < 0.01:
        raise ConfigError("delta must be at least 1e-12 and below 0.01")
    if not 0 < sample_rate <= 1 or steps < 1 or rounds < 1:
        raise ConfigError("sample_rate must be in (0, 1], steps and rounds at least 1")

    def made(noise: int) -> PrivacyPlan:
        return PrivacyPlan(
            unit=unit,
            noise_multiplier=noise,
            sample_rate=math.ceil(sample_rate * _NANO - 1e-6),
            steps=steps,
            rounds=rounds,
            delta=math.floor(delta * _PICO + 1e-6),
        )

    low, high = _MICRO // 20, _LARGEST_NOISE
    if made(high).epsilon(rounds) > epsilon:
        raise ConfigError(f"no noise reaches epsilon {epsilon:g}: fewer steps, rounds, or patients")
    while high - low > 1:  # epsilon falls with the noise
        middle = (low + high) // 2
        if made(middle).epsilon(rounds) > epsilon:
            low = middle
        else:
            high = middle
    return made(high)
