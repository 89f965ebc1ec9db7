"""Where a probability becomes a decision: thresholds chosen on other patients than those judged.

A threshold that is chosen and scored on the same patients looks better than it is, the more so the
rarer the finding. Here patients are cut into folds; each fold is decided with the thresholds that
give the best F1 over the patients of all other folds, and the scores are those of the pooled
decisions (cross-fitting).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score, precision_recall_curve, recall_score

from client.learners.metrics import check_scored
from ledger.errors import DataError

FOLDS = 5
UNDECIDED = -1


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """One label's decisions.

    Args:
        label: its name.
        threshold: chosen on all patients, for those who are not among them; None if none could be.
        spread: lowest and highest of the folds' thresholds, which the scores below come from.
        f1, sensitivity, specificity: of decisions on patients the thresholds were not chosen on.
        positives: among the images decided.
    """

    label: str
    threshold: float | None
    spread: tuple[float, float] | None
    f1: float | None
    sensitivity: float | None
    specificity: float | None
    positives: int


@dataclass(frozen=True, kw_only=True)
class Operating:
    """All labels' decisions.

    Args:
        weighted_f1: the labels' F1 scores weighted by positives, as scikit-learn's
            ``average="weighted"``; None where nothing was decided.
        folds: of patients.
        points: each label's own.
    """

    weighted_f1: float | None
    folds: int
    points: tuple[OperatingPoint, ...]

    def to_record(self) -> dict[str, object]:
        """Return JSON values."""
        record = asdict(self)
        record["points"] = [
            {**asdict(point), "spread": list(point.spread) if point.spread else None}
            for point in self.points
        ]
        return record


def best_threshold(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer]
) -> float | None:
    """Return the threshold (decide present at or above it) of the best F1; None without both.

    Of equally good ones the lowest: it misses fewer.
    """
    known = labels >= 0
    truth = labels[known] > 0
    if not truth.any() or truth.all():
        return None
    precision, recall, thresholds = precision_recall_curve(truth, probabilities[known])
    precision, recall = precision[:-1], recall[:-1]  # the last point decides nobody present
    f1 = np.divide(
        2 * precision * recall,
        precision + recall,
        out=np.zeros_like(precision),
        where=precision + recall > 0,
    )
    return float(thresholds[int(np.argmax(f1))])


def fold_of(patients: Sequence[str], folds: int = FOLDS, seed: int = 0) -> NDArray[np.int64]:
    """Return each image's fold; a patient lies in one, and the folds hold equally many patients."""
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(patients))}
    order = np.random.default_rng(seed).permutation(len(numbers)) % folds
    return np.array([order[numbers[patient]] for patient in patients], dtype=np.int64)


def decide(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    patients: Sequence[str],
    *,
    folds: int = FOLDS,
    seed: int = 0,
) -> tuple[NDArray[np.int8], list[list[float]]]:
    """Return decisions (N, L) of 1, 0 and ``UNDECIDED``, and each label's thresholds by fold.

    Undecided are unknown labels, and folds whose other patients lack one of the classes.

    Raises:
        DataError: the arrays do not fit together, or fewer than two folds.
    """
    if len(patients) != len(labels) or folds < 2:
        raise DataError("decisions need one patient an image, and at least two folds")
    place = fold_of(patients, folds, seed)
    decided = np.full(labels.shape, UNDECIDED, dtype=np.int8)
    used: list[list[float]] = [[] for _ in range(labels.shape[1])]
    for column, thresholds in enumerate(used):
        for fold in range(folds):
            mine = (place == fold) & (labels[:, column] >= 0)
            threshold = best_threshold(
                probabilities[place != fold, column], labels[place != fold, column]
            )
            if threshold is not None and mine.any():
                decided[mine, column] = probabilities[mine, column] >= threshold
                thresholds.append(threshold)
    return decided, used


def operate(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    names: Sequence[str],
    patients: Sequence[str],
    *,
    folds: int = FOLDS,
    seed: int = 0,
) -> Operating:
    """Return the scores of decisions on patients whose thresholds others gave.

    Raises:
        DataError: the arrays do not fit together.
    """
    check_scored(probabilities, labels, names)
    decided, used = decide(probabilities, labels, patients, folds=folds, seed=seed)
    points = tuple(
        _point(name, probabilities[:, n], labels[:, n], decided[:, n], used[n])
        for n, name in enumerate(names)
    )
    scored = [point for point in points if point.f1 is not None]
    weight = sum(point.positives for point in scored)
    total = sum((point.f1 or 0.0) * point.positives for point in scored)
    return Operating(weighted_f1=total / weight if weight else None, folds=folds, points=points)


def _point(
    name: str,
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    decided: NDArray[np.int8],
    used: list[float],
) -> OperatingPoint:
    mine = decided != UNDECIDED
    truth, said = labels[mine] > 0, decided[mine] > 0
    there, gone = bool(truth.any()), bool((~truth).any())
    return OperatingPoint(
        label=name,
        threshold=best_threshold(probabilities, labels),
        spread=(min(used), max(used)) if used else None,
        f1=float(f1_score(truth, said, zero_division=0.0)) if there else None,
        sensitivity=float(recall_score(truth, said)) if there else None,
        specificity=float(recall_score(~truth, ~said)) if gone else None,
        positives=int(truth.sum()),
    )
