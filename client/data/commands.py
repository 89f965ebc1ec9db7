"""The ``thoracle data`` commands of one hospital."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from client.data.check import NAMED, NOTES, CheckReport, by_kind
from client.data.nih import check_nih
from ledger.console import JsonFlag, emit_json, err, out, progress

app = typer.Typer(
    name="data",
    help="Radiographs and labels: make phantoms, check, prepare and partition data.",
    no_args_is_help=True,
)


@app.callback()
def _data() -> None:
    """Radiographs and labels: make phantoms, check, prepare and partition data."""


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of radiographs with its label table.")],
    as_json: JsonFlag = False,
) -> None:
    """Count patients, images and labels, and name everything that is wrong.

    Every image is read and decoded. Exits 0 only if nothing is wrong; notes stop nothing.

    Example: thoracle data check ../shared/data/nih
    """
    with progress() as bar:
        task = bar.add_task("reading images", total=None)
        report = check_nih(
            folder, lambda done, total: bar.update(task, completed=done, total=total)
        )
    if as_json:
        emit_json(report.to_json())
    else:
        print_report(report)
    if not report.ok:
        raise typer.Exit(1)


def print_report(report: CheckReport) -> None:
    """Print a report for a person: counts, then every kind of problem with names."""
    out.print(
        f"[bold]{escape(report.root)}[/] ({report.source}): {report.images:,} images of "
        f"{report.patients:,} patients"
    )
    for name, (images, patients) in report.subsets.items():
        out.print(f"  {name} list: {images:,} images of {patients:,} patients")
    for title, counts in (("view", report.views), ("sex", report.sexes)):
        out.print(f"  {title}: " + ", ".join(f"{key} {value:,}" for key, value in counts.items()))
    table = Table("finding", *(["present", "absent", "unknown", "uncertain"]))
    for column in table.columns[1:]:
        column.justify = "right"
    for finding, counts in report.labels.items():
        table.add_row(finding, *(f"{counts[column]:,}" for column in counts))
    out.print(table)
    for kind, found in by_kind(report.problems).items():
        style = "yellow" if kind in NOTES else "red"
        out.print(f"[{style}]{kind}: {len(found):,}[/]")
        for problem in found[:NAMED]:
            detail = f" ({problem.detail})" if problem.detail else ""
            out.print(f"    {escape(problem.name + detail)}")
        if len(found) > NAMED:
            out.print(f"    and {len(found) - NAMED:,} more")
    if report.ok:
        out.print("[green]Nothing is wrong.[/]")
    else:
        err.print(f"[red]{len(report.errors):,} problems.[/]")
