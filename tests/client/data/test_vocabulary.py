"""Vocabularies: synonyms, unions, and silence that is unknown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from client.data.chexpert import CHEXPERT_FINDINGS
from client.data.records import FINDINGS, Cohort
from client.data.sources import load_source, load_sources
from client.data.vocabulary import ABNORMAL, SYNONYMS, align, canonical, join, project, union
from ledger.errors import ConfigError, DataError
from tests.client.data.trees import cohort_of, row, write_image, write_tree


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
        ("No finding", "No_Finding"),
        ("ABNORMAL", "Abnormal"),
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


OF_ALL = ("Pleural Effusion", "Mass", "Support Devices", "No Finding")


@pytest.mark.parametrize(
    ("labels", "abnormal"),
    [
        ((1, 0, 0, 0), 1),
        ((1, -2, -1, 0), 1),
        ((1, 0, 0, 1), 1),  # a finding outweighs "No Finding" beside it
        ((0, 0, 0, 1), 0),
        ((0, 0, 1, 1), 0),  # a device is none
        ((-1, -1, -1, 1), 0),  # it answers for what is blank
        ((0, -1, 0, 1), 0),
        ((0, 0, -1, -1), 0),  # silent on "No Finding", but not on findings
        ((0, 0, 1, -1), 0),
        ((-2, 0, 0, 1), -2),  # not for what is uncertain
        ((0, -2, 0, 0), -2),
        ((-1, -2, 0, -1), -2),
        ((0, -1, 0, 0), -1),
        ((-1, -1, 1, -1), -1),
        ((0, 0, 0, 0), -1),  # something is found that is no column here
        ((0, 0, 0, -2), -1),
    ],
)
def test_abnormal_is_made_of_all_findings(labels: tuple[int, ...], abnormal: int) -> None:
    made = project(small(OF_ALL, labels, "x"), ["abnormal"])
    assert (made.vocabulary, made.records[0].labels) == ((ABNORMAL,), (abnormal,))
    beside = project(small(OF_ALL, labels, "x"), ["Fracture", "Abnormal", "Mass"])
    assert beside.records[0].labels == (-1, abnormal, labels[1])


@pytest.mark.parametrize(("labels", "abnormal"), [((0, 0), 0), ((0, 1), 1), ((0, -2), -2)])
def test_abnormal_without_no_finding(labels: tuple[int, ...], abnormal: int) -> None:
    assert project(small(("Mass", "Edema"), labels, "x"), [ABNORMAL]).records[0].labels == (
        abnormal,
    )


def test_abnormal_that_is_labelled_is_taken_as_it_is() -> None:
    cohort = small(("Mass", "Abnormal"), (1, 0), "x")
    assert project(cohort, [ABNORMAL]).records[0].labels == (0,)
    alone = small(("Support Devices", "No Finding"), (1, 0), "x")
    with pytest.raises(DataError, match="none of the agreed findings"):
        project(alone, [ABNORMAL])
    assert project(cohort, ["Mass"]).vocabulary == ("Mass",)  # and nobody gets it unasked


def test_two_columns_of_one_finding_are_one_before_abnormal() -> None:
    cohort = small(("Effusion", "Pleural Effusion"), (0, -1), "x")
    assert project(cohort, [ABNORMAL]).records[0].labels == (0,)


def test_sources_say_by_themselves_what_is_abnormal(tmp_path: Path) -> None:
    """An NIH film without findings is normal, though NIH is silent on fractures."""
    nih = write_tree(tmp_path / "nih", [row("a.png", 1), row("b.png", 2, "Mass|Hernia")])
    other = tmp_path / "other"
    write_image(other / "c.png", 3)
    text = "image,patient,age,sex,view,follow_up,Fracture,Mass\nc.png,7,50,F,PA,0,1,0\n"
    (other / "table.csv").write_text(text)
    joined = load_sources([nih, other], vocabulary=[ABNORMAL])
    assert joined.vocabulary == (ABNORMAL,)
    assert [record.labels for record in joined.records] == [(0,), (1,), (1,)]
    alone = project(load_source(nih), [ABNORMAL])
    assert alone.records == load_sources([nih], vocabulary=[ABNORMAL]).records
    late = project(load_sources([nih, other]), [ABNORMAL])  # too late: silence has become unknown
    assert late.records[0].labels == (-1,)
