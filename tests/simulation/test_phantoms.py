"""Phantoms: the release's layout, the same bytes each time, findings that can be seen."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from client.data.chexpert import load_chexpert
from client.data.nih import check_nih, load_nih
from client.data.records import FINDINGS
from ledger.errors import ConfigError, OutputError
from simulation.phantom_film import render
from simulation.phantom_findings import SIGNS
from simulation.phantom_patients import Visit, visits
from simulation.phantoms import NIH_HEADER, write_phantoms


def digest(root: Path) -> str:
    state = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        state.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return state.hexdigest()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("p") / "nih", 40, 7, size=48).root


def test_the_real_loader_reads_them_and_finds_nothing_wrong(tree: Path) -> None:
    report = check_nih(tree)
    assert report.problems == ()
    assert report.patients == 40
    assert report.images > 60, "several images a patient"
    assert set(report.views) == {"AP", "PA"}
    assert set(report.sexes) == {"F", "M"}
    train, test = load_nih(tree, "train"), load_nih(tree, "test")
    assert len(test.patients()) == 8
    assert len(train) + len(test) == report.images
    header = (tree / "Data_Entry_2017_v2020.csv").read_text().splitlines()[0]
    assert header == NIH_HEADER


def test_same_seed_same_bytes_and_another_seed_another(tree: Path, tmp_path: Path) -> None:
    again = write_phantoms(tmp_path / "again", 40, 7, size=48).root
    other = write_phantoms(tmp_path / "other", 40, 8, size=48).root
    assert digest(again) == digest(tree) != digest(other)


def test_a_patient_does_not_depend_on_how_many_there_are(tree: Path, tmp_path: Path) -> None:
    few = write_phantoms(tmp_path / "few", 3, 7, size=48).root
    name = Path("images_001/images/00000002_000.png")
    assert (few / name).read_bytes() == (tree / name).read_bytes()


def picture(severity: dict[str, float], seed: int, view: str = "PA") -> np.ndarray:
    visit = Visit(
        patient=1,
        follow_up=0,
        age=55,
        sex="M",
        view="AP" if view == "AP" else "PA",
        severity=severity,
    )
    return render(visit, 64, np.random.default_rng(seed)).astype(np.float64)


def test_every_finding_has_a_sign() -> None:
    assert tuple(SIGNS) == FINDINGS


@pytest.mark.parametrize("finding", FINDINGS)
def test_every_finding_can_be_seen(finding: str) -> None:
    """With all else drawn alike, the finding changes the film well over its noise."""
    changes = [np.abs(picture({finding: 0.9}, s) - picture({}, s)).max() for s in range(5)]
    assert np.median(changes) > 25


def test_illness_brings_clusters_and_bed_side_films() -> None:
    drawn = [v for p in range(1500) for v in visits(p, np.random.default_rng([5, p]))]
    ap = [v.view == "AP" for v in drawn]
    ill = [len(v.severity) for v in drawn]
    assert 0.2 < np.mean(ap) < 0.7
    assert np.corrcoef(ap, ill)[0, 1] > 0.3
    shows = {f: np.array([f in v.severity for v in drawn]) for f in FINDINGS}
    assert shows["Edema"][shows["Cardiomegaly"]].mean() > 2 * shows["Edema"].mean()
    for finding in FINDINGS:
        assert 0.02 < shows[finding].mean() < 0.4, finding


def test_output_must_be_empty_and_arguments_in_range(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="not empty"):
        write_phantoms(tmp_path / "full", 3, 0, size=32)
    for patients, seed, size in ((1, 0, 32), (3, -1, 32), (3, 0, 16)):
        with pytest.raises(ConfigError):
            write_phantoms(tmp_path / "none", patients, seed, size=size)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full"]
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep"
    (tmp_path / "empty").mkdir()
    assert write_phantoms(tmp_path / "empty", 2, 0, size=32).images >= 2


def test_failure_half_way_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_phantoms(tmp_path / "out", 4, 0, size=32, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_few_chexpert_patients_still_have_one_to_test_on(tmp_path: Path) -> None:
    root = write_phantoms(tmp_path / "c", 2, 0, size=32, layout="chexpert").root
    assert len(load_chexpert(root, "test").patients()) == 1
    assert len(load_chexpert(root, "train").patients()) == 1
