"""A folder of DICOM radiographs, with findings from a table where the hospital has one.

    ROOT/**                    DICOM files (PS3.10), whatever their names; DICOMDIR is passed over
    ROOT/labels.csv            optional: column "image", then one column a finding (1, 0, -1, -2);
                               another form with ROOT/mapping.toml, see ``client.data.mapping``

The table's "image" is matched with a file's SOP Instance UID, its path under ROOT, its accession
number or its Study Instance UID, in this order: the last two label every image of a study. An
image that no row names has every finding unknown. Only single radiographs (modality CR, DX, RG,
XR or not given) are read; other modalities, hidden files and those of operating systems are left
out and named in a note. A linked folder is not followed, and is an error.

A header names a person. Nothing of it goes further than the ``Record`` made here, whose
identifiers ``client.data.deidentify`` replaces before anything is written.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.dataset import FileDataset

from client.data.check import (
    CheckReport,
    Kind,
    Problem,
    Progress,
    check_images,
    refuse,
    summarise,
)
from client.data.decode import is_dicom
from client.data.dicom_pixels import parse
from client.data.images import MAX_FILE_BYTES
from client.data.mapping import MAPPING_FILE, PREPARED, load_mapping
from client.data.records import FINDINGS, UNKNOWN, Cohort, Record, View
from client.data.table import read_labels
from client.data.tables import MAX_AGE, parse_age, parse_sex
from ledger.errors import DataError

LABELS = "labels.csv"
MODALITIES = frozenset({"CR", "DX", "RG", "XR", "DR", ""})
_SKIPPABLE = frozenset({Kind.UNREADABLE, Kind.EXTRA, Kind.LISTED_UNKNOWN})
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})
_VIEWS: dict[str, View] = {
    "PA": "PA",
    "AP": "AP",
    "LL": "LATERAL",
    "RL": "LATERAL",
    "LAT": "LATERAL",
    "LATERAL": "LATERAL",
}


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is read of one file's header; ``keys`` are what a label table may call it."""

    record: Record
    keys: tuple[str, ...]
    when: str
    burnt_in: bool


def load_dicom(
    root: Path,
    vocabulary: tuple[str, ...] = FINDINGS,
    *,
    left_out: list[Problem] | None = None,
) -> Cohort:
    """Load every radiograph under a folder.

    Args:
        root: the folder.
        vocabulary: findings of the cohort where there is no label table (all unknown).
        left_out: takes the problems of files that cannot be read as DICOM, and of label rows
            whose image is none that was read, which then stop nothing; None: they do.

    Raises:
        ConfigError: the mapping file is wrong.
        DataError: a file is no DICOM or cannot be used, a label row names no image, or nothing
            is left.
    """
    cohort, problems = _read(root, vocabulary)
    if left_out is not None:
        left_out += [p for p in problems if p.kind in _SKIPPABLE]
        problems = [p for p in problems if p.kind not in _SKIPPABLE]
    refuse(problems, str(root))
    if not len(cohort):
        raise DataError(f"{root} holds no DICOM radiographs")
    return cohort


def check_dicom(root: Path, progress: Progress | None = None) -> CheckReport:
    """Read every header, row and image and report all that is wrong.

    Raises:
        ConfigError: the mapping file is wrong.
        DataError: ``root`` is no folder, or the label table lacks a needed column.
    """
    cohort, problems = _read(root, FINDINGS)
    found, _digests = check_images(cohort.records, progress)
    files = {r.image_id: r.image.relative_to(root).as_posix() for r in cohort.records}
    named = [
        replace(p, name=files[p.name], detail=" ".join(files.get(w, w) for w in p.detail.split()))
        for p in found
    ]
    return summarise(cohort, str(root), [*problems, *named])


def _read(root: Path, vocabulary: tuple[str, ...]) -> tuple[Cohort, list[Problem]]:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    headers: dict[str, Header] = {}
    problems: list[Problem] = []
    for path in _files(root):
        name = path.relative_to(root).as_posix()
        outcome = _header(path, name)
        if isinstance(outcome, Problem):
            problems.append(outcome)
        elif outcome.record.image_id in headers:
            problems.append(Problem(kind=Kind.DUPLICATE_FILE, name=name))
        else:
            headers[outcome.record.image_id] = outcome
            if outcome.burnt_in:
                problems.append(Problem(kind=Kind.BURNT_IN, name=name))
    ordered = _follow_ups(list(headers.values()))
    if (root / LABELS).is_file() or (root / MAPPING_FILE).is_file():
        vocabulary, labels, found = _labels(root, ordered)
        problems += found
    else:
        labels = {}
    unknown = (UNKNOWN,) * len(vocabulary)
    records = tuple(
        replace(h.record, labels=labels.get(h.record.image_id, unknown)) for h in ordered
    )
    return Cohort(records=records, vocabulary=vocabulary, source="dicom"), problems


