"""How far a macro AUC may be off: a bootstrap over patients.

Images of one patient resemble each other, so patients, not images, are drawn with replacement
(Efron and Tibshirani 1993, percentile interval). A resample is a whole-number weight for every
image, and a weighted AUC over all resamples at once is a few sums over sorted scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from client.learners.metrics import check_scored
from ledger.errors import DataError

_CHUNK = 200
"""Resamples at a time: bounds memory to a few arrays of 200 x images."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A percentile interval.

    Args:
        low: lower end.
        high: upper end.
        level: share of resamples inside, such as 0.95.
        resamples: how many were drawn.
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


def macro_auc_interval(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    patients: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval | None:
    """Return the interval of the macro AUC, or None where no label has both classes.

    A label that loses one class in a resample is left out of that resample's mean.

    Args:
        probabilities: (N, L).
        labels: (N, L) of 1, 0 and -1.
        patients: of each image.
        seed: of the draws.
        resamples: 10 or more.
        level: in (0, 1).

    Raises:
        DataError: the arrays do not fit together, or an argument is outside its range.
    """
    check_scored(probabilities, labels, [""] * labels.shape[1])
    if len(patients) != len(labels) or resamples < 10 or not 0 < level < 1:
        raise DataError("an interval needs one patient an image, 10 resamples, level in (0, 1)")
    if len(labels) == 0:
        return None
    # Numbered by first appearance, so that the draws do not depend on how patients are named.
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(patients))}
    owner = np.array([numbers[patient] for patient in patients])
    generator = np.random.default_rng(seed)
    shares = np.full(len(numbers), 1 / len(numbers))
    macros = []
    for start in range(0, resamples, _CHUNK):
        count = min(_CHUNK, resamples - start)
        drawn = generator.multinomial(len(numbers), shares, size=count)
        macros.append(_macro(probabilities, labels, drawn[:, owner].astype(np.float64)))
    values = np.concatenate(macros)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        low=float(low),
        high=float(high),
        level=level,
        resamples=int(values.size),
        patients=len(numbers),
    )


def weighted_auc(
    scores: NDArray[np.floating], truth: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the AUC under each row of weights: (N,), (N,), (R, N) -> (R,); NaN if undefined.

    Equals scikit-learn's ``roc_auc_score(sample_weight=...)``: the weighted share of pairs
    ranked rightly, ties counting half (Mann-Whitney).
    """
    if scores.size == 0:
        return np.full(len(weights), np.nan)
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    ordered = weights[:, order]
    positive = np.add.reduceat(ordered * truth[order], starts, axis=1)
    negative = np.add.reduceat(ordered * ~truth[order], starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    right = (positive * (below + 0.5 * negative)).sum(axis=1)
    return _ratio(right, pairs)


def _macro(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    total = np.zeros(len(weights))
    defined = np.zeros(len(weights))
    for column in range(labels.shape[1]):
        known = labels[:, column] >= 0
        aucs = weighted_auc(
            probabilities[known, column], labels[known, column] > 0, weights[:, known]
        )
        there = np.isfinite(aucs)
        total[there] += aucs[there]
        defined += there
    return _ratio(total, defined)


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide where there is something to divide by; NaN elsewhere."""
    result = np.full(above.shape, np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result
