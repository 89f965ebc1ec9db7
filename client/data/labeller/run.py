"""A run over all reports: one row a report, and the scores where a reader's labels are given."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from client.data.labeller.aggregate import COLUMNS, label_report
from client.data.labeller.evaluate import (
    WRITTEN,
    Evaluation,
    Reference,
    evaluate,
    read_reference,
)
from client.data.labeller.sources import Columns, Report, read_reports
from client.data.records import PRESENT
from ledger.errors import DataError, OutputError

Watch = Callable[[Iterable[Report]], Iterable[Report]]
"""Passes reports through and shows progress."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a run did: reports read, how many have each finding, and the scores."""

    reports: int
    present: dict[str, int]
    scored: Evaluation | None


def label_all(
    reports: Path,
    table: Path,
    columns: Columns,
    *,
    against: Path | None = None,
    watch: Watch | None = None,
) -> Labelled:
    """Label every report, write the table and score it against a reader's labels.

    Args:
        reports: what ``sources.read_reports`` reads.
        table: the CSV to write, whole or not at all.
        columns: which columns to read, of the reports and of the reader's table.
        against: the reader's labels.
        watch: shows progress.

    Raises:
        ConfigError: a table has no such column.
        DataError: reports or labels cannot be read, or do not belong together.
        OutputError: the table cannot be written.
    """
    for source in (reports, against):
        if source and source.exists() and table.exists() and table.samefile(source):
            raise OutputError(f"{table} is read here: write the labels to another file")
    reference = read_reference(against, columns) if against else None
    kept: dict[str, dict[str, int]] = {}
    present = dict.fromkeys(COLUMNS, 0)
    number = 0
    with closing(read_reports(reports, columns)) as stream_of, _table(table) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", *COLUMNS])
        for report in watch(stream_of) if watch else stream_of:
            number += 1
            labels = label_report(report.text)
            writer.writerow([report.name, *(WRITTEN[labels[name]] for name in COLUMNS)])
            for name in COLUMNS:
                present[name] += labels[name] == PRESENT
            if reference and report.name in reference.labels:
                if report.name in kept:
                    line = reference.lines[report.name]
                    raise DataError(f"{reports} holds the report of {against} line {line} twice")
                kept[report.name] = labels
    scored = _score(reference, kept, str(against)) if reference else None
    return Labelled(number, present, scored)


def _score(reference: Reference, kept: dict[str, dict[str, int]], against: str) -> Evaluation:
    missing = [line for name, line in reference.lines.items() if name not in kept]
    if missing:
        raise DataError(
            f"{against} labels {len(missing)} reports that are not among those read, "
            f"the first on line {missing[0]}"
        )
    pairs = ((kept[name], stated) for name, stated in reference.labels.items())
    return evaluate(pairs, reference.findings)


@contextmanager
def _table(path: Path) -> Iterator[IO[str]]:
    """Give a stream whose text replaces ``path`` in one step, once all of it is written."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp makes the file 0600: labels of patients are for their hospital alone.
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
