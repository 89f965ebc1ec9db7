"""How far a figure may be off: a bootstrap over patients.

Images of one patient resemble each other, so patients, not images, are drawn with replacement
(Efron and Tibshirani 1993, percentile interval). A resample is a whole-number weight for every
image, and a figure over all resamples at once is a few sums (``client.learners.statistics``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from client.learners.statistics import Weights, ratio
from ledger.errors import DataError

_CHUNK = 200
"""Resamples at a time: bounds memory to a few arrays of 200 x images."""

Figures = Callable[[Weights], Mapping[str, NDArray[np.float64]]]
"""From weights (R, N) to named figures (R,), NaN where undefined."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A percentile interval.

    Args:
        low: lower end.
        high: upper end.
        level: share of resamples inside, such as 0.95.
        resamples: how many were drawn and defined.
        patients: drawn from.
    """

    low: float
    high: float
    level: float
    resamples: int
    patients: int

    def to_record(self) -> dict[str, object]:
        """Return JSON values."""
        return asdict(self)


def patient_intervals(
    figures: Figures,
    patients: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Return the interval of each figure that is defined in some resample.

    Args:
        figures: gives them under weights of the images.
        patients: of each image; at least one.
        seed: of the draws.
        resamples: 10 or more.
        level: in (0, 1).

    Raises:
        DataError: no image, or an argument outside its range.
    """
    if not patients or resamples < 10 or not 0 < level < 1:
        raise DataError("an interval needs images, at least 10 resamples, and a level in (0, 1)")
    # Numbered by first appearance, so that the draws do not depend on how patients are named.
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(patients))}
    owner = np.array([numbers[patient] for patient in patients])
    generator = np.random.default_rng(seed)
    shares = np.full(len(numbers), 1 / len(numbers))
    chunks: dict[str, list[NDArray[np.float64]]] = {}
    for start in range(0, resamples, _CHUNK):
        count = min(_CHUNK, resamples - start)
        drawn = generator.multinomial(len(numbers), shares, size=count)
        for name, values in figures(drawn[:, owner].astype(np.float64)).items():
            chunks.setdefault(name, []).append(values)
    found = {}
    for name, parts in chunks.items():
        values = np.concatenate(parts)
        values = values[np.isfinite(values)]
        if values.size:
            low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
            found[name] = Interval(
                low=float(low),
                high=float(high),
                level=level,
                resamples=int(values.size),
                patients=len(numbers),
            )
    return found


def known_columns(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer]
) -> list[tuple[NDArray[np.floating], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Return of each label: probabilities and truth of the known images, and which these are."""
    columns = []
    for column in range(labels.shape[1]):
        known = labels[:, column] >= 0
        columns.append((probabilities[known, column], labels[known, column] > 0, known))
    return columns


def mean_of_defined(
    each: Sequence[NDArray[np.float64]], weights: Sequence[NDArray[np.float64]] | None = None
) -> NDArray[np.float64]:
    """Return the (weighted) mean over labels, in each resample over those that are defined."""
    stacked = np.stack(each)
    mass = np.ones(stacked.shape) if weights is None else np.stack(weights)
    mass = np.where(np.isfinite(stacked), mass, 0.0)
    return ratio((np.nan_to_num(stacked) * mass).sum(axis=0), mass.sum(axis=0))
