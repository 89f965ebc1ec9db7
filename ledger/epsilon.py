"""The canonical epsilon: Rényi accounting at fixed orders, from what mechanisms declare.

One hospital's releases are Poisson-subsampled Gaussians (DP-SGD), so a round is fully described by
(noise multiplier, sample rate, steps). Their Rényi divergences add over rounds at every order
(Mironov 2017, Proposition 1; Mironov, Talwar and Zhang 2019 for the subsampled Gaussian) and one
conversion at the end gives epsilon at the declared delta (Canonne, Kamath and Steinke 2020,
Proposition 12). The neighbouring relation is add-or-remove one unit (a patient, or an image: the
federation's ``privacy_unit``). Epsilon here is what the chain's budgets mean: tighter accountants
(PRV, PLD) may be shown beside it, but bind nobody.

``ORDERS`` is part of the protocol: another list gives another (equally valid) number, and two
parties must agree to 1e-3. Only integers from 2 are in it: there the subsampled Gaussian's
divergence is a finite binomial sum, which independent libraries evaluate to 1e-9. At fractional
orders it is an infinite series, and dp_accounting 0.6 and Opacus 1.6 differ by up to half of its
value (sample rate 0.5, noise 5, orders 2 to 11), too far apart for a number that binds.

Units on the chain (`ledger.statement.Mechanism`): noise multiplier 1e-6, sample rate 1e-9 rounded
up, delta 1e-12, epsilon 1e-6 rounded up. The epsilon a hospital must charge is computed from the
*declared* integers, so that an auditor gets the same number from the log alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ledger.errors import InvalidStatement
from ledger.statement import Mechanism

ORDERS: Final[tuple[float, ...]] = (
    *(float(x) for x in range(2, 65)),
    *(72.0, 80.0, 96.0, 128.0, 192.0, 256.0, 384.0, 512.0, 1024.0),
)
"""Rényi orders of the canonical accountant: every integer from 2 to 64, then sparse to 1024."""
MICRO: Final = 10**6
TOLERANCE: Final = 1e-3
"""How far a second implementation may differ (absolute, in epsilon)."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """One Poisson-subsampled Gaussian mechanism run for some steps (real units).

    Attributes:
        noise_multiplier: standard deviation of the noise over the clipping norm, above 0.
        sample_rate: probability that one unit is drawn in one step, in (0, 1].
        steps: how often it ran, at least 1.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int

    @classmethod
    def of(cls, mechanism: Mechanism) -> Release:
        """Return the release that a committed mechanism declares.

        Raises:
            InvalidStatement: its parameters are not those of a private mechanism.
        """
        found = cls(
            noise_multiplier=mechanism.noise_multiplier / 10**6,
            sample_rate=mechanism.sample_rate / 10**9,
            steps=mechanism.steps,
        )
        if found.noise_multiplier <= 0 or not 0 < found.sample_rate <= 1 or found.steps < 1:
            raise InvalidStatement(f"no privacy follows from these parameters: {found}")
        return found


@lru_cache(maxsize=4096)
def _rdp_of_step(noise_multiplier: float, sample_rate: float) -> tuple[float, ...]:
    # The accountants bring scipy: a second that nobody without a budget need wait for.
    from dp_accounting import dp_event
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant(list(ORDERS))
    accountant.compose(
        dp_event.PoissonSampledDpEvent(sample_rate, dp_event.GaussianDpEvent(noise_multiplier))
    )
    return tuple(float(value) for value in accountant._rdp)  # noqa: SLF001 - no public reader


def rdp_of(releases: Sequence[Release]) -> NDArray[np.float64]:
    """Return the composed Rényi divergence, shape ``(len(ORDERS),)``, of some releases.

    Equal parameters are merged before they are composed, so the number does not depend on how a
    run was cut into rounds, nor on the order of the releases.
    """
    steps: dict[tuple[float, float], int] = {}
    for item in releases:
        key = (item.noise_multiplier, item.sample_rate)
        steps[key] = steps.get(key, 0) + item.steps
    total = np.zeros(len(ORDERS), dtype=np.float64)
    for (noise, rate), count in sorted(steps.items()):
        total += np.array(_rdp_of_step(noise, rate), dtype=np.float64) * count
    return total


def epsilon_of(releases: Sequence[Release], delta: float) -> float:
    """Return the canonical epsilon of all releases together, at ``delta``.

    Raises:
        InvalidStatement: ``delta`` is not in (0, 1).
    """
    if not 0 < delta < 1:
        raise InvalidStatement(f"delta must be above 0 and below 1, not {delta}")
    if not releases:
        return 0.0
    from dp_accounting.rdp import compute_epsilon

    epsilon, _ = compute_epsilon(list(ORDERS), list(rdp_of(releases)), delta)
    return float(epsilon)


def optimal_order(releases: Sequence[Release], delta: float) -> float:
    """Return the order at which `epsilon_of` found its minimum (at an end: widen ``ORDERS``)."""
    from dp_accounting.rdp import compute_epsilon

    _, order = compute_epsilon(list(ORDERS), list(rdp_of(releases)), delta)
    return float(order)


def micro_epsilon(releases: Sequence[Release], delta: float) -> int:
    """Return the canonical epsilon in micro-units, rounded up: what a hospital commits."""
    return math.ceil(epsilon_of(releases, delta) * MICRO)


def cumulative_micro(mechanisms: Sequence[Mechanism], opening: int = 0) -> list[int]:
    """Return the least cumulative micro-epsilon after each of one hospital's mechanisms.

    ``opening`` micro-units spent before (a migration) are added by basic composition; their delta
    is not on this ledger and adds to the one stated here.

    Raises:
        InvalidStatement: a mechanism declares no privacy, or a delta outside (0, 1).
    """
    releases: list[Release] = []
    totals: list[int] = []
    for mechanism in mechanisms:
        releases.append(Release.of(mechanism))
        totals.append(opening + micro_epsilon(releases, mechanism.delta / 10**12))
    return totals
