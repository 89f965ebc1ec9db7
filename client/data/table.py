"""Any CSV with a column-mapping file, and the images it names; see ``client.data.mapping``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

from client.data.check import (
    CheckReport,
    Kind,
    Problem,
    Progress,
    check_images,
    refuse,
    summarise,
)
from client.data.mapping import MAPPING_FILE, NEEDED_FIELDS, PREPARED, Mapping, load_mapping
from client.data.records import PRESENT, Cohort, Record, View
from client.data.tables import MAX_AGE, Row, parse_age, parse_sex, read_header, read_rows
from ledger.errors import DataError


def load_table(root: Path, mapping: Mapping | None = None) -> Cohort:
    """Load the table of a folder.

    Args:
        root: the folder that holds the table.
        mapping: how to read it; None reads ``mapping.toml`` in the folder, or the prepared form
            where there is none.

    Raises:
        ConfigError: the mapping file is wrong.
        DataError: the table, a column or an image is missing, a row cannot be used, or nothing
            is left.
    """
    mapping, vocabulary, records, problems = _read(root, mapping)
    missing = [Problem(kind=Kind.MISSING, name=r.image_id) for r in records if not _there(r)]
    refuse([*problems, *missing], str(root / mapping.table))
    if not records:
        raise DataError(f"{root / mapping.table} holds no images")
    return Cohort(records=tuple(records), vocabulary=vocabulary, source=mapping.source)


def check_table(root: Path, progress: Progress | None = None) -> CheckReport:
    """Read every row and image and report all that is wrong.

    Raises:
        ConfigError: the mapping file is wrong.
        DataError: there is no table, or it lacks a needed column.
    """
    mapping, vocabulary, records, problems = _read(root, None)
    problems += [Problem(kind=Kind.MISSING, name=r.image_id) for r in records if not _there(r)]
    found, _digests = check_images([r for r in records if _there(r)], progress)
    cohort = Cohort(tuple(records), vocabulary, mapping.source)
    return summarise(cohort, str(root), [*problems, *found])


def find_mapping(root: Path) -> Mapping:
    """Return the folder's mapping: its mapping.toml, or the prepared form."""
    path = root / MAPPING_FILE
    return load_mapping(path) if path.is_file() else PREPARED


def read_labels(
    table: Path, mapping: Mapping
) -> tuple[tuple[str, ...], Iterator[tuple[Row, tuple[int, ...]] | Problem]]:
    """Return the vocabulary of a table and an iterator over its rows' labels.

    Raises:
        DataError: as ``read_rows``.
    """
    mapping = _with_rest(table, mapping)
    vocabulary = mapping.findings if mapping.list_column else tuple(mapping.label_columns)
    needed = [mapping.columns[name] for name in NEEDED_FIELDS if name in mapping.columns]
    needed += [mapping.list_column] if mapping.list_column else [*mapping.label_columns.values()]
    others = [c for name, c in mapping.columns.items() if c not in needed]

    def rows() -> Iterator[tuple[Row, tuple[int, ...]] | Problem]:
        for row in read_rows(table, tuple(dict.fromkeys(needed)), tuple(dict.fromkeys(others))):
            if isinstance(row, Problem):
                yield row
                continue
            labels = _listed(row, mapping) if mapping.list_column else _celled(row, mapping)
            if isinstance(labels, str):
                yield Problem(kind=Kind.UNKNOWN_FINDING, name=row.where, detail=labels)
            else:
                yield row, labels

    return vocabulary, rows()


def _read(
    root: Path, mapping: Mapping | None
) -> tuple[Mapping, tuple[str, ...], list[Record], list[Problem]]:
    mapping = mapping or find_mapping(root)
    vocabulary, rows = read_labels(root / mapping.table, mapping)
    records: dict[str, Record] = {}
    problems: list[Problem] = []
    for outcome in rows:
        made = outcome if isinstance(outcome, Problem) else _record(*outcome, mapping, root)
        if isinstance(made, Problem):
            problems.append(made)
        elif made.image_id in records:
            problems.append(Problem(kind=Kind.DUPLICATE_ROW, name=made.image_id))
        else:
            records[made.image_id] = made
    return mapping, vocabulary, list(records.values()), problems


def _with_rest(table: Path, mapping: Mapping) -> Mapping:
    """Return the mapping with every column that is no record field as a finding."""
    if not mapping.rest:
        return mapping
    header = read_header(table)
    findings = [name for name in header if name not in mapping.columns.values()]
    if not findings:
        raise DataError(f"{table} has no column for a finding")
    if "" in findings:
        raise DataError(f"{table.name} has a column without a name")
    fields = {name: c for name, c in mapping.columns.items() if c in header}
    needed = {name: c for name, c in mapping.columns.items() if name in NEEDED_FIELDS}
    return replace(
        mapping,
        rest=False,
        columns={**needed, **fields},  # a needed column that is not there is named by read_rows
        label_columns={name: name for name in findings},
    )


def _celled(row: Row, mapping: Mapping) -> tuple[int, ...] | str:
    labels = []
    for finding, column in mapping.label_columns.items():
        label = mapping.cells.get(row.values[column].casefold())
        if label is None:
            return f"{finding} {row.values[column]!r}"
        labels.append(label)
    return tuple(labels)


def _listed(row: Row, mapping: Mapping) -> tuple[int, ...] | str:
    cell = row.values[mapping.list_column]
    labels = dict.fromkeys(mapping.findings, mapping.silence)
    if cell in mapping.none:
        return tuple(0 for _ in labels)
    for part in filter(None, (part.strip() for part in cell.split(mapping.separator))):
        if part in labels:
            labels[part] = PRESENT
        elif part not in mapping.skip:
            return repr(part)
    return tuple(labels.values())


def _record(row: Row, labels: tuple[int, ...], mapping: Mapping, root: Path) -> Record | Problem:
    def value(name: str) -> str:
        return row.values.get(mapping.columns.get(name, ""), "")

    name, patient = value("image"), value("patient")
    years, sex = parse_age(value("age")), parse_sex(value("sex"))
    view = mapping.views.get(value("view").upper())
    follow_up = value("follow_up") or "0"
    path = Path(name)
    wrong = {
        "image": not name or path.is_absolute() or ".." in path.parts,
        "patient": not patient,
        "age": years is False or (years or 0) > MAX_AGE,
        "sex": sex is False,
        "view": view is None,
        "follow_up": not (follow_up.isascii() and follow_up.isdigit() and len(follow_up) < 10),
    }
    for field, broken in wrong.items():
        if broken:
            detail = f"{field} {value(field)!r}"
            return Problem(kind=Kind.BAD_ROW, name=row.where, detail=detail)
    if years is False or sex is False:
        raise AssertionError("unreachable: checked above")
    return Record(
        image=root / mapping.images / path,
        image_id=path.as_posix(),
        patient=patient,
        labels=labels,
        view=cast("View | None", view or None),
        age=years,
        sex=sex,
        follow_up=int(follow_up),
        source=mapping.source,
    )


def _there(record: Record) -> bool:
    return record.image.is_file()
