"""NIH ChestX-ray14 in the release's own layout (Wang et al., CVPR 2017).

    ROOT/Data_Entry_2017_v2020.csv      one row an image (the 2017 name is read too)
    ROOT/train_val_list.txt             the official lists, one image name a line
    ROOT/test_list.txt
    ROOT/images_0NN/images/*.png        any number of these folders; ROOT/images/ is read too

Nothing assumes a count or a size. A row that cannot be used is named by its line number.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from client.data.check import (
    CheckReport,
    Kind,
    Problem,
    Progress,
    check_images,
    leaks,
    refuse,
    summarise,
)
from client.data.records import FINDINGS, Cohort, Record, View
from client.data.tables import MAX_AGE, Row, parse_age, parse_sex, read_list, read_rows
from ledger.errors import DataError

TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
LISTS: dict[str, str] = {"train": "train_val_list.txt", "test": "test_list.txt"}
NEEDED = (
    "Image Index",
    "Finding Labels",
    "Follow-up #",
    "Patient ID",
    "Patient Age",
    "Patient Gender",
    "View Position",
)
NO_FINDING = "no finding"
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})

Subset = Literal["train", "test"]

_COLUMN = {name.casefold(): column for column, name in enumerate(FINDINGS)}


@dataclass(frozen=True, kw_only=True)
class NihTree:
    """A read tree: usable records of every row, its lists, and all that is wrong."""

    records: tuple[Record, ...]
    lists: dict[str, frozenset[str]]
    problems: tuple[Problem, ...]


def load_nih(root: Path, subset: Subset | None = None) -> Cohort:
    """Load the whole table, or the official train or test list of it.

    Args:
        root: the folder that holds the table and the image folders.
        subset: "train" (train_val_list.txt), "test" (test_list.txt), or None for every row.

    Raises:
        DataError: the folder, table, a needed column or list is missing; a row cannot be used;
            an image of the subset has no file; a patient is in both lists; nothing is left.
    """
    tree = read_nih(root)
    records = tree.records
    if subset is not None:
        if subset not in tree.lists:
            raise DataError(f"{root} has no {LISTS[subset]}")
        records = tuple(r for r in records if r.image_id in tree.lists[subset])
    wanted = {r.image_id for r in records}
    stops = [
        p
        for p in tree.problems
        if p.kind not in {Kind.EXTRA, Kind.UNLISTED, Kind.LISTED_UNKNOWN, Kind.MISSING}
        or (p.kind is Kind.MISSING and p.name in wanted)
        or (p.kind is Kind.LISTED_UNKNOWN and p.detail == LISTS.get(subset or ""))
    ]
    refuse(stops, str(root))
    if not records:
        raise DataError(f"{root} holds no images" + (f" of the {subset} list" if subset else ""))
    return Cohort(records=records, vocabulary=FINDINGS, source="nih")


def check_nih(root: Path, progress: Progress | None = None) -> CheckReport:
    """Read every row, list and image of a tree and report all that is wrong.

    Raises:
        DataError: there is no table to check, or it lacks a needed column.
    """
    tree = read_nih(root)
    missing = {p.name for p in tree.problems if p.kind is Kind.MISSING}
    present = tuple(r for r in tree.records if r.image_id not in missing)
    problems, digests = check_images(present, progress)
    lists = (tree.lists.get(name, frozenset[str]()) for name in ("train", "test"))
    problems = [*tree.problems, *problems, *leaks(digests, *lists)]
    subsets = {
        name: (len(chosen), len({r.patient for r in chosen}))
        for name, images in tree.lists.items()
        for chosen in [[r for r in tree.records if r.image_id in images]]
    }
    cohort = Cohort(records=tree.records, vocabulary=FINDINGS, source="nih")
    return summarise(cohort, str(root), problems, subsets)


def read_nih(root: Path) -> NihTree:
    """Read table, lists and folder listings; no image is opened.

    Raises:
        DataError: there is no table, it is too large, or it lacks a needed column.
    """
    table = find_table(root)
    files, problems = _index_images(root)
    records: dict[str, Record] = {}
    for outcome in _read_table(table, files, root):
        if isinstance(outcome, Problem):
            problems.append(outcome)
        elif outcome.image_id in records:
            problems.append(Problem(kind=Kind.DUPLICATE_ROW, name=outcome.image_id))
        else:
            records[outcome.image_id] = outcome
            if outcome.image_id not in files:
                problems.append(Problem(kind=Kind.MISSING, name=outcome.image_id))
    named = {*records, *(p.name for p in problems if p.kind is not Kind.EXTRA)}
    problems += [
        Problem(kind=Kind.EXTRA, name=str(path.relative_to(root)))
        for name, path in files.items()
        if name not in named
    ]
    lists = {name: read_list(root / file) for name, file in LISTS.items()}
    found = {name: images for name, images in lists.items() if images is not None}
    problems += _list_problems(records, found)
    return NihTree(records=tuple(records.values()), lists=found, problems=tuple(problems))


def find_table(root: Path) -> Path:
    """Return the path of the tree's label table.

    Raises:
        DataError: ``root`` is no folder, or holds neither name of the table.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    for name in TABLES:
        if (root / name).is_file():
            return root / name
    raise DataError(f"{root} has no {TABLES[0]}")


