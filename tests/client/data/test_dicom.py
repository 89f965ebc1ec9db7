"""DICOM: how pixels are shown, what a folder holds, and what a header may leave behind."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.data
import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRLittleEndian

from client.data.check import Kind
from client.data.decode import decode
from client.data.deidentify import SiteKey, deidentify_dicom
from client.data.dicom import check_dicom, load_dicom
from ledger.errors import DataError
from simulation.phantom_formats import dicom_file
from simulation.phantom_patients import Visit
from simulation.phantoms import write_phantoms

FILM = (np.arange(64 * 64, dtype=np.uint32) * 255 // 4095).astype(np.uint8).reshape(64, 64)
VISIT = Visit(patient=11, follow_up=2, age=93, sex="F", view="AP", severity={})
BUNDLED = Path(pydicom.data.__file__).parent / "test_files"


def file(seed: int = 0) -> FileDataset:
    return dicom_file(VISIT, FILM, np.random.default_rng(seed), 0)


def plain(**attributes: Any) -> FileDataset:
    """Return an uncompressed 12-bit film without window, then as told."""
    dataset = file()
    for keyword in (
        "WindowCenter",
        "WindowWidth",
        "RescaleSlope",
        "RescaleIntercept",
        "RescaleType",
        "VOILUTFunction",
    ):
        if keyword in dataset:
            delattr(dataset, keyword)
    stored = FILM.astype(np.uint16) * 16
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.set_pixel_data(stored, "MONOCHROME2", 12, generate_instance_uid=False)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def saved(dataset: FileDataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("seed", range(12))
def test_every_way_of_storing_shows_the_same_film(seed: int) -> None:
    """Depth, window, rescale, inversion and RLE vary with the seed; the film does not."""
    shown = decode(saved(file(seed)), "x").astype(int)
    assert np.abs(shown - FILM).max() <= 2


def test_monochrome1_is_inverted() -> None:
    shown = decode(saved(plain(PhotometricInterpretation="MONOCHROME1")), "x")
    assert np.abs(shown.astype(int) - (255 - FILM)).max() <= 1


def test_window_clips() -> None:
    middle = plain(WindowCenter=1000, WindowWidth=400)
    shown = decode(saved(middle), "x")
    stored = FILM.astype(int) * 16
    assert shown[stored <= 800].max() == 0
    assert shown[stored >= 1200].min() == 255


@pytest.mark.parametrize("width", [0, -5])
def test_a_window_against_the_rules_counts_as_none(width: int) -> None:
    shown = decode(saved(plain(WindowCenter=1000, WindowWidth=width)), "x")
    assert np.abs(shown.astype(int) - FILM).max() <= 1


def test_padding_is_black_and_outside_the_range() -> None:
    dataset = plain()
    stored = FILM.astype(np.uint16) * 16
    stored[:8] = 4095
    dataset.set_pixel_data(stored, "MONOCHROME2", 12, generate_instance_uid=False)
    dataset.PixelPaddingValue = 4095
    dataset["PixelPaddingValue"].VR = "US"
    stored_low = stored[8:].max()
    shown = decode(saved(dataset), "x")
    assert stored_low < 4095
    assert shown[:8].max() == 0
    assert shown[8:].max() == 255


REFERENCE = ("MR_small_RLE", "MR_small_bigendian", "MR_small_implicit", "MR_small_padded")
LOSSLESS = ("MR_small_jp2klossless", "MR_small_jpeg_ls_lossless")


@pytest.mark.parametrize("name", REFERENCE)
def test_transfer_syntaxes_of_pydicoms_own_files(name: str) -> None:
    expected = decode((BUNDLED / "MR_small.dcm").read_bytes(), "x")
    assert np.array_equal(decode((BUNDLED / f"{name}.dcm").read_bytes(), "x"), expected)


@pytest.mark.skipif(find_spec("gdcm") is None, reason="the extra thoracle[dicom] is not installed")
@pytest.mark.parametrize("name", LOSSLESS)
def test_compressed_syntaxes_with_the_extra(name: str) -> None:
    expected = decode((BUNDLED / "MR_small.dcm").read_bytes(), "x")
    assert np.array_equal(decode((BUNDLED / f"{name}.dcm").read_bytes(), "x"), expected)


@pytest.mark.skipif(find_spec("gdcm") is not None, reason="the extra thoracle[dicom] is installed")
def test_without_the_extra_the_sentence_says_what_to_install() -> None:
    with pytest.raises(DataError, match=r"JPEG-LS .* pip install 'thoracle\[dicom\]'"):
        decode((BUNDLED / "MR_small_jpeg_ls_lossless.dcm").read_bytes(), "x")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("SC_rgb_rle_2frame", "holds 2 frames"),
        ("image_dfl", "deflated"),
        ("examples_palette", "PALETTE COLOR"),
        ("MR_truncated", "damaged"),
        ("rtplan", "holds no image"),
        ("no_meta", "not a readable"),
    ],
)
def test_what_is_no_single_radiograph_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        decode((BUNDLED / f"{name}.dcm").read_bytes(), name)


def test_huge_declared_size_is_refused() -> None:
    with pytest.raises(DataError, match="declares"):
        decode(saved(plain(Rows=60_000, Columns=60_000)), "x")


def test_damage_never_escapes_as_another_error() -> None:
    good = saved(file())
    rng = np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(good)
        at = int(rng.integers(0, min(len(good), 2500)))
        broken[at : at + 6] = rng.bytes(6)
        try:
            decode(bytes(broken), "x")
        except DataError:
            continue


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_phantoms(tmp_path / "d", 6, 1, size=32, layout="dicom").root


def test_folder_of_phantoms(folder: Path) -> None:
    report = check_dicom(folder)
    assert report.problems == ()
    cohort = load_dicom(folder)
    assert report.images == len(cohort) > 6
    assert len(cohort.patients()) == 6
    assert {r.view for r in cohort.records} <= {"PA", "AP"}
    follow_ups = [r.follow_up for r in cohort.records if r.patient == cohort.records[0].patient]
    assert sorted(follow_ups) == list(range(len(follow_ups)))
    assert all(r.age is not None and r.sex for r in cohort.records)


def test_without_a_table_every_label_is_unknown(folder: Path) -> None:
    (folder / "labels.csv").unlink()
    assert set(load_dicom(folder).label_matrix().reshape(-1).tolist()) == {-1}


def test_labels_by_accession_number(folder: Path) -> None:
    first = load_dicom(folder).records[0]
    number = dcmread(first.image).AccessionNumber
    (folder / "labels.csv").unlink()
    (folder / "studies.csv").write_text(f"acc,says\n{number},Mass\n")
    (folder / "mapping.toml").write_text(
        'table = "studies.csv"\n[columns]\nimage = "acc"\n[labels]\nlist = "says"\n'
        'findings = ["Mass", "Edema"]\n'
    )
    labels = {r.image_id: r.labels for r in load_dicom(folder).records}
    assert labels.pop(first.image_id) == (1, 0)
    assert set(labels.values()) == {(-1, -1)}


def first_file(root: Path) -> Path:
    return sorted(root.rglob("*.dcm"))[0]


def resave(root: Path, **changes: Any) -> None:
    path = first_file(root)
    dataset = dcmread(path)
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def _until_rows(path: Path) -> bytes:
    data = path.read_bytes()
    return data[: data.index(b"\x28\x00\x10\x00US")]


FAULTS: dict[str, tuple[Callable[[Path], object], Kind, bool]] = {
    "not_dicom": (lambda r: (r / "notes.txt").write_text("x"), Kind.EXTRA, True),
    "truncated": (
        lambda r: first_file(r).write_bytes(first_file(r).read_bytes()[:1100]),
        Kind.UNREADABLE,
        True,
    ),
    "cut_before_its_size": (
        lambda r: first_file(r).write_bytes(_until_rows(first_file(r))),
        Kind.UNREADABLE,
        True,
    ),
    "linked_folder": (lambda r: (r / "more").symlink_to(".."), Kind.UNREADABLE, True),
    "hidden_file": (lambda r: (r / ".DS_Store").write_bytes(b"x"), Kind.SKIPPED, False),
    "no_patient": (lambda r: resave(r, PatientID=""), Kind.BAD_ROW, True),
    "same_file_twice": (
        lambda r: (r / "copy.dcm").write_bytes(first_file(r).read_bytes()),
        Kind.DUPLICATE_FILE,
        True,
    ),
    # left out with a note; that its label row then names no image is the error
    "other_modality": (lambda r: resave(r, Modality="CT"), Kind.SKIPPED, True),
    "name_in_the_pixels": (
        lambda r: resave(r, BurnedInAnnotation="YES"),
        Kind.BURNT_IN,
        False,
    ),
    "label_of_no_image": (
        lambda r: (r / "labels.csv").write_text("image,Mass\n9.9,1\n"),
        Kind.LISTED_UNKNOWN,
        True,
    ),
    "label_not_known": (
        lambda r: (r / "labels.csv").write_text("image,Mass\n9.9,7\n"),
        Kind.UNKNOWN_FINDING,
        True,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(folder: Path, fault: str) -> None:
    change, kind, wrong = FAULTS[fault]
    change(folder)
    report = check_dicom(folder)
    assert kind in {p.kind for p in report.problems}
    assert report.ok != wrong


def test_unreadable_pixels_are_named_by_file(folder: Path) -> None:
    path = first_file(folder)
    resave(folder, NumberOfFrames=2)
    (found,) = check_dicom(folder).errors
    assert (found.kind, found.name) == (Kind.UNREADABLE, path.relative_to(folder).as_posix())


def test_deidentified_file_holds_no_identifier_and_the_same_film() -> None:
    dataset = file(5)
    dataset.add_new(0x00091001, "LO", "private Moreau")
    key = SiteKey(b"k" * 32)
    clean = deidentify_dicom(dataset, key)
    data = saved(clean)
    original = saved(dataset)
    planted = [
        str(dataset.PatientName.family_name),
        str(dataset.PatientID),
        "Harbour",
        "Quill",
        "Elswith",
        str(dataset.StudyDate),
        str(dataset.PatientBirthDate),
        str(dataset.AccessionNumber),
        str(dataset.SOPInstanceUID),
        "private",
    ]
    for word in planted:
        assert word.encode() in original, "the bait was there"
        assert word.encode() not in data, word
    assert np.array_equal(decode(data, "x"), decode(original, "x"))
    again = dcmread(io.BytesIO(data))
    assert again.PatientAge == "090Y", "ages over 89 are grouped"
    assert again.PatientSex == "F"
    assert again.PatientIdentityRemoved == "YES"
    assert [c.CodeValue for c in again.DeidentificationMethodCodeSequence] == ["113100", "113108"]
    assert again.SOPInstanceUID == again.file_meta.MediaStorageSOPInstanceUID
    assert again.PatientID == key.pseudonym("patient", dataset.PatientID)
