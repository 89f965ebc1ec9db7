"""Screening: what one update looks like beside the others, by a documented robust rule.

Runs after admission, on opened updates (sealed mode; under secure aggregation only the norm cap of
the contract remains). Every measurement derives from the exact integer Gram matrix
``G_ij = <q_i, q_j>``, so a replay recomputes it bit for bit. The rules, in order; an update caught
by an earlier rule takes no part in the later ones:

1. ``NormExceeded``: ``G_ii > B^2``. Honest hospitals clip to B, so this is for liars.
2. ``InertUpdate``: ``q_i = 0``, or ``|q_i|`` under ``inert_share`` of the median norm.
3. ``WeakNoise``: ``|q_i|`` under ``noise_floor``, the norm that the declared noise alone would give
   (0 without differential privacy).
4. ``DuplicateUpdate``: cosine with another update at or over ``copy_cosine``. All of such a group
   are refused: nobody can know another's update before the window closes, so equal updates are
   collusion or the same data twice, and none can be told from the original.
5. ``OutlierUpdate`` (three updates or more): let ``m_i`` be the upper median over j of
   ``cos(q_i, q_j)``, and c the median of m. Refused when the hospitals agree on a direction (c is
   at least ``agreement``, ``cosine_margin`` and ``z / sqrt(d)``) and m_i is below all of
   ``-mirror_share c``, minus the latter two, and c less ``mad_factor`` robust deviations (1.4826
   MAD, at least ``1 / sqrt(d)``).

Why agreement comes first: a flipped update is the mirror of what the others agree on, so where
they agree on little there is little to mirror, and an honest hospital whose patients differ pulls
its own way. Measured on real radiographs, three honest hospitals each: split at random, the median
cosine fell from 0.2 to 0.01 in eight rounds, and one had -0.03; unlike ones had (c, m_i) of (0.14,
-0.18), (0.32, -0.25), (0.40, -0.06) and (0.54, -0.25) late in their runs. Rules without this
condition, or without the mirror, refused each of these. Two pairs are refused all the same: (0.56,
-0.48) and (0.69, -0.65), of a hospital with most of the findings and of the weight, whose updates
taught odds of them that the two others untaught (docs/adr/0016). A federation of hospitals so
unlike turns ``directions`` off, on record.

Why the upper median: with f colluders among n and ``2 f < n``, an honest hospital's m_i is never
below the smallest cosine between two honest ones, whatever the colluders send, while a flipped
update disagrees with more than half of the others. ``1 / sqrt(d)`` is the deviation of the cosine
of two independent random directions, so pure noise is not called an outlier.

Limits: a majority of colluders decides what is normal. Where honest updates agree little (late in
training), and of a hospital that agrees with the others much less than they do, a flipped sign
passes: there the norm bound limits the harm, as updates are small. An
update that stays inside the norm and within the honest spread of directions passes (a small
backdoor does). Where differential-privacy noise dominates, all cosines are near zero, and a flipped
sign cannot be seen by any such rule. Honest but very unlike hospitals can be refused when their
updates truly oppose all the others'; ``cosine_margin`` is the federation's choice.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from ledger.errors import (
    DuplicateUpdate,
    InertUpdate,
    NormExceeded,
    OutlierUpdate,
    PolicyError,
    Refusal,
    WeakNoise,
)

CHUNK = 1 << 18
"""Coordinates a step: 2^18 * 32767^2 < 2^48, so a float64 matrix product stays exact."""
CONSISTENCY = 1.4826
"""Scales the median absolute deviation to a standard deviation (normal distribution)."""
MIN_FOR_OUTLIERS = 3
_THRESHOLDS = (
    "inert_share", "noise_floor", "copy_cosine", "cosine_margin", "z", "mad_factor",
    "agreement", "mirror_share",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ScreenPolicy:
    """The federation's public thresholds; none has a wildcard.

    A configuration must give every one; only the two newest, ``agreement`` and ``mirror_share``,
    may be missing together or alone, and are then 0, the stricter rule of before.

    Attributes:
        inert_share: share of the median norm below which an update is inert, [0, 1).
        noise_floor: least norm in quantised units, >= 0 (see ``noise_floor``).
        copy_cosine: cosine from which two updates are copies, (0.5, 1].
        cosine_margin: least median cosine, of either sign, that says anything, [0, 1).
        z: how many ``1 / sqrt(d)`` a cosine must be below zero, > 0.
        mad_factor: robust deviations below the median, > 0.
        agreement: least median of the m_i at which directions are judged, [0, 1].
        mirror_share: share of that median by which an m_i must be below zero, [0, 1].
        directions: whether rules 4 and 5 run; a federation that turns them off does so on record.
    """

    inert_share: float = 0.01
    noise_floor: float = 0.0
    copy_cosine: float = 0.9999
    cosine_margin: float = 0.05
    z: float = 4.0
    mad_factor: float = 3.0
    agreement: float = 0.4
    mirror_share: float = 0.75
    directions: bool = True

    def __post_init__(self) -> None:
        """Check every threshold (``PolicyError``: nothing passes a misconfigured screen)."""
        if not isinstance(self.directions, bool):
            raise PolicyError(
                f"the screen's directions must be true or false, not {self.directions!r}"
            )
        for name in _THRESHOLDS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise PolicyError(f"the screen's {name} must be a number, not {value!r}")
            if not math.isfinite(value):
                raise PolicyError(f"the screen's {name} must be finite, not {value!r}")
        bounds = {
            "inert_share": 0 <= self.inert_share < 1,
            "noise_floor": self.noise_floor >= 0,
            "copy_cosine": 0.5 < self.copy_cosine <= 1,
            "cosine_margin": 0 <= self.cosine_margin < 1,
            "z": self.z > 0,
            "mad_factor": self.mad_factor > 0,
            "agreement": 0 <= self.agreement <= 1,
            "mirror_share": 0 <= self.mirror_share <= 1,
        }
        for name, holds in bounds.items():
            if not holds:
                raise PolicyError(f"the screen's {name} is out of range: {getattr(self, name)}")

    def to_config(self) -> dict[str, object]:
        """Return the plain form that stands in the round configuration."""
        return {"directions": self.directions} | {
            name: float(getattr(self, name)) for name in _THRESHOLDS
        }

    @classmethod
    def from_config(cls, value: object) -> ScreenPolicy:
        """Read the policy from a round configuration; fails closed.

        Raises:
            PolicyError: it is missing, lacks a threshold, or holds one unknown here.
        """
        names = {item.name for item in fields(cls)}
        if isinstance(value, dict):  # runs begun before these thresholds go on without them
            value = {"agreement": 0.0, "mirror_share": 0.0, **value}
        if not isinstance(value, dict) or set(value) != names:
            given = sorted(map(str, value)) if isinstance(value, dict) else value
            raise PolicyError(f"the screen needs exactly {sorted(names)}, not {given}")
        return cls(**value)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured of one update, in quantised units; recorded with the decision.

    ``cosine_median`` is m_i above; both cosines are None when too few updates were comparable.
    """

    norm_squared: int
    cosine_median: float | None = None
    cosine_max: float | None = None

    def to_json(self) -> dict[str, int | float | None]:
        """Return the plain form that stands in the decision record."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True, kw_only=True)
class Screening:
    """The screen's result: a measurement for every update, a refusal for some."""

    measurements: dict[str, Measurement] = field(default_factory=dict)
    refusals: dict[str, Refusal] = field(default_factory=dict)


