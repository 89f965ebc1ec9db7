"""CheXpert (Irvin et al., AAAI 2019), ``CheXpert-v1.0`` and ``-small``, in its own layout.

    ROOT/train.csv, ROOT/valid.csv       one row an image; valid.csv is what radiologists labelled
    ROOT/train/patient00001/study1/view1_frontal.jpg ...

ROOT is the release's folder or the one that holds it. The images may not be redistributed:
hospitals bring their own copy. A cell is 1, 0, -1 (uncertain) or blank (not mentioned). What -1
becomes is the policy of ``client.data.uncertainty``. A blank is read as absent, as the authors'
baselines do, or as unknown; where "No Finding" is 1 a blank is absent either way, except for
Support Devices, which is no pathology.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
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
from client.data.records import ABSENT, PRESENT, UNCERTAIN, UNKNOWN, Cohort, Record, View
from client.data.tables import MAX_AGE, Row, parse_age, parse_sex, read_rows
from client.data.uncertainty import Policy, resolve
from ledger.errors import DataError

CHEXPERT_FINDINGS: tuple[str, ...] = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
"""The release's findings in its order; "No Finding" is read but is no finding."""

COMPETITION: tuple[str, ...] = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Pleural Effusion",
)
"""The five findings the CheXpert competition scores."""

NO_FINDING = "No Finding"
TABLES: dict[str, str] = {"train": "train.csv", "test": "valid.csv"}
PERSONAL = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")
RELEASES = ("CheXpert-v1.0", "CheXpert-v1.0-small")

Subset = Literal["train", "test"]
Views = Literal["frontal", "lateral", "all"]
Blank = Literal["absent", "unknown"]

_PLACE = re.compile(r"patient(\d+)/study(\d+)/[^/]+\.(?:jpe?g|png)", re.IGNORECASE)
_CELLS = {"1": PRESENT, "1.0": PRESENT, "0": ABSENT, "0.0": ABSENT, "-1": UNCERTAIN}
_CELLS["-1.0"] = UNCERTAIN


def load_chexpert(
    root: Path,
    subset: Subset | None = None,
    *,
    policy: Policy | str = Policy.IGNORE,
    views: Views = "frontal",
    blank: Blank = "absent",
) -> Cohort:
    """Load train.csv ("train"), valid.csv ("test") or both (None).

    Args:
        root: the release's folder, or its parent.
        subset: which table.
        policy: what an uncertain label becomes; see ``client.data.uncertainty``.
        views: frontal images, lateral ones, or all.
        blank: what a finding that is not mentioned is taken for.

    Raises:
        DataError: a table, column or image is missing, a row cannot be used, a patient is in
            both tables, or nothing is left.
    """
    home, records, problems = _read(root, blank)
    wanted = TABLES[subset] if subset else None
    if wanted and not (home / wanted).is_file():
        raise DataError(f"{home} has no {wanted}")
    chosen = [r for table, r in records if wanted in {None, table} and _seen(r, views)]
    missing = [Problem(kind=Kind.MISSING, name=r.image_id) for r in chosen if not r.image.is_file()]
    refuse([*problems, *missing], str(home))
    if not chosen:
        raise DataError(f"{home} holds no {views} images")
    cohort = Cohort(records=tuple(chosen), vocabulary=CHEXPERT_FINDINGS, source="chexpert")
    return resolve(cohort, Policy(policy))


def check_chexpert(root: Path, progress: Progress | None = None) -> CheckReport:
    """Read every row and image, frontal and lateral, and report all that is wrong.

    Raises:
        DataError: there is no table to check, or it lacks a needed column.
    """
    home, records, problems = _read(root, "absent")
    missing = {r.image_id for _, r in records if not r.image.is_file()}
    problems += [Problem(kind=Kind.MISSING, name=name) for name in sorted(missing)]
    named = {r.image_id for _, r in records}
    problems += [Problem(kind=Kind.EXTRA, name=name) for name in _files(home) if name not in named]
    present = [r for _, r in records if r.image_id not in missing]
    found, digests = check_images(present, progress)
    lists = {name: [r for t, r in records if t == table] for name, table in TABLES.items()}
    subsets = {name: (len(rs), len({r.patient for r in rs})) for name, rs in lists.items() if rs}
    found += leaks(digests, *([r.image_id for r in lists[name]] for name in ("train", "test")))
    cohort = Cohort(tuple(r for _, r in records), CHEXPERT_FINDINGS, "chexpert")
    return summarise(cohort, str(home), [*problems, *found], subsets)


