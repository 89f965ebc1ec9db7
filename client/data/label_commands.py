"""``thoracle data label``: reports become a table of labels, scored against a reader's."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import typer
from rich.table import Table

from client.data.labeller.aggregate import COLUMNS, label_report
from client.data.labeller.evaluate import (
    TASKS,
    WRITTEN,
    Evaluation,
    Reference,
    Score,
    evaluate,
    read_reference,
)
from client.data.labeller.sources import Columns, read_reports
from ledger.console import JsonFlag, emit_json, out, track
from ledger.errors import DataError, OutputError


def register(app: typer.Typer) -> None:
    """Add ``label`` to the ``thoracle data`` commands."""
    app.command()(label)


def label(
    reports: Annotated[
        Path,
        typer.Argument(
            metavar="REPORTS", help="Folder of .txt or Open-i .xml, CSV, or JSON lines."
        ),
    ],
    table: Annotated[Path, typer.Argument(metavar="OUT", help="CSV with a row a report.")],
    against: Annotated[
        Path | None, typer.Option(help="A reader's labels (CSV): print precision, recall, F1.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="The table's column of reports.")] = None,
    id_column: Annotated[str | None, typer.Option(help="The column that names a report.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Only rows whose 'split' column is this.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Turn free-text radiology reports into labels: 1, 0, -1 uncertain, blank unmentioned.

    Indication, history and comparison make no labels; negation and hedging are followed.

    Example: thoracle data label reports/ labels.csv --against reader.csv
    """
    columns = Columns(text=column, name=id_column, split=split)
    reference = read_reference(against, columns) if against else None
    kept: dict[str, dict[str, int]] = {}
    counts = dict.fromkeys(COLUMNS, 0)
    number = 0
    with _table(table) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", *COLUMNS])
        for report in track(read_reports(reports, columns), "labelling reports"):
            number += 1
            labels = label_report(report.text)
            writer.writerow([report.name, *(WRITTEN[labels[name]] for name in COLUMNS)])
            for name in COLUMNS:
                counts[name] += labels[name] == 1
            if reference and report.name in reference.labels:
                if report.name in kept:
                    line = reference.lines[report.name]
                    raise DataError(f"{reports} holds the report of {against} line {line} twice")
                kept[report.name] = labels
    scored = _score(reference, kept, str(against)) if reference else None
    _show(number, counts, scored, table, as_json=as_json)


def _score(reference: Reference, kept: dict[str, dict[str, int]], against: str) -> Evaluation:
    missing = [line for name, line in reference.lines.items() if name not in kept]
    if missing:
        raise DataError(
            f"{against} labels {len(missing)} reports that are not among those read, "
            f"the first on line {missing[0]}"
        )
    pairs = ((kept[name], stated) for name, stated in reference.labels.items())
    return evaluate(pairs, reference.findings)


def _show(
    number: int, counts: dict[str, int], scored: Evaluation | None, table: Path, *, as_json: bool
) -> None:
    if as_json:
        emit_json(
            {
                "reports": number,
                "present": counts,
                "evaluation": scored.to_json() if scored else None,
            }
        )
        return
    out.print(f"{number:,} reports labelled in {table}", markup=False)
    if scored is None:
        shown = Table("finding", "present")
        for name, count in counts.items():
            shown.add_row(name, f"{count:,}")
    else:
        shown = score_table(scored)
    shown.columns[1].justify = "right"
    out.print(shown)


def score_table(scored: Evaluation) -> Table:
    """Return the scores as a table: precision, recall, F1 of mention, F1 of the other tasks."""
    shown = Table(
        "finding", "stated", "P", "R", "F1 mention", "presence", "negation", "uncertainty"
    )
    for finding, tasks in scored.scores.items():
        mention = tasks["mention"]
        others = [_figure(tasks[task].f1) for task in TASKS if task != "mention"]
        stated = f"{mention.true + mention.missed:,}"
        shown.add_row(finding, stated, *_figures(mention), *others)
    means = [_figure(scored.mean_f1(task)) for task in TASKS]
    shown.add_row("mean over findings stated", "", "", "", *means, style="bold")
    for cell in shown.columns[1:]:
        cell.justify = "right"
    return shown


def _figures(score: Score) -> tuple[str, str, str]:
    return _figure(score.precision), _figure(score.recall), _figure(score.f1)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


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