def noise_floor(
    *, coordinate_noise: float, step_exponent: int, size: int, norm_bound: int, share: float = 0.5
) -> float:
    """Return the least norm, in quantised units, of an update that holds its declared noise.

    Gaussian noise of ``coordinate_noise`` a coordinate (units of the weights) has a norm within a
    few per mille of ``coordinate_noise sqrt(d)`` at any real model's size, so half of it
    (``share``) is never reached by honest noise; clipping to ``norm_bound`` lowers both.
    """
    expected = coordinate_noise * 2.0**step_exponent * math.sqrt(size)
    return share * min(expected, float(norm_bound))


def gram(updates: list[NDArray[np.int16]]) -> list[list[int]]:
    """Return the exact integer Gram matrix of some updates, each int16 of length d < 2^32.

    Float64 products of chunks are exact (below 2^53) whatever order BLAS adds them in, so the
    result does not depend on the machine; extra memory is 2 MiB an update.
    """
    count = len(updates)
    total = np.zeros((count, count), dtype=np.int64)
    size = updates[0].size if updates else 0
    for start in range(0, size, CHUNK):
        block = np.stack([q[start : start + CHUNK] for q in updates]).astype(np.float64)
        total += (block @ block.T).astype(np.int64)
    return [[int(value) for value in row] for row in total]