def _index_images(root: Path) -> tuple[dict[str, Path], list[Problem]]:
    """Map file name -> path over every image folder, in the folders' order."""
    files: dict[str, Path] = {}
    problems: list[Problem] = []
    for folder in [*sorted(root.glob("images_*/images")), root / "images"]:
        if not folder.is_dir():
            continue
        for path in _entries(folder):
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                problems.append(
                    Problem(kind=Kind.EXTRA, name=str(path.relative_to(root)), detail="no image")
                )
            elif path.name in files:
                problems.append(Problem(kind=Kind.DUPLICATE_FILE, name=str(path.relative_to(root))))
            else:
                files[path.name] = path
    return files, problems


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir(), key=lambda path: path.name)  # quicker than comparing paths
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror})") from None


def _read_table(table: Path, files: dict[str, Path], root: Path) -> Iterator[Record | Problem]:
    for row in read_rows(table, NEEDED):
        if isinstance(row, Problem):
            yield row
        else:
            yield from _read_row(row, files, root)


def _read_row(row: Row, files: dict[str, Path], root: Path) -> Iterator[Record | Problem]:
    name, findings, follow_up, patient, age, sex_text, view = (row.values[c] for c in NEEDED)
    labels = _labels(findings)
    if isinstance(labels, str):
        yield Problem(kind=Kind.UNKNOWN_FINDING, name=row.where, detail=f"{name}: {labels}")
        return
    years, sex = parse_age(age), parse_sex(sex_text)
    wrong = _wrong_field(name, patient, follow_up, view)
    if years is False:
        wrong = f"Patient Age {age!r}"
    if sex is False:
        wrong = f"Patient Gender {sex_text!r}"
    if wrong or years is False or sex is False:
        detail = f"{name or 'no image name'}: {wrong}"
        yield Problem(kind=Kind.BAD_ROW, name=row.where, detail=detail)
        return
    if years is not None and years > MAX_AGE:
        yield Problem(kind=Kind.IMPLAUSIBLE, name=row.where, detail=f"{name}: age {years}")
        years = None
    yield Record(
        image=files.get(name) or root / name,
        image_id=name,
        patient=patient,
        labels=labels,
        view=_VIEWS[view.upper()],
        age=years,
        sex=sex,
        follow_up=int(follow_up or 0),
        source="nih",
    )


_VIEWS: dict[str, View | None] = {"PA": "PA", "AP": "AP", "": None}


def _wrong_field(name: str, patient: str, follow_up: str, view: str) -> str:
    """Return which field cannot be used, or an empty string."""
    if not name or os.path.basename(name) != name:  # noqa: PTH119 - a Path a row is slow
        return f"Image Index {name!r}"
    if not patient:
        return "Patient ID is empty"
    if follow_up and not (follow_up.isascii() and follow_up.isdigit()):
        return f"Follow-up # {follow_up!r}"
    if view.upper() not in _VIEWS:
        return f"View Position {view!r}"
    return ""


def _labels(text: str) -> tuple[int, ...] | str:
    """Return the 14 labels of "A|B" or "No Finding", or what is wrong with the text."""
    labels = [0] * len(FINDINGS)
    names = [part.strip().casefold().replace(" ", "_") for part in text.split("|")]
    if names == [NO_FINDING.replace(" ", "_")]:
        return tuple(labels)
    for name, part in zip(names, text.split("|"), strict=True):
        if name not in _COLUMN:
            return repr(part.strip())
        labels[_COLUMN[name]] = 1
    return tuple(labels)


def _list_problems(
    records: dict[str, Record], lists: dict[str, frozenset[str]]
) -> Iterator[Problem]:
    for name, images in lists.items():
        for image in sorted(images - records.keys()):
            yield Problem(kind=Kind.LISTED_UNKNOWN, name=image, detail=LISTS[name])
    if len(lists) < len(LISTS):
        return
    patients = [
        {records[image].patient for image in images if image in records}
        for images in lists.values()
    ]
    for patient in sorted(set.intersection(*patients)):
        yield Problem(kind=Kind.OVERLAP, name=patient)
    for image in sorted(records.keys() - frozenset().union(*lists.values())):
        yield Problem(kind=Kind.UNLISTED, name=image)
