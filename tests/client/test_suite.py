"""Decisions, calibration and intervals: each figure against scikit-learn's or by hand."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score

from client.learners.bootstrap import patient_intervals
from client.learners.calibration import calibration
from client.learners.operating import UNDECIDED, best_threshold, decide, fold_of, operate
from client.learners.statistics import (
    weighted_brier,
    weighted_ece,
    weighted_f1,
    weighted_precision,
)
from client.learners.suite import age_band, measure
from ledger.errors import DataError

NAMES = ("a", "b", "c")
Arrays = tuple[NDArray[np.float64], NDArray[np.int8], list[str]]


def sample(count: int = 240, seed: int = 0) -> Arrays:
    generator = np.random.default_rng(seed)
    truth = generator.random((count, 3)) < (0.5, 0.2, 0.1)
    said = np.clip(0.6 * truth + generator.normal(0.2, 0.25, (count, 3)), 0, 1).round(2)
    labels = truth.astype(np.int8)
    labels[generator.random((count, 3)) < 0.1] = -1
    return said, labels, [str(n // 2) for n in range(count)]


@pytest.mark.parametrize("seed", range(4))
def test_weighted_figures_are_scikit_learns(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.random(80) < 0.3
    said = np.clip(generator.normal(0.4, 0.2, 80) + 0.2 * truth, 0, 1).round(1)
    weights = generator.integers(0, 3, (5, 80)).astype(np.float64)
    for row, mine in enumerate(weights):
        kept = mine > 0
        checks: tuple[tuple[Callable[..., float], NDArray[np.float64], object], ...] = (
            (average_precision_score, weighted_precision(said, truth, weights), said[kept]),
            (brier_score_loss, weighted_brier(said, truth, weights), said[kept]),
            (f1_score, weighted_f1(said > 0.5, truth, weights), said[kept] > 0.5),
        )
        for sklearns, found, shown in checks:
            expected = sklearns(truth[kept], shown, sample_weight=mine[kept])
            assert found[row] == pytest.approx(expected)


def test_one_class_alone_is_not_defined() -> None:
    said, some = np.array([0.1, 0.9]), np.ones((1, 2))
    for truth in (np.zeros(2, bool), np.ones(2, bool)):
        assert np.isnan(weighted_precision(said, truth, some)[0])
    assert np.isnan(weighted_f1(said > 0.5, np.zeros(2, bool), some)[0])


def test_calibration_error_by_hand() -> None:
    # Two bins by the median: ten at 0.2 of which 4 are true, ten at 0.8 of which 9 are.
    said = np.repeat([0.2, 0.8], 10)
    truth = np.array([1] * 4 + [0] * 6 + [1] * 9 + [0], dtype=bool)
    assert weighted_ece(said, truth, np.ones((1, 20)), bins=2)[0] == pytest.approx(0.15)
    exact = np.array([1] * 2 + [0] * 8 + [1] * 8 + [0] * 2, dtype=bool)
    assert weighted_ece(said, exact, np.ones((1, 20)), bins=2)[0] == pytest.approx(0)


def test_calibration_is_masked_and_knows_the_prevalence_model() -> None:
    said, labels, _patients = sample()
    flat = np.full(labels.shape, 0.0)
    for column in range(3):
        flat[:, column] = labels[labels[:, column] >= 0, column].mean()
    found = calibration(flat, labels, NAMES)
    assert found.ece == pytest.approx(0)
    for label in found.labels:
        assert label.brier == pytest.approx(label.reference)
    changed = said.copy()
    changed[labels < 0] = 0.123
    assert calibration(changed, labels, NAMES) == calibration(said, labels, NAMES)
    nobody = calibration(said, np.zeros_like(labels), NAMES)
    assert (nobody.brier, nobody.ece, nobody.labels[0].brier) == (None, None, None)


def test_the_best_threshold_is_the_best() -> None:
    said, labels, _patients = sample()
    threshold = best_threshold(said[:, 0], labels[:, 0])
    known = labels[:, 0] >= 0
    truth = labels[known, 0] > 0
    every = [f1_score(truth, said[known, 0] >= t) for t in np.unique(said[known, 0])]
    assert f1_score(truth, said[known, 0] >= (threshold or 0)) == pytest.approx(max(every))
    assert best_threshold(said[:, 0], np.zeros(len(said), np.int8)) is None


def test_patients_stay_in_one_fold() -> None:
    patients = [str(n % 37) for n in range(200)]
    folds = fold_of(patients, 5)
    for patient in set(patients):
        assert len({int(f) for f, p in zip(folds, patients, strict=True) if p == patient}) == 1
    assert set(folds.tolist()) == set(range(5))


def test_nobody_is_decided_by_a_threshold_of_their_own() -> None:
    """Changing one fold's labels and scores changes no threshold that decides that fold."""
    said, labels, patients = sample()
    place = fold_of(patients)
    before, _used = decide(said, labels, patients)
    other_labels, other = labels.copy(), said.copy()
    mine = place == 2
    other_labels[mine] = np.where(labels[mine] < 0, -1, 1 - labels[mine])
    after, _used = decide(other, other_labels, patients)
    assert np.array_equal(before[mine], after[mine])
    assert (before[labels < 0] == UNDECIDED).all()