def screen(
    updates: Mapping[str, NDArray[np.int16]], *, policy: ScreenPolicy, norm_bound: int
) -> Screening:
    """Measure admitted updates and refuse those that break a rule (see the module's docstring).

    Args:
        updates: hospital address to its opened update, int16 vectors of one length d.
        policy: the thresholds of this round's configuration.
        norm_bound: B, the L2 bound of the round in quantised units.

    Returns:
        The same result for any order of ``updates``.
    """
    names = sorted(updates)
    products = gram([updates[name] for name in names])
    squares = {name: products[i][i] for i, name in enumerate(names)}
    result = Screening(
        measurements={name: Measurement(norm_squared=squares[name]) for name in names}
    )
    _screen_norms(result, squares, policy, norm_bound)
    if not policy.directions:
        return result
    left = [i for i, name in enumerate(names) if name not in result.refusals]
    cosines = {
        (i, j): products[i][j] / math.sqrt(products[i][i]) / math.sqrt(products[j][j])
        for i in left
        for j in left
        if i != j
    }
    size = next(iter(updates.values())).size if updates else 0
    _screen_directions(result, names, left, cosines, policy, size)
    return result


def _screen_norms(
    result: Screening, squares: dict[str, int], policy: ScreenPolicy, norm_bound: int
) -> None:
    median = statistics.median([math.sqrt(value) for value in squares.values()] or [0.0])
    for name, square in squares.items():
        norm = math.sqrt(square)
        if square > norm_bound**2:
            result.refusals[name] = NormExceeded(
                f"{name}'s update has norm {norm:.0f}; the round's bound is {norm_bound}"
            )
        elif square == 0 or norm < policy.inert_share * median:
            result.refusals[name] = InertUpdate(
                f"{name}'s update has norm {norm:.3g} where the median is {median:.3g}"
            )
        elif norm < policy.noise_floor:
            result.refusals[name] = WeakNoise(
                f"{name}'s update has norm {norm:.3g}; its declared noise alone would give"
                f" {policy.noise_floor:.3g} or more"
            )


def _screen_directions(
    result: Screening,
    names: list[str],
    left: list[int],
    cosines: dict[tuple[int, int], float],
    policy: ScreenPolicy,
    size: int,
) -> None:
    nearest = {i: max((cosines[i, j] for j in left if j != i), default=None) for i in left}
    kept = [i for i in left if (c := nearest[i]) is None or c < policy.copy_cosine]
    medians: dict[int, float] = {}
    for i in left:
        if i not in kept:
            result.refusals[names[i]] = DuplicateUpdate(
                f"{names[i]}'s update is also another hospital's (cosine {nearest[i]:.6f})"
            )
        elif len(kept) > 1:
            medians[i] = statistics.median_high(cosines[i, j] for j in kept if j != i)
        result.measurements[names[i]] = Measurement(
            norm_squared=result.measurements[names[i]].norm_squared,
            cosine_median=medians.get(i),
            cosine_max=nearest[i],
        )
    if len(medians) >= MIN_FOR_OUTLIERS:
        _screen_outliers(result, names, medians, policy, size)


def _screen_outliers(
    result: Screening,
    names: list[str],
    medians: dict[int, float],
    policy: ScreenPolicy,
    size: int,
) -> None:
    unit = 1.0 / math.sqrt(size)
    centre = statistics.median(medians.values())
    spread = statistics.median(abs(m - centre) for m in medians.values())
    deviation = max(CONSISTENCY * spread, unit)
    least = max(policy.cosine_margin, policy.z * unit)
    if centre < max(least, policy.agreement):
        return
    mirror = -policy.mirror_share * centre
    floor = min(-least, mirror, centre - policy.mad_factor * deviation)
    for i, value in medians.items():
        if value < floor:
            result.refusals[names[i]] = OutlierUpdate(
                f"{names[i]}'s update points away from the others: median cosine {value:.3f},"
                f" the least allowed is {floor:.3f}"
            )