def find_release(root: Path) -> Path:
    """Return the folder that holds the tables: ``root`` or a release's folder in it.

    Raises:
        DataError: neither holds train.csv or valid.csv.
    """
    for home in (root, *(root / name for name in RELEASES)):
        if any((home / table).is_file() for table in TABLES.values()):
            return home
    raise DataError(f"{root} has no {' or '.join(TABLES.values())}")


def _read(root: Path, blank: Blank) -> tuple[Path, list[tuple[str, Record]], list[Problem]]:
    """Return the release's folder, (table, record) of every usable row, and the problems."""
    home = find_release(root)
    records: dict[str, tuple[str, Record]] = {}
    problems: list[Problem] = []
    for table in TABLES.values():
        if not (home / table).is_file():
            continue
        for row in read_rows(home / table, (*PERSONAL, *CHEXPERT_FINDINGS), (NO_FINDING,)):
            outcome = row if isinstance(row, Problem) else _record(row, home, blank)
            if isinstance(outcome, Problem):
                named = Problem(
                    kind=outcome.kind, name=f"{table} {outcome.name}", detail=outcome.detail
                )
                problems.append(named)
            elif outcome.image_id in records:
                problems.append(Problem(kind=Kind.DUPLICATE_ROW, name=outcome.image_id))
            else:
                records[outcome.image_id] = (table, outcome)
    problems += _overlaps(list(records.values()))
    return home, list(records.values()), problems


def _record(row: Row, home: Path, blank: Blank) -> Record | Problem:
    values = row.values
    path = _relative(values["Path"])
    place = _PLACE.search(path.as_posix()) if path else None
    years, sex = parse_age(values["Age"]), parse_sex(values["Sex"])
    view = _view(values["Frontal/Lateral"], values["AP/PA"])
    labels = _labels(values, blank)
    wrong = {
        "Path": path is None or place is None,
        "Age": years is False or (years or 0) > MAX_AGE,
        "Sex": sex is False,
        "AP/PA": view is False,
    }
    for column, broken in wrong.items():
        if broken:
            return Problem(kind=Kind.BAD_ROW, name=row.where, detail=f"{column} {values[column]!r}")
    if isinstance(labels, str):
        return Problem(kind=Kind.BAD_ROW, name=row.where, detail=labels)
    if path is None or place is None or years is False or sex is False or view is False:
        raise AssertionError("unreachable: checked above")
    return Record(
        image=home / path,
        image_id=path.as_posix(),
        patient=place[1],
        labels=labels,
        view=view,
        age=years or None,  # the release writes 0 where the age is not known
        sex=sex,
        follow_up=max(int(place[2]) - 1, 0),
        source="chexpert",
    )


def _relative(text: str) -> Path | None:
    """Return the path under the release's folder; None if it would leave it."""
    path = Path(text)
    if path.parts and path.parts[0] in RELEASES:
        path = Path(*path.parts[1:])
    if not text or path.is_absolute() or ".." in path.parts:
        return None
    return path


def _view(side: str, projection: str) -> View | Literal[False] | None:
    if side == "Lateral":
        return "LATERAL"
    if side != "Frontal":
        return False
    views: dict[str, View | None] = {"AP": "AP", "PA": "PA", "": None, "LL": None, "RL": None}
    return views.get(projection, False)


def _labels(values: dict[str, str], blank: Blank) -> tuple[int, ...] | str:
    """Return one label a finding, or what is wrong with a cell."""
    healthy = values.get(NO_FINDING, "") in {"1", "1.0"}
    labels = []
    for finding in CHEXPERT_FINDINGS:
        cell = values[finding]
        if cell and cell not in _CELLS:
            return f"{finding} {cell!r}"
        silent = ABSENT if blank == "absent" else UNKNOWN
        if healthy and finding != "Support Devices":
            silent = ABSENT
        labels.append(_CELLS[cell] if cell else silent)
    return tuple(labels)


def _seen(record: Record, views: Views) -> bool:
    return views == "all" or (record.view == "LATERAL") == (views == "lateral")


def _files(home: Path) -> Iterator[str]:
    """Yield the image files under the folders that the tables name, as the tables write them."""
    for table in TABLES.values():
        for path in sorted((home / Path(table).stem).rglob("*")):
            if path.suffix.lower() in {".jpg", ".jpeg", ".png"}:
                yield path.relative_to(home).as_posix()


def _overlaps(records: list[tuple[str, Record]]) -> Iterator[Problem]:
    patients: dict[str, set[str]] = {}
    for table, record in records:
        patients.setdefault(table, set()).add(record.patient)
    if len(patients) == len(TABLES):
        for patient in sorted(set.intersection(*patients.values())):
            yield Problem(kind=Kind.OVERLAP, name=f"patient{patient}")
