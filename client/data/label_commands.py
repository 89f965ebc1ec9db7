"""``thoracle data label``: reports become a table of labels, scored against a reader's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ledger.console import JsonFlag, emit_json, out, track

if TYPE_CHECKING:
    from client.data.labeller.evaluate import Evaluation, Score


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
    from client.data.labeller.run import label_all  # compiles the rules, which takes a while
    from client.data.labeller.sources import Columns

    columns = Columns(text=column, name=id_column, split=split)
    done = label_all(
        reports,
        table,
        columns,
        against=against,
        watch=lambda stream: track(stream, "labelling reports"),
    )
    scored = done.scored
    if as_json:
        figures = scored.to_json() if scored else None
        emit_json({"reports": done.reports, "present": done.present, "evaluation": figures})
        return
    out.print(f"{done.reports:,} reports labelled in {table}", markup=False)
    out.print(_counts(done.present) if scored is None else score_table(scored))


def _counts(present: dict[str, int]) -> Table:
    shown = Table("finding", "present")
    shown.columns[1].justify = "right"
    for name, count in present.items():
        shown.add_row(name, f"{count:,}")
    return shown


def score_table(scored: Evaluation) -> Table:
    """Return the scores as a table: precision, recall and F1 of mention, F1 of the other tasks."""
    names = ("finding", "stated", "P", "R", "mention", "present", "negated", "unsure")
    shown = Table(
        *names, title="P, R and F1 of mention; F1 of 1, 0, -1", box=None, padding=(0, 1, 0, 0)
    )
    shown.columns[0].no_wrap = True  # 77 columns in all: nothing is cut on a terminal of 80
    for finding, tasks in scored.scores.items():
        mention = tasks["mention"]
        others = [_figure(tasks[task].f1) for task in tasks if task != "mention"]
        stated = f"{mention.true + mention.missed:,}"
        shown.add_row(finding, stated, *_figures(mention), *others)
    means = [_figure(mean) for mean in scored.means().values()]
    shown.add_row("mean of those stated", "", "", "", *means, style="bold")
    for cell in shown.columns[1:]:
        cell.justify = "right"
    return shown


def _figures(score: Score) -> tuple[str, str, str]:
    return _figure(score.precision), _figure(score.recall), _figure(score.f1)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
