"""Prepared sets: they hold what the source held, and nobody's name."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from client.data.commands import app
from client.data.deidentify import SiteKey, deidentify, draw_key, open_site_key
from client.data.dicom import load_dicom
from client.data.nih import load_nih
from client.data.pipeline import Preprocessing
from client.data.prepare import prepare
from client.data.preprocess import load_pixels
from client.data.sources import check_source, detect, load_source, load_sources
from client.data.table import load_table
from ledger.errors import BadKey, ConfigError, DataError, InsecureKeyFile, OutputError
from simulation.partition import partition
from simulation.phantoms import write_phantoms
from tests.client.data.trees import row, write_tree

KEY = SiteKey(bytes(range(32)))
PLAN = Preprocessing(size=32)
runner = CliRunner()


@pytest.fixture(scope="module")
def dicoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("p") / "dicom"
    return write_phantoms(out, 8, 2, size=32, layout="dicom").root


def test_a_prepared_set_is_the_same_data(dicoms: Path, tmp_path: Path) -> None:
    source = load_dicom(dicoms)
    made = prepare(source, tmp_path / "out", PLAN, KEY)
    again = load_table(tmp_path / "out")
    assert again.digest() == made.cohort.digest() == bytes.fromhex(str(made.about["cohort_digest"]))
    assert again.vocabulary == source.vocabulary
    for before, after in zip(source.records, again.records, strict=True):
        assert (before.labels, before.view, before.sex, before.follow_up) == (
            after.labels,
            after.view,
            after.sex,
            after.follow_up,
        )
        assert after.age == min(before.age or 0, 90)
    assert np.array_equal(source.patient_codes(), again.patient_codes()), "who is whose is kept"
    pixels = load_pixels(again, 32)
    assert np.array_equal(pixels, load_pixels(source, 32))
    assert made.about["pixels_digest"] == hashlib.sha256(pixels.tobytes()).hexdigest()
    assert check_source(tmp_path / "out").ok


def test_same_key_same_bytes_another_key_other_names(dicoms: Path, tmp_path: Path) -> None:
    source = load_dicom(dicoms)
    first = prepare(source, tmp_path / "a", PLAN, KEY)
    second = prepare(source, tmp_path / "b", PLAN, KEY)
    other = prepare(source, tmp_path / "c", PLAN, SiteKey(b"x" * 32))
    assert first.about == second.about
    assert (tmp_path / "a" / "table.csv").read_bytes() == (
        tmp_path / "b" / "table.csv"
    ).read_bytes()
    assert not set(first.cohort.patients()) & set(other.cohort.patients())
    assert first.about["pixels_digest"] == other.about["pixels_digest"]


def test_no_identifier_is_left_in_any_file_or_name(dicoms: Path, tmp_path: Path) -> None:
    from pydicom import dcmread

    planted: set[str] = set()
    for record in load_dicom(dicoms).records:
        header = dcmread(record.image, stop_before_pixels=True)
        planted |= {
            str(header.PatientID),
            str(header.PatientName.family_name),
            str(header.PatientName.given_name),
            str(header.AccessionNumber),
            str(header.StudyDate),
            str(header.PatientBirthDate),
            str(header.SOPInstanceUID),
            str(header.StudyInstanceUID),
            record.image.parent.parent.name,
        }
    command = [
        "prepare",
        str(dicoms),
        str(tmp_path / "out"),
        "--key",
        str(tmp_path / "k"),
        "--size",
        "32",
    ]
    result = runner.invoke(app, command)
    assert result.exit_code == 0, result.output
    files = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    text = b"\n".join(p.read_bytes() for p in files) + b"\n".join(str(p).encode() for p in files)
    text += result.output.encode()
    assert len(planted) > 20
    assert [word for word in planted if word.encode() in text] == []


def test_key_files(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    first = open_site_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert open_site_key(path).pseudonym("patient", "7") == first.pseudonym("patient", "7")
    assert open_site_key(tmp_path / "other").pseudonym("patient", "7") != first.pseudonym(
        "patient", "7"
    )
    assert first.pseudonym("image", "7") != first.pseudonym("patient", "7")
    secret = path.read_text().strip()
    assert secret not in repr(first)
    path.chmod(0o644)
    with pytest.raises(InsecureKeyFile):
        open_site_key(path)
    path.chmod(0o600)
    path.write_text("short")
    with pytest.raises(BadKey):
        open_site_key(path)


def test_deidentify_groups_old_ages(tmp_path: Path) -> None:
    root = write_tree(tmp_path, [row("a.png", 5, age="95"), row("b.png", 5, age="89")])
    clean = deidentify(load_nih(root), KEY)
    assert [r.age for r in clean.records] == [90, 89]
    assert clean.records[0].patient == clean.records[1].patient != "5"


def test_bad_images_stop_or_are_skipped_by_name(tmp_path: Path) -> None:
    names = [f"{n}.png" for n in "abcd"]
    root = write_tree(tmp_path / "nih", [row(name, i) for i, name in enumerate(names)])
    (root / "images_001" / "images" / "a.png").write_bytes(b"damaged")
    command = ["prepare", str(root), str(tmp_path / "out"), "--key", str(tmp_path / "k")]
    stopped = runner.invoke(app, command)
    assert isinstance(stopped.exception, DataError)
    assert "a.png" in str(stopped.exception)
    assert not (tmp_path / "out").exists()
    skipped = runner.invoke(app, [*command, "--bad", "skip", "--json"])
    assert skipped.exit_code == 0, skipped.output
    about = json.loads(skipped.stdout)
    assert (about["images"], about["skipped"]) == (3, 1)
    assert "a.png" in skipped.stderr


def test_bad_dicom_files_are_skipped_by_name(dicoms: Path, tmp_path: Path) -> None:
    root = tmp_path / "dicom"
    shutil.copytree(dicoms, root)
    bad = min(root.rglob("*.dcm"))
    bad.write_bytes(b"no longer DICOM")
    command = ["prepare", str(root), str(tmp_path / "out"), "--key", str(tmp_path / "k")]
    stopped = runner.invoke(app, command)
    assert isinstance(stopped.exception, DataError)
    done = runner.invoke(app, [*command, "--size", "32", "--bad", "skip", "--json"])
    assert done.exit_code == 0, done.output
    about = json.loads(done.stdout)
    assert about["images"] == len(load_dicom(dicoms)) - 1
    assert about["skipped"] == 2, "the file, and the row that labels it"
    assert bad.relative_to(root).as_posix() in done.stderr.replace("\n", "")


def test_output_must_be_empty(dicoms: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="not empty"):
        prepare(load_dicom(dicoms), tmp_path, PLAN, KEY)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_one_process_at_a_time_and_what_a_killed_one_left(dicoms: Path, tmp_path: Path) -> None:
    draft = tmp_path / ".out.draft"
    (draft / "images").mkdir(parents=True)
    (draft / "table.csv").write_text("half")
    holder = os.open(draft, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(OutputError, match="another process is making"):
        prepare(load_dicom(dicoms), tmp_path / "out", PLAN, KEY)
    assert (draft / "table.csv").read_text() == "half"
    os.close(holder)
    prepare(load_dicom(dicoms), tmp_path / "out", PLAN, KEY)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert not (tmp_path / "out" / "table.csv").read_text().startswith("half")


def test_a_key_is_drawn_once(tmp_path: Path) -> None:
    first = open_site_key(tmp_path / "k")
    draw_key(tmp_path / "k")  # as of a second process that saw no key yet
    assert open_site_key(tmp_path / "k").pseudonym("patient", "7") == first.pseudonym(
        "patient", "7"
    )


def test_detection(dicoms: Path, tmp_path: Path) -> None:
    assert detect(dicoms) == "dicom"
    assert detect(write_phantoms(tmp_path / "n", 2, 0, size=32).root) == "nih"
    chexpert = write_phantoms(tmp_path / "c", 2, 0, size=32, layout="chexpert").root
    assert detect(chexpert) == detect(chexpert / "CheXpert-v1.0-small") == "chexpert"
    (tmp_path / "t").mkdir()
    with pytest.raises(DataError, match="none of the known sources"):
        detect(tmp_path / "t")
    (tmp_path / "t" / "table.csv").write_text("image,patient,Mass\n")
    assert detect(tmp_path / "t") == "table"
    with pytest.raises(ConfigError, match="unknown kind"):
        load_source(dicoms, kind="tiff")
    with pytest.raises(ConfigError, match="has no train list"):
        load_source(dicoms, "train")
    assert load_source(dicoms).digest() == load_dicom(dicoms).digest()


def test_preview_writes_a_sheet_without_identifiers(dicoms: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    result = runner.invoke(app, ["preview", str(dicoms), str(sheet), "--count", "3"])
    assert result.exit_code == 0, result.output
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert b"MRN" not in sheet.read_bytes()


def test_several_sources_are_one_cohort_under_one_vocabulary(dicoms: Path, tmp_path: Path) -> None:
    nih = write_phantoms(tmp_path / "n", 4, 0, size=32).root
    chexpert = write_phantoms(tmp_path / "c", 4, 0, size=32, layout="chexpert").root
    joined = load_sources([nih, chexpert, nih, dicoms], "train")
    assert {r.source for r in joined.records} == {"nih-1", "nih-2", "chexpert", "dicom"}
    column = joined.vocabulary.index("Fracture")
    assert {r.labels[column] for r in joined.records if r.source == "nih-1"} == {-1}
    assert 0 in {r.labels[column] for r in joined.records if r.source == "chexpert"}
    parts = partition(joined, 4, "source", 0)
    assert [len({joined.records[i].source for i in part}) for part in parts] == [1] * 4
    assert load_pixels(joined, 32).shape[0] == len(joined)
