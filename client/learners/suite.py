"""Every figure of one set of predictions, each with its interval over patients.

Ranking (AUC, average precision), decisions (weighted F1 on other patients' thresholds) and
calibration (Brier, ECE), over all images and within each group of images: view, sex, age band,
hospital. The macro AUC within each view stands beside the whole wherever figures are shown,
because the view alone predicts some findings of ChestX-ray14.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from client.learners.bootstrap import Interval, known_columns, mean_of_defined, patient_intervals
from client.learners.calibration import Calibration, calibration
from client.learners.metrics import Scores, score
from client.learners.operating import UNDECIDED, Operating, decide, operate
from client.learners.statistics import (
    Weights,
    weighted_auc,
    weighted_brier,
    weighted_ece,
    weighted_f1,
    weighted_precision,
)
from ledger.errors import DataError

AGE_BANDS = ((0, 18, "under 18"), (18, 40, "18 to 39"), (40, 65, "40 to 64"), (65, 200, "65 on"))


def age_band(age: int | None) -> str | None:
    """Return the name of an age's band; None where the age is not known."""
    if age is None:
        return None
    return next((name for low, high, name in AGE_BANDS if low <= age < high), None)


@dataclass(frozen=True, kw_only=True)
class GroupScores:
    """One group of images, such as the women: ranking, calibration, the macro AUC's interval."""

    scores: Scores
    calibration: Calibration
    interval: Interval | None
    patients: int

    def to_record(self) -> dict[str, object]:
        """Return JSON values."""
        return {
            **self.scores.to_record(),
            "patients": self.patients,
            "calibration": self.calibration.to_record(),
            "macro_auc_interval": self.interval.to_record() if self.interval else None,
        }


@dataclass(frozen=True, kw_only=True)
class Suite:
    """All figures of one set of predictions.

    Args:
        overall: ranking over all images.
        operating: decisions; thresholds come from other patients.
        calibration: probabilities against outcomes.
        intervals: by name: ``macro_auc``, ``macro_average_precision``, ``weighted_f1`` (of the
            decisions as they are: thresholds are not chosen anew in each resample), ``brier``,
            ``ece``, and ``auc`` or ``average_precision`` with ``/`` and a label.
        groups: kind (``view``, ``sex``, ``age``, ``hospital``) to group to figures.
    """

    overall: Scores
    operating: Operating
    calibration: Calibration
    intervals: dict[str, Interval] = field(default_factory=dict)
    groups: dict[str, dict[str, GroupScores]] = field(default_factory=dict)

    def to_record(self) -> dict[str, object]:
        """Return JSON values."""
        return {
            "overall": self.overall.to_record(),
            "operating": self.operating.to_record(),
            "calibration": self.calibration.to_record(),
            "intervals": {name: found.to_record() for name, found in self.intervals.items()},
            "by": {
                kind: {name: scores.to_record() for name, scores in each.items()}
                for kind, each in self.groups.items()
            },
        }


def measure(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    names: Sequence[str],
    patients: Sequence[str],
    *,
    groups: Mapping[str, Sequence[str | None]] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Suite:
    """Return every figure.

    Args:
        probabilities: (N, L).
        labels: (N, L) of 1, 0 and -1.
        names: of the L labels.
        patients: of each image.
        groups: kind to the group of each image, None where it is not known.
        resamples: of the patient bootstrap; 0 leaves all intervals out.
        seed: of folds and bootstrap.

    Raises:
        DataError: the arrays do not fit together.
    """
    if len(patients) != len(labels):
        raise DataError("figures need one patient an image")
    intervals: dict[str, Interval] = {}
    if resamples and len(labels):
        decided, _used = decide(probabilities, labels, patients, seed=seed)
        intervals = patient_intervals(
            lambda weights: _figures(probabilities, labels, names, decided, weights),
            patients,
            seed=seed,
            resamples=resamples,
        )
    return Suite(
        overall=score(probabilities, labels, names),
        operating=operate(probabilities, labels, names, patients, seed=seed),
        calibration=calibration(probabilities, labels, names),
        intervals=intervals,
        groups={
            kind: _within(probabilities, labels, names, patients, each, resamples, seed)
            for kind, each in (groups or {}).items()
        },
    )


def _within(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    names: Sequence[str],
    patients: Sequence[str],
    groups: Sequence[str | None],
    resamples: int,
    seed: int,
) -> dict[str, GroupScores]:
    if len(groups) != len(labels):
        raise DataError("one group an image is needed to score within groups")
    kinds = np.array([group or "" for group in groups])
    owners = np.array(patients)
    found = {}
    for kind in sorted(set(kinds.tolist()) - {""}):
        mine = kinds == kind
        said, truth = probabilities[mine], labels[mine]
        interval = None
        if resamples:
            interval = patient_intervals(
                lambda weights, said=said, truth=truth: {  # type: ignore[misc]
                    "macro_auc": mean_of_defined(_aucs(said, truth, weights))
                },
                owners[mine].tolist(),
                seed=seed,
                resamples=resamples,
            ).get("macro_auc")
        found[kind] = GroupScores(
            scores=score(said, truth, names),
            calibration=calibration(said, truth, names),
            interval=interval,
            patients=len(set(owners[mine].tolist())),
        )
    return found


def _aucs(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], weights: Weights
) -> list[NDArray[np.float64]]:
    return [
        weighted_auc(said, truth, weights[:, known])
        for said, truth, known in known_columns(probabilities, labels)
    ]


def _figures(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    names: Sequence[str],
    decided: NDArray[np.int8],
    weights: Weights,
) -> dict[str, NDArray[np.float64]]:
    aucs = _aucs(probabilities, labels, weights)
    precisions: list[NDArray[np.float64]] = []
    briers: list[NDArray[np.float64]] = []
    errors: list[NDArray[np.float64]] = []
    f1s: list[NDArray[np.float64]] = []
    mass: list[NDArray[np.float64]] = []
    for column, (said, truth, known) in enumerate(known_columns(probabilities, labels)):
        there = weights[:, known]
        precisions.append(weighted_precision(said, truth, there))
        undefined = ~np.isfinite(aucs[column])  # one class only: no calibration to speak of
        for into, values in (
            (briers, weighted_brier(said, truth, there)),
            (errors, weighted_ece(said, truth, there)),
        ):
            values[undefined] = np.nan
            into.append(values)
        mine = decided[:, column] != UNDECIDED
        positive = labels[mine, column] > 0
        f1s.append(weighted_f1(decided[mine, column] > 0, positive, weights[:, mine]))
        mass.append(weights[:, mine] @ positive.astype(np.float64))
    return {
        "macro_auc": mean_of_defined(aucs),
        "macro_average_precision": mean_of_defined(precisions),
        "weighted_f1": mean_of_defined(f1s, mass),
        "brier": mean_of_defined(briers),
        "ece": mean_of_defined(errors),
        **{f"auc/{name}": each for name, each in zip(names, aucs, strict=True)},
        **{f"average_precision/{n}": each for n, each in zip(names, precisions, strict=True)},
    }
