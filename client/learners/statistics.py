"""Figures under weights: each maps weights (R, N), one row a resample, to (R,) values.

An image of weight 2 counts as if it were there twice, so a bootstrap over patients is a matrix of
whole numbers and every figure of it a few sums. Tests hold each against scikit-learn's own with
``sample_weight``. NaN where a figure is not defined.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]
BINS = 10
"""Bins of the calibration error: of equal counts, since findings are rare and most probabilities
small (Nixon et al. 2019; bins of equal width would hold nearly all of them in one)."""


def weighted_auc(
    scores: NDArray[np.floating], truth: NDArray[np.bool_], weights: Weights
) -> NDArray[np.float64]:
    """Return the AUC under each row of weights: (N,), (N,), (R, N) -> (R,); NaN if undefined.

    Equals scikit-learn's ``roc_auc_score(sample_weight=...)``: the weighted share of pairs
    ranked rightly, ties counting half (Mann-Whitney).
    """
    if scores.size == 0:
        return np.full(len(weights), np.nan)
    order, starts = _ranked(scores)
    ordered = weights[:, order]
    positive = np.add.reduceat(ordered * truth[order], starts, axis=1)
    negative = np.add.reduceat(ordered * ~truth[order], starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    right = (positive * (below + 0.5 * negative)).sum(axis=1)
    return ratio(right, pairs)


def weighted_precision(
    scores: NDArray[np.floating], truth: NDArray[np.bool_], weights: Weights
) -> NDArray[np.float64]:
    """Return the average precision under each row of weights; NaN without both classes.

    Equals scikit-learn's ``average_precision_score(sample_weight=...)``: precision at each
    threshold, weighted by the recall it adds.
    """
    if scores.size == 0:
        return np.full(len(weights), np.nan)
    order, starts = _ranked(-scores)  # highest first
    ordered = weights[:, order]
    positive = np.add.reduceat(ordered * truth[order], starts, axis=1)
    called = np.cumsum(np.add.reduceat(ordered, starts, axis=1), axis=1)
    precision = ratio(np.cumsum(positive, axis=1), called)
    found = np.where(positive > 0, positive * precision, 0.0).sum(axis=1)
    everything = positive.sum(axis=1)
    result = ratio(found, everything)
    result[ordered.sum(axis=1) <= everything] = np.nan  # no negatives: nothing to tell apart
    return result


def weighted_f1(
    decided: NDArray[np.bool_], truth: NDArray[np.bool_], weights: Weights
) -> NDArray[np.float64]:
    """Return the F1 score of decisions under each row of weights; NaN without a positive."""
    hit = weights @ (decided & truth).astype(np.float64)
    called = weights @ decided.astype(np.float64)
    there = weights @ truth.astype(np.float64)
    result = ratio(2 * hit, called + there)
    result[there <= 0] = np.nan
    return result


def weighted_brier(
    probabilities: NDArray[np.floating], truth: NDArray[np.bool_], weights: Weights
) -> NDArray[np.float64]:
    """Return the mean squared distance of probability and outcome (Brier 1950)."""
    squares = np.square(probabilities.astype(np.float64) - truth)
    return ratio(weights @ squares, weights.sum(axis=1))


def weighted_ece(
    probabilities: NDArray[np.floating],
    truth: NDArray[np.bool_],
    weights: Weights,
    bins: int = BINS,
) -> NDArray[np.float64]:
    """Return the expected calibration error over bins of (nearly) equal counts.

    The mean, by bin weight, of how far the share of positives is from the mean probability. Equal
    probabilities share a bin.
    """
    if probabilities.size == 0:
        return np.full(len(weights), np.nan)
    edges = np.unique(np.quantile(probabilities, np.arange(1, bins) / bins))
    place = np.searchsorted(edges, probabilities, side="right")
    gap: NDArray[np.float64] = truth - probabilities.astype(np.float64)
    off = np.zeros(len(weights))
    for number in range(len(edges) + 1):
        inside = place == number
        off += np.abs(weights[:, inside] @ gap[inside])
    return ratio(off, weights.sum(axis=1))


def ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide where there is something to divide by; NaN elsewhere."""
    result = np.full(above.shape, np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def _ranked(scores: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ascending order, and where each run of equal scores starts in it."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    return order, np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
