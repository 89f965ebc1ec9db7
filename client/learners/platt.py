"""From scores to probabilities that mean what they say: a line through each label's logits.

Platt scaling (Platt 1999): ``p = sigmoid(slope * score + offset)``, slope and offset of each label
by logistic regression on patients that the model was not trained on. The slope stays positive, so
no ranking changes. A label with fewer than ``LEAST`` positives or negatives keeps slope 1 and
offset 0, and says so: a line through a handful of points would be worth less than none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from client.learners.operating import FOLDS, fold_of
from ledger.errors import DataError

LEAST = 10
_WEAK = 1e4
"""Inverse strength of the regularisation: only there to keep separable data finite."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One label's calibration; ``fitted`` is false where there was too little to fit it on."""

    slope: float = 1.0
    offset: float = 0.0
    fitted: bool = False

    def to_record(self) -> dict[str, object]:
        """Return JSON values."""
        return asdict(self)


def fit_lines(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> tuple[Line, ...]:
    """Fit each label's line on its known images: (N, L) logits and labels of 1, 0 and -1.

    Raises:
        DataError: shapes differ, or a score is not finite.
    """
    if scores.shape != labels.shape or not np.isfinite(scores).all():
        raise DataError("calibration takes a finite score of every label of every image")
    return tuple(_fit(scores[:, n], labels[:, n]) for n in range(labels.shape[1]))


def apply_lines(scores: NDArray[np.floating], lines: Sequence[Line]) -> NDArray[np.float64]:
    """Return probabilities (N, L) in (0, 1)."""
    slopes = np.array([line.slope for line in lines])
    offsets = np.array([line.offset for line in lines])
    logits = np.clip(scores.astype(np.float64) * slopes + offsets, -60, 60)
    return np.asarray(1 / (1 + np.exp(-logits)))


def cross_fitted(
    scores: NDArray[np.floating],
    labels: NDArray[np.integer],
    patients: Sequence[str],
    *,
    folds: int = FOLDS,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return probabilities whose lines other patients gave: what honest scores are taken of."""
    place = fold_of(patients, folds, seed)
    found = np.zeros(scores.shape)
    for fold in range(folds):
        mine = place == fold
        lines = fit_lines(scores[~mine], labels[~mine])
        found[mine] = apply_lines(scores[mine], lines)
    return found


def _fit(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> Line:
    known = labels >= 0
    truth = labels[known] > 0
    if min(int(truth.sum()), int((~truth).sum())) < LEAST:
        return Line()
    mine = scores[known].astype(np.float64)
    spread = float(mine.std()) or 1.0
    model = LogisticRegression(C=_WEAK, max_iter=1000).fit(mine[:, None] / spread, truth)
    slope, offset = float(model.coef_[0, 0]) / spread, float(model.intercept_[0])
    if slope <= 0:
        # Scores that rank the wrong way on these patients: the prevalence is all they are good for.
        share = float(truth.mean())
        return Line(slope=1e-6, offset=float(np.log(share / (1 - share))), fitted=True)
    return Line(slope=slope, offset=offset, fitted=True)
