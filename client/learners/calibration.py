"""Whether a probability means what it says: Brier score and expected calibration error, masked.

Both of each label over its known images; the macro figures are means over the labels with both
classes. A model that says a label's prevalence to everyone is perfectly calibrated and has learnt
nothing, so these stand beside the AUC, never in its place; ``reference`` is that model's Brier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss

from client.learners.metrics import check_scored
from client.learners.statistics import weighted_ece


@dataclass(frozen=True, kw_only=True)
class LabelCalibration:
    """One label's figures; None without both classes.

    Args:
        label: its name.
        positives: known.
        brier: mean squared distance of probability and outcome, 0 to 1.
        reference: the Brier score of saying the share of positives to everyone.
        ece: expected calibration error over ten bins of equal counts.
        mean: of the probabilities, to be held against ``prevalence``.
        prevalence: share of positives.
    """

    label: str
    positives: int
    brier: float | None
    reference: float | None
    ece: float | None
    mean: float | None
    prevalence: float | None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Means over the labels with both classes, and each label's own figures."""

    brier: float | None
    ece: float | None
    labels: tuple[LabelCalibration, ...]

    def to_record(self) -> dict[str, object]:
        """Return JSON values."""
        record = asdict(self)
        record["labels"] = [asdict(label) for label in self.labels]
        return record


def calibration(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], names: Sequence[str]
) -> Calibration:
    """Return how far probabilities (N, L) are from labels (N, L) of 1, 0 and -1.

    Raises:
        DataError: the arrays do not fit together.
    """
    check_scored(probabilities, labels, names)
    each = tuple(_label(probabilities[:, n], labels[:, n], name) for n, name in enumerate(names))
    briers = [label.brier for label in each if label.brier is not None]
    errors = [label.ece for label in each if label.ece is not None]
    return Calibration(
        brier=float(np.mean(briers)) if briers else None,
        ece=float(np.mean(errors)) if errors else None,
        labels=each,
    )


def _label(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], name: str
) -> LabelCalibration:
    known = labels >= 0
    truth, said = labels[known] > 0, probabilities[known].astype(np.float64)
    positives = int(truth.sum())
    if not 0 < positives < truth.size:
        return LabelCalibration(
            label=name, positives=positives, brier=None, reference=None, ece=None, mean=None,
            prevalence=None,
        )  # fmt: skip
    prevalence = positives / truth.size
    return LabelCalibration(
        label=name,
        positives=positives,
        brier=float(brier_score_loss(truth, np.clip(said, 0.0, 1.0))),
        reference=prevalence * (1 - prevalence),
        ece=float(weighted_ece(said, truth, np.ones((1, truth.size)))[0]),
        mean=float(said.mean()),
        prevalence=prevalence,
    )
