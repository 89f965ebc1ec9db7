"""Vocabularies: synonyms, unions, and silence that is unknown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from client.data.chexpert import CHEXPERT_FINDINGS
from client.data.records import FINDINGS, Cohort
from client.data.vocabulary import SYNONYMS, align, canonical, join, project, union
from ledger.errors import ConfigError, DataError
from tests.client.data.trees import cohort_of


def small(vocabulary: tuple[str, ...], labels: tuple[int, ...], source: str) -> Cohort:
    record = replace(cohort_of([("1", (0,) * 14, "PA")]).records[0], labels=labels, source=source)
    return Cohort((record,), vocabulary, source)


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("Pleural Effusion", "Effusion"),
        ("pleural_thickening", "Pleural_Thickening"),
        ("PLEURAL-THICKENING", "Pleural_Thickening"),
        ("Lung Lesion", "Lung_Lesion"),
        ("Hiatal hernia", "Hernia"),
        ("Rib  notching", "Rib_notching"),
    ],
)
def test_canonical(name: str, meaning: str) -> None:
    assert canonical(name) == meaning
    assert canonical(meaning) == meaning


def test_every_synonym_has_a_source_and_a_known_meaning() -> None:
    for synonym in SYNONYMS:
        assert synonym.source
        assert canonical(synonym.name) == synonym.canonical
        assert canonical(synonym.canonical) == synonym.canonical


def test_mass_and_nodule_are_not_lesion() -> None:
    assert len({canonical(n) for n in ("Mass", "Nodule", "Lung Lesion")}) == 3


def test_union_of_nih_and_chexpert() -> None:
    names = union([CHEXPERT_FINDINGS, FINDINGS])
    assert names[:14] == FINDINGS
    shared = {
        "Atelectasis",
        "Cardiomegaly",
        "Effusion",
        "Pneumonia",
        "Pneumothorax",
        "Consolidation",
        "Edema",
    }
    assert len(names) == 14 + 13 - len(shared)


def test_silence_is_unknown_not_absent() -> None:
    nih = small(("Mass", "Effusion"), (0, 1), "nih")
    chexpert = small(("Pleural Effusion", "Fracture"), (-2, 0), "chexpert")
    first, second = align([nih, chexpert])
    assert first.vocabulary == second.vocabulary == ("Effusion", "Mass", "Fracture")
    assert first.records[0].labels == (1, 0, -1)
    assert second.records[0].labels == (-2, -1, 0)


@pytest.mark.parametrize(
    ("labels", "merged"),
    [((1, 0), 1), ((0, -2), -2), ((0, -1), 0), ((-1, -1), -1), ((-2, 1), 1)],
)
def test_columns_that_mean_the_same_are_merged(labels: tuple[int, int], merged: int) -> None:
    cohort = small(("Effusion", "Pleural Effusion"), labels, "x")
    assert project(cohort, ["Effusion"]).records[0].labels == (merged,)


def test_bad_vocabularies() -> None:
    cohort = small(("Mass",), (1,), "x")
    with pytest.raises(DataError, match="twice"):
        project(cohort, ["Effusion", "Pleural Effusion"])
    with pytest.raises(DataError, match="none of the agreed findings"):
        project(cohort, ["Fracture"])
    with pytest.raises(ConfigError, match="no name"):
        canonical("  ")


def test_joined_cohorts_keep_patients_apart() -> None:
    joined = join([small(("Mass",), (1,), "nih"), small(("Fracture",), (1,), "dicom")])
    assert joined.patients() == ("nih:1", "dicom:1")
    assert joined.vocabulary == ("Mass", "Fracture")
    with pytest.raises(DataError, match="different names"):
        join([small(("Mass",), (1,), "nih")] * 2)
