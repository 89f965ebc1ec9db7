"""AUC, average precision, counts and intervals: against scikit-learn, and where undefined."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from client.learners.bootstrap import Interval
from client.learners.metrics import score
from client.learners.statistics import weighted_auc
from client.learners.suite import measure
from ledger.errors import DataError

NAMES = ("a", "b", "c")


def sample(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, (count, 3)).astype(np.int8)
    probabilities = np.round(0.6 * generator.random((count, 3)) + 0.3 * labels, 1)  # with ties
    return probabilities, labels


def test_figures_are_those_of_scikit_learn() -> None:
    probabilities, labels = sample(1)
    found = score(probabilities, labels, NAMES)
    expected = [roc_auc_score(labels[:, n], probabilities[:, n]) for n in range(3)]
    assert [label.auc for label in found.labels] == expected
    assert found.macro_auc == pytest.approx(np.mean(expected))
    assert found.macro_average_precision == pytest.approx(
        np.mean([average_precision_score(labels[:, n], probabilities[:, n]) for n in range(3)])
    )
    assert [label.positives for label in found.labels] == labels.sum(axis=0).tolist()


def test_unknown_labels_count_for_nothing() -> None:
    probabilities, labels = sample(2)
    hidden = labels.copy()
    hidden[20:, 1] = -1
    found = score(probabilities, hidden, NAMES).labels[1]
    alone = score(probabilities[:20], labels[:20], NAMES).labels[1]
    assert found == alone
    assert found.positives + found.negatives == 20


def test_undefined_figures_are_null_and_left_out_of_the_mean() -> None:
    probabilities, labels = sample(3)
    labels[:, 0] = 0
    labels[:, 2] = -1
    found = score(probabilities, labels, NAMES)
    assert (found.labels[0].auc, found.labels[2].average_precision) == (None, None)
    assert found.scored == 1
    assert found.macro_auc == found.labels[1].auc
    text = json.dumps(found.to_record(), allow_nan=False)
    assert json.loads(text)["labels"][0]["auc"] is None


def test_nothing_defined_at_all() -> None:
    found = score(np.full((4, 3), 0.5), np.zeros((4, 3), np.int8), NAMES)
    assert (found.macro_auc, found.macro_average_precision, found.scored) == (None, None, 0)


def test_views_are_scored_alone() -> None:
    # Within each view the ranking is perfect; across views it is not: the shortcut undone.
    probabilities = np.array([[0.1], [0.2], [0.8], [0.9]])
    labels = np.array([[0], [1], [0], [1]], np.int8)

    def within(*views: str | None) -> dict[str, float | None]:
        found = measure(
            probabilities, labels, ("x",), list("abcd"), groups={"view": views}, resamples=0
        )
        return {view: each.scores.macro_auc for view, each in found.groups["view"].items()}

    assert within("PA", "PA", "AP", "AP") == {"PA": 1.0, "AP": 1.0}
    assert score(probabilities, labels, ("x",)).macro_auc == 0.75
    assert set(within("PA", "PA", None, None)) == {"PA"}
    with pytest.raises(DataError):
        within("PA", "AP")


@pytest.mark.parametrize(
    ("probabilities", "labels"),
    [
        (np.zeros((3, 2)), np.zeros((3, 3), np.int8)),
        (np.zeros((2, 3)), np.zeros((3, 3), np.int8)),
        (np.full((3, 3), np.nan), np.zeros((3, 3), np.int8)),
    ],
)
def test_what_does_not_fit_is_refused(probabilities: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(DataError):
        score(probabilities, labels, NAMES)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), count=st.integers(4, 30))
def test_weighted_auc_is_scikit_learns(data: st.DataObject, count: int) -> None:
    scores = np.array(data.draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))) / 5
    truth = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    weights = np.array(
        data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)), float
    )
    found = weighted_auc(scores, truth, weights[None])[0]
    if not (weights[truth].sum() and weights[~truth].sum()):
        assert np.isnan(found)
    else:
        kept = weights > 0
        expected = roc_auc_score(truth[kept], scores[kept], sample_weight=weights[kept])
        assert found == pytest.approx(expected)


def interval(
    probabilities: np.ndarray,
    labels: np.ndarray,
    patients: list[str],
    *,
    seed: int = 0,
    resamples: int = 300,
) -> Interval | None:
    names = NAMES[: labels.shape[1]]
    found = measure(probabilities, labels, names, patients, seed=seed, resamples=resamples)
    return found.intervals.get("macro_auc")


def test_interval_holds_the_estimate_and_is_repeatable() -> None:
    probabilities, labels = sample(4, count=300)
    patients = [str(n // 3) for n in range(300)]
    first = interval(probabilities, labels, patients, seed=5)
    again = interval(probabilities, labels, patients, seed=5)
    other = interval(probabilities, labels, patients, seed=6)
    macro = score(probabilities, labels, NAMES).macro_auc
    assert first is not None
    assert macro is not None
    assert first == again != other
    assert first.low < macro < first.high
    assert first.patients == 100


def test_patients_not_images_are_drawn() -> None:
    # The same 40 images ten times over: image-wise the interval would shrink by about three.
    probabilities, labels = sample(7, count=40)
    many, repeated = np.tile(probabilities, (10, 1)), np.tile(labels, (10, 1))
    by_patient = interval(many, repeated, [str(n % 40) for n in range(400)])
    by_image = interval(many, repeated, [str(n) for n in range(400)])
    assert by_patient is not None
    assert by_image is not None
    assert by_patient.high - by_patient.low > 2 * (by_image.high - by_image.low)


def test_no_interval_where_nothing_is_defined() -> None:
    assert interval(np.zeros((4, 1)), np.zeros((4, 1), np.int8), list("abcd")) is None
    with pytest.raises(DataError):
        interval(np.zeros((4, 1)), np.zeros((4, 1), np.int8), ["a"])
