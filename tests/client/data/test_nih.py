"""The NIH loader: what it reads, and how it names what it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from client.data.boxes import load_boxes
from client.data.check import Kind
from client.data.commands import app
from client.data.nih import check_nih, load_nih, read_nih
from client.data.records import FINDINGS
from client.data.tables import parse_age
from ledger.errors import DataError
from tests.client.data.test_images import bomb
from tests.client.data.trees import HEADER, row, write_image, write_tree

NAMES = ("00000001_000.png", "00000001_001.png", "00000002_000.png", "00000003_000.png")
ROWS = (
    row(NAMES[0], 1, "Cardiomegaly|Pleural_Thickening", "57", "M", "AP"),
    row(NAMES[1], 1),
    row(NAMES[2], 2, "Hernia", "058Y"),
    row(NAMES[3], 3, "Effusion", "412"),
)
TABLE = "Data_Entry_2017_v2020.csv"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "nih", ROWS, train=NAMES[:3], test=NAMES[3:])


def test_reads_every_column(tree: Path) -> None:
    cohort = load_nih(tree)
    assert cohort.vocabulary == FINDINGS
    assert [r.image_id for r in cohort.records] == list(NAMES)
    first = cohort.records[0]
    assert (first.patient, first.age, first.sex, first.view) == ("1", 57, "M", "AP")
    assert [FINDINGS[i] for i, v in enumerate(first.labels) if v] == [
        "Cardiomegaly",
        "Pleural_Thickening",
    ]
    assert cohort.records[2].age == 58
    assert cohort.records[3].age is None, "412 years are taken as unknown"
    assert cohort.patients() == ("1", "2", "3")
    assert cohort.patient_codes().tolist() == [0, 0, 1, 2]


def test_lists_select(tree: Path) -> None:
    assert len(load_nih(tree, "train")) == 3
    assert [r.image_id for r in load_nih(tree, "test").records] == [NAMES[3]]


def test_check_of_a_sound_tree(tree: Path) -> None:
    report = check_nih(tree)
    assert report.ok
    assert [p.kind for p in report.problems] == [Kind.IMPLAUSIBLE]
    assert (report.images, report.patients) == (4, 3)
    assert report.labels["Hernia"]["present"] == 1
    assert report.subsets == {"train": (3, 2), "test": (1, 1)}


@pytest.mark.parametrize(
    ("text", "years"),
    [("57", 57), ("057Y", 57), ("013M", 1), ("011M", 0), ("004D", 0), ("", None), ("x", False)],
)
def test_age(text: str, years: int | None) -> None:
    assert parse_age(text) is years or parse_age(text) == years


def _rewrite(root: Path, old: str, new: str) -> None:
    text = (root / TABLE).read_text()
    assert old in text
    (root / TABLE).write_text(text.replace(old, new, 1))


def _append(file: str, line: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        with (root / file).open("a") as handle:
            handle.write(line + "\n")

    return change


def _truncate(root: Path) -> None:
    path = root / "images_001" / "images" / NAMES[0]
    path.write_bytes(path.read_bytes()[:60])


def _same_bytes_in_both_lists(root: Path) -> None:
    twin = root / "images_002" / "images" / NAMES[3]
    twin.write_bytes((root / "images_001" / "images" / NAMES[0]).read_bytes())


FAULTS: dict[str, tuple[Callable[[Path], object], Kind, str]] = {
    "missing_image": (
        lambda r: (r / "images_002" / "images" / NAMES[1]).unlink(),
        Kind.MISSING,
        NAMES[1],
    ),
    "truncated_image": (_truncate, Kind.UNREADABLE, NAMES[0]),
    "empty_image": (
        lambda r: (r / "images_001" / "images" / NAMES[0]).write_bytes(b""),
        Kind.UNREADABLE,
        NAMES[0],
    ),
    "blank_image": (
        lambda r: Image.new("L", (16, 16), 7).save(r / "images_001" / "images" / NAMES[0]),
        Kind.BLANK,
        NAMES[0],
    ),
    "decompression_bomb": (
        lambda r: (r / "images_001" / "images" / NAMES[0]).write_bytes(bomb(60_000, 60_000)),
        Kind.UNREADABLE,
        NAMES[0],
    ),
    "text_named_png": (
        lambda r: (r / "images_001" / "images" / NAMES[0]).write_text("no image"),
        Kind.UNREADABLE,
        NAMES[0],
    ),
    "extra_image": (
        lambda r: write_image(r / "images_003" / "images" / "stray.png", 9),
        Kind.EXTRA,
        "images_003/images/stray.png",
    ),
    "not_an_image": (
        lambda r: (r / "images_001" / "images" / "notes.txt").write_text("x"),
        Kind.EXTRA,
        "images_001/images/notes.txt",
    ),
    "image_in_two_folders": (
        lambda r: write_image(r / "images_003" / "images" / NAMES[0], 0),
        Kind.DUPLICATE_FILE,
        f"images_003/images/{NAMES[0]}",
    ),
    "unknown_finding": (
        lambda r: _rewrite(r, "Hernia", "Scoliosis"),
        Kind.UNKNOWN_FINDING,
        "row 4",
    ),
    "no_finding_and_one": (
        lambda r: _rewrite(r, "Hernia", "No Finding|Hernia"),
        Kind.UNKNOWN_FINDING,
        "row 4",
    ),
    "short_row": (lambda r: _append(TABLE, "00000009_000.png,Mass")(r), Kind.BAD_ROW, "row 6"),
    "bad_age": (lambda r: _rewrite(r, "058Y", "old"), Kind.BAD_ROW, "row 4"),
    "bad_sex": (lambda r: _rewrite(r, "57,M", "57,Q"), Kind.BAD_ROW, "row 2"),
    "bad_view": (lambda r: _rewrite(r, "M,AP", "M,XX"), Kind.BAD_ROW, "row 2"),
    "no_patient": (lambda r: _rewrite(r, "Hernia,0,2,", "Hernia,0,,"), Kind.BAD_ROW, "row 4"),
    "path_as_name": (lambda r: _rewrite(r, NAMES[2], "../" + NAMES[2]), Kind.BAD_ROW, "row 4"),
    "row_twice": (lambda r: _append(TABLE, ROWS[1])(r), Kind.DUPLICATE_ROW, NAMES[1]),
    "patient_in_both": (
        lambda r: _append("test_list.txt", NAMES[1])(r),
        Kind.OVERLAP,
        "1",
    ),
    "unlisted": (
        lambda r: (r / "test_list.txt").write_text("\n"),
        Kind.UNLISTED,
        NAMES[3],
    ),
    "listed_unknown": (
        _append("test_list.txt", "00000077_000.png"),
        Kind.LISTED_UNKNOWN,
        "00000077_000.png",
    ),
    "same_bytes_in_both_lists": (_same_bytes_in_both_lists, Kind.LEAK, NAMES[3]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_check_names_the_fault(tree: Path, fault: str) -> None:
    change, kind, name = FAULTS[fault]
    change(tree)
    report = check_nih(tree)
    assert not report.ok
    assert (kind, name) in {(p.kind, p.name) for p in report.problems}


@pytest.mark.parametrize(
    "fault",
    ["unknown_finding", "short_row", "bad_age", "row_twice", "missing_image", "patient_in_both"],
)
def test_loading_refuses_the_fault(tree: Path, fault: str) -> None:
    FAULTS[fault][0](tree)
    with pytest.raises(DataError, match=FAULTS[fault][2]):
        load_nih(tree)


def test_loading_minds_only_its_own_missing_images(tree: Path) -> None:
    (tree / "images_002" / "images" / NAMES[3]).unlink()
    assert len(load_nih(tree, "train")) == 3
    with pytest.raises(DataError, match=NAMES[3]):
        load_nih(tree, "test")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (HEADER.replace("Patient ID,", ""), "lacks the column Patient ID"),
        ("", "lacks the column"),
        (HEADER, "holds no images"),
        ("\x00\x01\x02", "lacks the column"),
    ],
)
def test_broken_tables(tree: Path, text: str, sentence: str) -> None:
    (tree / TABLE).write_text(text)
    with pytest.raises(DataError, match=sentence):
        load_nih(tree)


def test_table_that_is_not_utf8(tree: Path) -> None:
    (tree / TABLE).write_bytes(HEADER.encode() + b"\n\xff\xfe,\n")
    with pytest.raises(DataError, match="not in UTF-8"):
        load_nih(tree)


def test_no_folder_no_table_no_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        load_nih(tmp_path / "nowhere")
    with pytest.raises(DataError, match=f"has no {TABLE}"):
        load_nih(tmp_path)
    root = write_tree(tmp_path / "unlisted", ROWS)
    assert len(load_nih(root)) == 4
    with pytest.raises(DataError, match=r"has no test_list\.txt"):
        load_nih(root, "test")


def test_check_command(tree: Path) -> None:
    runner = CliRunner()
    good = runner.invoke(app, ["check", str(tree), "--json"])
    assert good.exit_code == 0
    assert json.loads(good.stdout)["images"] == 4
    for number in range(30):
        write_image(tree / "images_009" / "images" / f"stray{number}.png", number)
    bad = runner.invoke(app, ["check", str(tree), "--json"])
    assert bad.exit_code == 1
    extra = next(p for p in json.loads(bad.stdout)["problems"] if p["count"] == 30)
    assert len(extra["named"]) == 20, "the list is bounded, the count is whole"


REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "nih"


@pytest.mark.nih
@pytest.mark.skipif(not REAL.is_dir(), reason="the real radiographs are not beside the project")
def test_real_radiographs_load() -> None:
    train, test = load_nih(REAL, "train"), load_nih(REAL, "test")
    assert not set(train.patients()) & set(test.patients())
    assert len(train) > len(test) > 0
    assert {r.view for r in train.records} == {"PA", "AP"}


def test_boxes(tree: Path) -> None:
    assert load_boxes(tree) == {}
    path = tree / "BBox_List_2017.csv"
    head = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
    path.write_text(f"{head}{NAMES[0]},Infiltrate,256,512,128,64.0,,,\n")
    box = load_boxes(tree)[NAMES[0]][0]
    assert (box.finding, box.left, box.top, box.width, box.height) == (
        "Infiltration",
        0.25,
        0.5,
        0.125,
        0.0625,
    )
    for line, sentence in (
        (f"{NAMES[0]},Mass,1,2,3", "row 2 is not"),
        (f"{NAMES[0]},Mass,1000,2,100,3", "row 2 has a box"),
        (f"{NAMES[0]},Spot,1,2,3,4", "row 2 has the unknown finding"),
    ):
        path.write_text(f"{head}{line}\n")
        with pytest.raises(DataError, match=sentence):
            load_boxes(tree)


def test_converted_images_are_named(tree: Path) -> None:
    deep = np.arange(256, dtype=np.uint16).reshape(16, 16) * 16
    Image.fromarray(deep).save(tree / "images_001" / "images" / NAMES[0])
    Image.new("RGBA", (4, 4), (9, 9, 9, 255)).save(tree / "images_002" / "images" / NAMES[1])
    report = check_nih(tree)
    named = {(p.name, p.detail) for p in report.problems if p.kind is Kind.CONVERTED}
    assert (NAMES[0], "16-bit grey") in named
    assert [p.kind for p in report.errors] == [Kind.BLANK]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 500), st.text(max_size=12), st.integers(0, 12))
def test_a_garbled_table_never_escapes_as_another_error(at: int, noise: str, cut: int) -> None:
    text = "\n".join([HEADER, *ROWS]) + "\n"
    garbled = text[:at] + noise + text[at + cut :]
    with TemporaryDirectory() as folder:
        root = write_tree(Path(folder), ROWS, images=False)
        (root / TABLE).write_bytes(garbled.encode("utf-8", "surrogatepass"))
        try:
            tree = read_nih(root)
        except DataError:
            return
    named = {r.image_id for r in tree.records}
    lines = [line for line in garbled.splitlines()[1:] if line.strip()]
    told = sum(
        p.kind in {Kind.BAD_ROW, Kind.UNKNOWN_FINDING, Kind.DUPLICATE_ROW} for p in tree.problems
    )
    assert len(named) + told >= min(len(lines), 1), "a row is a record or a problem"
