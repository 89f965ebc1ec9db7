"""Partitions: patient-disjoint, complete, deterministic, and skewed as their names say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data.records import Cohort
from ledger.errors import ConfigError, DataError
from simulation.partition import partition, split_patients
from tests.client.data.trees import cohort_of

SCHEMES = ("iid", "dirichlet:0.3", "dirichlet:100", "quantity:0.5", "silos")


def sample(patients: int, seed: int = 0) -> Cohort:
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        ill = rng.random()
        for _ in range(rng.integers(1, 5)):
            labels = tuple(int(v) for v in rng.random(14) < 0.3 * ill)
            rows.append((f"p{patient}", labels, "AP" if rng.random() < ill else "PA"))
    return cohort_of(rows)


COHORT = sample(200)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(SCHEMES), st.integers(1, 12), st.integers(12, 40), st.integers(0, 2**32 - 1))
def test_every_record_once_no_patient_twice_no_hospital_empty(
    scheme: str, hospitals: int, patients: int, seed: int
) -> None:
    cohort = sample(patients, seed % 7)
    parts = partition(cohort, hospitals, scheme, seed)
    assert len(parts) == hospitals
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(cohort)))
    owners = [set(cohort.select(part).patients()) for part in parts]
    assert all(owners)
    assert sum(map(len, owners)) == len(set().union(*owners))
    again = partition(cohort, hospitals, scheme, seed)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


def label_spread(scheme: str) -> float:
    """Return how far the hospitals' prevalences lie apart, over three seeds."""
    spread = []
    for seed in range(3):
        parts = partition(COHORT, 4, scheme, seed)
        shares = [(COHORT.label_matrix()[part] == 1).mean(axis=0) for part in parts]
        spread.append(float(np.std(shares, axis=0).mean()))
    return float(np.mean(spread))


def test_dirichlet_skews_labels_more_the_smaller_alpha() -> None:
    assert label_spread("dirichlet:0.1") > 2 * label_spread("iid")
    assert label_spread("dirichlet:0.1") > label_spread("dirichlet:100")


def test_quantity_skews_sizes() -> None:
    sizes = [len(part) for part in partition(COHORT, 4, "quantity:0.3", 0)]
    assert max(sizes) > 3 * min(sizes)


def test_silos_differ_by_view_and_illness() -> None:
    parts = [COHORT.select(part) for part in partition(COHORT, 3, "silos", 0)]
    ap = [np.mean([r.view == "AP" for r in part.records]) for part in parts]
    ill = [(part.label_matrix() == 1).mean() for part in parts]
    assert ap[0] < ap[1] < ap[2]
    assert ill[0] < ill[1] < ill[2]


def test_by_source() -> None:
    records = tuple(
        type(r)(
            image=r.image,
            image_id=r.image_id,
            patient=r.patient,
            labels=r.labels,
            source="nih" if r.patient < "p5" else "chexpert",
        )
        for r in COHORT.records
    )
    joined = Cohort(records, COHORT.vocabulary, "joined")
    parts = partition(joined, 2, "source", 0)
    assert [{joined.records[i].source for i in part} for part in parts] == [{"chexpert"}, {"nih"}]
    with pytest.raises(DataError, match="2 sources"):
        partition(joined, 3, "source", 0)


@pytest.mark.parametrize(
    "scheme",
    [
        "",
        "random",
        "iid:1",
        "silos:2",
        "dirichlet",
        "dirichlet:",
        "dirichlet:0",
        "dirichlet:-1",
        "dirichlet:nan",
        "dirichlet:inf",
        "dirichlet:x",
    ],
)
def test_bad_schemes(scheme: str) -> None:
    with pytest.raises(ConfigError, match="partition"):
        partition(COHORT, 3, scheme, 0)


def test_too_many_hospitals() -> None:
    with pytest.raises(DataError, match="5 patients cannot be split over 6 hospitals"):
        partition(sample(5), 6, "iid", 0)
    with pytest.raises(ConfigError, match="at least 1"):
        partition(COHORT, 0, "iid", 0)
    with pytest.raises(DataError, match="0 patients"):
        partition(COHORT.select([]), 1, "iid", 0)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.2, 0.999])
def test_split_patients(share: float) -> None:
    train, held = split_patients(COHORT, share, 1)
    assert sorted([*train, *held]) == list(range(len(COHORT)))
    ours, theirs = COHORT.select(train).patients(), COHORT.select(held).patients()
    assert not set(ours) & set(theirs)
    assert ours
    assert bool(theirs) == (share > 0)


def test_split_refuses_what_cannot_be_split() -> None:
    one = sample(1)
    assert len(split_patients(one, 0.0, 0)[0]) == len(one)
    with pytest.raises(DataError, match="too few"):
        split_patients(one, 0.2, 0)
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(ConfigError, match="share"):
            split_patients(COHORT, share, 0)