def test_thresholds_of_ones_own_flatter() -> None:
    """On noise, thresholds chosen on the very images judged beat those of other patients."""
    generator = np.random.default_rng(3)
    labels = (generator.random((120, 3)) < 0.06).astype(np.int8)
    said = generator.random((120, 3))
    patients = [str(n) for n in range(120)]
    honest = operate(said, labels, NAMES, patients)
    best = [best_threshold(said[:, n], labels[:, n]) or 0.0 for n in range(3)]
    own = [f1_score(labels[:, n], said[:, n] >= best[n]) for n in range(3)]
    assert honest.weighted_f1 is not None
    assert honest.weighted_f1 < float(np.mean(own))


def test_weighted_f1_is_scikit_learns_where_all_is_known() -> None:
    said, labels, patients = sample()
    labels = np.maximum(labels, 0)
    decided, _used = decide(said, labels, patients)
    expected = f1_score(labels, decided, average="weighted")
    assert operate(said, labels, NAMES, patients).weighted_f1 == pytest.approx(expected)


def test_every_figure_lies_in_its_interval_and_groups_are_scored_alone() -> None:
    said, labels, patients = sample()
    views = ["AP" if n % 3 else "PA" for n in range(len(said))]
    suite = measure(
        said, labels, NAMES, patients, resamples=200,
        groups={"view": views, "sex": [None] * len(said)},
    )  # fmt: skip
    for name, value in (
        ("macro_auc", suite.overall.macro_auc),
        ("macro_average_precision", suite.overall.macro_average_precision),
        ("weighted_f1", suite.operating.weighted_f1),
        ("brier", suite.calibration.brier),
        ("auc/b", suite.overall.labels[1].auc),
        ("average_precision/c", suite.overall.labels[2].average_precision),
    ):
        assert value is not None
        assert suite.intervals[name].low < value < suite.intervals[name].high
    assert suite.intervals["ece"].patients == 120
    assert set(suite.groups["view"]) == {"AP", "PA"}
    assert suite.groups["sex"] == {}
    alone = np.array([view == "PA" for view in views])
    assert suite.groups["view"]["PA"].scores.images == alone.sum()
    json.dumps(suite.to_record(), allow_nan=False)
    bare = measure(said, labels, NAMES, patients, resamples=0, groups={"view": views})
    assert not bare.intervals
    assert bare.groups["view"]["PA"].interval is None


def test_age_bands() -> None:
    assert [age_band(age) for age in (None, 0, 17, 18, 64, 65, 120)] == [
        None, "under 18", "under 18", "18 to 39", "40 to 64", "65 on", "65 on",
    ]  # fmt: skip


def test_arrays_that_do_not_fit_are_refused() -> None:
    said, labels, patients = sample()
    for call in (
        lambda: measure(said, labels, NAMES, patients[1:]),
        lambda: measure(said, labels, NAMES, patients, groups={"view": ["AP"]}),
        lambda: decide(said, labels, patients, folds=1),
        lambda: patient_intervals(lambda weights: {}, []),
    ):
        with pytest.raises(DataError):
            call()
