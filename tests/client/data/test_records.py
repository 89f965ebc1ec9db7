"""Records and cohorts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from client.data.records import Cohort
from ledger.errors import DataError
from tests.client.data.trees import cohort_of

LABELS = (1,) + (0,) * 13
COHORT = cohort_of([("a", LABELS, "PA"), ("b", LABELS, "AP"), ("a", (0,) * 14, "AP")])


def test_digest_depends_on_every_field_but_the_path() -> None:
    first = COHORT.records[0]
    moved = (replace(first, image=Path("elsewhere.png")), *COHORT.records[1:])
    assert replace(COHORT, records=moved).digest() == COHORT.digest()
    changes = [
        {"image_id": "z"},
        {"patient": "z"},
        {"labels": (0,) * 14},
        {"labels": (-1,) * 14},
        {"view": None},
        {"age": None},
        {"sex": None},
        {"follow_up": 3},
        {"source": "z"},
    ]
    digests = {
        replace(COHORT, records=(replace(first, **change), *COHORT.records[1:])).digest()  # type: ignore[arg-type]
        for change in changes
    }
    assert len(digests | {COHORT.digest()}) == len(changes) + 1
    assert COHORT.select([1, 0, 2]).digest() != COHORT.digest()


def test_select_and_patients() -> None:
    assert COHORT.patients() == ("a", "b")
    assert COHORT.select([2]).patients() == ("a",)
    assert COHORT.label_matrix().shape == (3, 14)
    assert Cohort((), COHORT.vocabulary, "x").label_matrix().shape == (0, 14)


def test_broken_cohorts_are_refused() -> None:
    with pytest.raises(DataError, match="twice"):
        COHORT.select([0, 0])
    with pytest.raises(DataError, match="has 14 labels"):
        Cohort(COHORT.records, ("Mass",), "x")