def _files(root: Path) -> Iterator[Path]:
    """Yield every file, and every linked folder: those are not followed, but must be named."""
    own = {root / LABELS, root / MAPPING_FILE}
    if (root / MAPPING_FILE).is_file():
        own.add(root / load_mapping(root / MAPPING_FILE, ("image",)).table)
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted([*names, *(f for f in folders if (Path(folder) / f).is_symlink())]):
            path = Path(folder) / name
            if path not in own and name.upper() != "DICOMDIR":
                yield path


def _header(path: Path, name: str) -> Header | Problem:
    if path.name.startswith(".") or path.name.casefold() in _SYSTEM_FILES:
        return Problem(kind=Kind.SKIPPED, name=name, detail="an operating system's own file")
    try:
        about = path.stat()
        if stat.S_ISDIR(about.st_mode):
            return Problem(kind=Kind.UNREADABLE, name=name, detail="a link to a folder")
        if not stat.S_ISREG(about.st_mode):
            return Problem(kind=Kind.UNREADABLE, name=name, detail="not a regular file")
        if about.st_size > MAX_FILE_BYTES:
            return Problem(kind=Kind.UNREADABLE, name=name, detail="over the bound on file size")
        with path.open("rb") as handle:
            if not is_dicom(handle.read(132)):
                return Problem(kind=Kind.EXTRA, name=name, detail="not DICOM")
            handle.seek(0)
            dataset = parse(handle, name, header_only=True)
    except OSError as error:
        return Problem(kind=Kind.UNREADABLE, name=name, detail=str(error.strerror))
    except DataError as error:
        return Problem(kind=Kind.UNREADABLE, name=name, detail=str(error))
    modality = _text(dataset, "Modality")
    if modality.upper() not in MODALITIES:
        return Problem(kind=Kind.SKIPPED, name=name, detail=f"modality {modality}")
    if "Rows" not in dataset:
        # A radiograph always says its size: this one is cut off. Other objects may hold none.
        kind = Kind.UNREADABLE if modality else Kind.SKIPPED
        return Problem(kind=kind, name=name, detail="holds no image")
    lacking = [tag for tag in ("SOPInstanceUID", "PatientID") if not _text(dataset, tag)]
    if lacking:
        return Problem(kind=Kind.BAD_ROW, name=name, detail=f"no {', '.join(lacking)}")
    uid = _text(dataset, "SOPInstanceUID")
    record = Record(
        image=path,
        image_id=uid,
        patient=_text(dataset, "PatientID"),
        labels=(),
        view=_VIEWS.get(_text(dataset, "ViewPosition").upper()),
        age=_age(dataset),
        sex=parse_sex(_text(dataset, "PatientSex")) or None,
        source="dicom",
    )
    keys = (uid, name, _text(dataset, "AccessionNumber"), _text(dataset, "StudyInstanceUID"))
    when = "/".join(_text(dataset, t) for t in ("StudyDate", "StudyTime", "StudyInstanceUID"))
    burnt_in = _text(dataset, "BurnedInAnnotation").upper() == "YES"
    return Header(record=record, keys=keys, when=when, burnt_in=burnt_in)


def _text(dataset: FileDataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()


def _age(dataset: FileDataset) -> int | None:
    """Return PatientAge, or the years from birth to study, or None."""
    years = parse_age(_text(dataset, "PatientAge"))
    if years is None or years is False:
        born, seen = _text(dataset, "PatientBirthDate"), _text(dataset, "StudyDate")
        if not (len(born) == len(seen) == 8 and born.isdigit() and seen.isdigit()):
            return None
        years = (int(seen) - int(born)) // 10_000
    return years if 0 <= years <= MAX_AGE else None


def _follow_ups(headers: list[Header]) -> list[Header]:
    """Number each patient's studies from 0 by date; images of one study share a number."""
    studies: dict[str, list[str]] = {}
    for header in sorted(headers, key=lambda h: h.when):
        seen = studies.setdefault(header.record.patient, [])
        if header.when not in seen:
            seen.append(header.when)
    return [
        replace(h, record=replace(h.record, follow_up=studies[h.record.patient].index(h.when)))
        for h in headers
    ]


def _labels(
    root: Path, headers: list[Header]
) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]], list[Problem]]:
    """Return the table's vocabulary, image_id -> labels, and its problems."""
    path = root / MAPPING_FILE
    if path.is_file():
        mapping = load_mapping(path, ("image",))
    else:
        mapping = replace(PREPARED, table=LABELS, columns={"image": "image"})
    vocabulary, rows = read_labels(root / mapping.table, mapping)
    named: dict[str, list[str]] = {}
    for header in headers:
        for key in filter(None, dict.fromkeys(header.keys)):
            named.setdefault(key, []).append(header.record.image_id)
    labels: dict[str, tuple[int, ...]] = {}
    problems: list[Problem] = []
    for outcome in rows:
        if isinstance(outcome, Problem):
            problems.append(outcome)
            continue
        row, values = outcome
        images = named.get(row.values[mapping.columns["image"]], [])
        if not images:
            problems.append(Problem(kind=Kind.LISTED_UNKNOWN, name=row.where, detail=mapping.table))
        for image in images:
            if image in labels:
                problems.append(Problem(kind=Kind.DUPLICATE_ROW, name=row.where))
            labels[image] = values
    return vocabulary, labels, problems
