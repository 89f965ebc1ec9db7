"""The CheXpert loader and what uncertain labels become."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from client.data.check import Kind
from client.data.chexpert import CHEXPERT_FINDINGS, COMPETITION, check_chexpert, load_chexpert
from client.data.preprocess import load_pixels
from client.data.records import ABSENT, PRESENT, UNCERTAIN, UNKNOWN
from client.data.uncertainty import (
    Policy,
    classes,
    harden,
    positive_probability,
    relabel,
    soft_labels,
)
from ledger.errors import ConfigError, DataError
from simulation.phantoms import write_phantoms
from tests.client.data.trees import write_image

RELEASE = "CheXpert-v1.0-small"
HEADER = ",".join(
    ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding", *CHEXPERT_FINDINGS]
)
A = "train/patient00001/study1/view1_frontal.jpg"
B = "train/patient00001/study2/view1_lateral.jpg"
C = "train/patient00002/study1/view1_frontal.jpg"
D = "valid/patient00009/study1/view1_frontal.jpg"


def line(path: str, side: str, view: str, healthy: str = "", **cells: str) -> str:
    """Return a row; findings are named with underscores."""
    labels = [cells.get(name.replace(" ", "_"), "") for name in CHEXPERT_FINDINGS]
    return ",".join([f"{RELEASE}/{path}", "Female", "61", side, view, healthy, *labels])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rows = [
        line(A, "Frontal", "AP", Edema="1.0", Pneumonia="-1.0", Atelectasis="0.0"),
        line(B, "Lateral", "", Edema="1.0"),
        line(C, "Frontal", "PA", healthy="1.0").replace("Female,61", "Unknown,0"),
    ]
    home = tmp_path / RELEASE
    for number, path in enumerate((A, B, C, D)):
        write_image(home / path, number)
    (home / "train.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    zeros = {name.replace(" ", "_"): "0.0" for name in CHEXPERT_FINDINGS}
    valid = line(D, "Frontal", "PA", healthy="0.0", **(zeros | {"Fracture": "1.0"}))
    (home / "valid.csv").write_text(f"{HEADER}\n{valid}\n")
    return tmp_path


def label(cohort_labels: tuple[int, ...], name: str) -> int:
    return cohort_labels[CHEXPERT_FINDINGS.index(name)]


def test_reads_rows_of_both_tables(root: Path) -> None:
    cohort = load_chexpert(root, policy="multiclass")
    assert [r.image_id for r in cohort.records] == [A, C, D], "frontal images only"
    first, healthy, valid = cohort.records
    assert (first.patient, first.age, first.sex, first.view) == ("00001", 61, "F", "AP")
    assert (healthy.age, healthy.sex) == (None, None), "0 and Unknown are not known"
    assert label(first.labels, "Edema") == PRESENT
    assert label(first.labels, "Pneumonia") == UNCERTAIN
    assert label(first.labels, "Fracture") == ABSENT, "a blank is absent, as the baselines read it"
    assert label(valid.labels, "Fracture") == PRESENT
    assert load_chexpert(root / RELEASE).digest() == load_chexpert(root).digest()
    assert [r.image_id for r in load_chexpert(root, "train", views="lateral").records] == [B]
    assert load_chexpert(root, "train", views="all").records[1].view == "LATERAL"
    assert load_chexpert(root, "train", views="all").records[1].follow_up == 1
    assert set(COMPETITION) <= set(cohort.vocabulary)


def test_blank_as_unknown(root: Path) -> None:
    first, healthy, _ = load_chexpert(root, blank="unknown").records
    assert label(first.labels, "Fracture") == UNKNOWN
    assert label(healthy.labels, "Fracture") == ABSENT, "No Finding rules the others out"
    assert label(healthy.labels, "Support Devices") == UNKNOWN, "which is no pathology"


@pytest.mark.parametrize(
    ("policy", "value"),
    [("ignore", UNKNOWN), ("zeros", ABSENT), ("ones", PRESENT), ("selftrained", UNCERTAIN)],
)
def test_policies(root: Path, policy: str, value: int) -> None:
    assert label(load_chexpert(root, policy=policy).records[0].labels, "Pneumonia") == value


def test_unknown_policy(root: Path) -> None:
    with pytest.raises(ConfigError, match="unknown uncertainty policy 'maybe'"):
        load_chexpert(root, policy="maybe")


LABELS = np.array([[1, 0, -1, -2]] * 200, dtype=np.int8)


def test_soft_labels() -> None:
    ignore = soft_labels(LABELS, Policy.IGNORE)
    assert ignore.known[0].tolist() == [True, True, False, False]
    for policy, low, high in ((Policy.SMOOTH_ONES, 0.55, 0.85), (Policy.SMOOTH_ZEROS, 0.0, 0.3)):
        soft = soft_labels(LABELS, policy, seed=3)
        drawn = soft.targets[:, 3]
        assert low <= drawn.min() < drawn.max() <= high
        assert soft.targets[0, :2].tolist() == [1, 0]
        assert soft.known[0].tolist() == [True, True, False, True]
        assert np.array_equal(soft.targets, soft_labels(LABELS, policy, seed=3).targets)
    guess = np.full(LABELS.shape, 0.4)
    own = soft_labels(LABELS, Policy.SELFTRAINED, probabilities=guess)
    assert own.targets[0].tolist() == pytest.approx([1, 0, 0, 0.4])
    assert soft_labels(LABELS, Policy.ONES).targets[0, 3] == 1
    for bad in (None, guess[:3], guess + 1):
        with pytest.raises(ConfigError, match="selftrained"):
            soft_labels(LABELS, Policy.SELFTRAINED, probabilities=bad)
    with pytest.raises(ConfigError, match="multiclass"):
        soft_labels(LABELS, Policy.MULTICLASS)


def test_smoothing_draws_labels_with_the_soft_labels_mean() -> None:
    labels = np.full((4000, 1), UNCERTAIN, dtype=np.int8)
    for policy, mean in ((Policy.SMOOTH_ONES, 0.70), (Policy.SMOOTH_ZEROS, 0.15)):
        drawn = harden(soft_labels(labels, policy, seed=5), 5)
        assert set(np.unique(drawn)) == {0, 1}
        assert drawn.mean() == pytest.approx(mean, abs=0.03)  # 4 standard errors
    certain = soft_labels(LABELS, Policy.IGNORE)
    assert np.array_equal(harden(certain, 0)[0], [1, 0, -1, -1])


def test_smoothed_and_relabelled_cohorts(root: Path) -> None:
    smooth = load_chexpert(root, policy="smooth-ones")
    assert UNCERTAIN not in smooth.label_matrix()
    assert smooth.digest() == load_chexpert(root, policy="smooth-ones").digest()
    own = load_chexpert(root, policy="selftrained")
    sure = np.ones(own.label_matrix().shape)
    assert label(relabel(own, sure).records[0].labels, "Pneumonia") == PRESENT
    assert label(relabel(own, sure * 0).records[0].labels, "Pneumonia") == ABSENT
    assert label(relabel(own, sure * 0).records[0].labels, "Edema") == PRESENT


def test_multiclass() -> None:
    assert classes(LABELS)[0].tolist() == [1, 0, -1, 2]
    logits = np.array([[[0.0, 2.0, 50.0]]])
    assert positive_probability(logits)[0, 0] == pytest.approx(1 / (1 + np.exp(-2.0)))


def edit(old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        table = root / RELEASE / "train.csv"
        text = table.read_text()
        assert old in text
        table.write_text(text.replace(old, new, 1))

    return change


FAULTS: dict[str, tuple[Callable[[Path], object], Kind, str]] = {
    "missing": (lambda r: (r / RELEASE / A).unlink(), Kind.MISSING, A),
    "unreadable": (lambda r: (r / RELEASE / A).write_bytes(b"x"), Kind.UNREADABLE, A),
    "extra": (
        lambda r: write_image(r / RELEASE / C.replace("view1", "view9"), 7),
        Kind.EXTRA,
        C.replace("view1", "view9"),
    ),
    "bad_label": (edit("-1.0", "0.5"), Kind.BAD_ROW, "train.csv row 2"),
    "bad_view": (edit("Frontal,AP", "Frontal,XX"), Kind.BAD_ROW, "train.csv row 2"),
    "bad_side": (edit("Frontal,AP", "Back,AP"), Kind.BAD_ROW, "train.csv row 2"),
    "bad_sex": (edit("Female", "Fem"), Kind.BAD_ROW, "train.csv row 2"),
    "bad_age": (edit("61", "161"), Kind.BAD_ROW, "train.csv row 2"),
    "path_leaves": (
        edit(f"{RELEASE}/train", f"{RELEASE}/../train"),
        Kind.BAD_ROW,
        "train.csv row 2",
    ),
    "no_patient": (edit("patient00001", "person1"), Kind.BAD_ROW, "train.csv row 2"),
    "row_twice": (edit(B, A), Kind.DUPLICATE_ROW, A),
    "in_both": (
        lambda r: (r / RELEASE / "valid.csv").write_text(
            (r / RELEASE / "valid.csv").read_text().replace(D, A)
        ),
        Kind.DUPLICATE_ROW,
        A,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_check_names_the_fault(root: Path, fault: str) -> None:
    change, kind, name = FAULTS[fault]
    assert check_chexpert(root).ok
    change(root)
    report = check_chexpert(root)
    assert not report.ok
    assert (kind, name) in {(p.kind, p.name) for p in report.problems}
    if fault not in {"unreadable", "extra"}:  # loading opens no image and reads no folder
        with pytest.raises(DataError):
            load_chexpert(root)


def test_patient_in_both_tables_is_an_error(root: Path) -> None:
    other = A.replace("train", "valid").replace("study1", "study5")
    write_image(root / RELEASE / other, 3)
    with (root / RELEASE / "valid.csv").open("a") as handle:
        handle.write(line(other, "Frontal", "PA") + "\n")
    with pytest.raises(DataError, match="patient in both lists: patient00001"):
        load_chexpert(root)


def test_one_image_in_both_tables_is_an_error(root: Path) -> None:
    (root / RELEASE / D).write_bytes((root / RELEASE / C).read_bytes())
    report = check_chexpert(root)
    assert [(p.kind, p.name, p.detail) for p in report.errors] == [(Kind.LEAK, D, f"as {C}")]


def test_a_damaged_image_is_told_from_its_namesakes(root: Path) -> None:
    (root / RELEASE / C).write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"patient00002/study1/view1_frontal\.jpg is not"):
        load_pixels(load_chexpert(root, "train"), 8)


def test_missing_tables_and_columns(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no train\.csv or valid\.csv"):
        load_chexpert(tmp_path / "elsewhere")
    (root / RELEASE / "valid.csv").unlink()
    with pytest.raises(DataError, match=r"has no valid\.csv"):
        load_chexpert(root, "test")
    edit("Edema,", "Oedema,")(root)
    with pytest.raises(DataError, match="lacks the column Edema"):
        load_chexpert(root)


def test_phantoms_in_this_layout(tmp_path: Path) -> None:
    root = write_phantoms(tmp_path / "p", 30, 3, size=32, layout="chexpert").root
    report = check_chexpert(root)
    assert report.ok
    assert report.patients == 30
    assert report.views["LATERAL"] > 0
    assert sum(counts["uncertain"] for counts in report.labels.values()) > 0
    assert not set(load_chexpert(root, "train").patients()) & set(
        load_chexpert(root, "test").patients()
    )
