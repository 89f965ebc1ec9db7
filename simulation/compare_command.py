"""``thoracle compare``: train and score a grid of learners, and go on where it was stopped."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ledger.canonical import canonical_json
from ledger.console import JsonFlag, emit_json, out
from ledger.errors import ConfigError, OutputError
from ledger.files import atomic_write
from simulation.compare import Cell, read_cells

RECORDS = "cells"


def compare(
    config: Annotated[Path, typer.Argument(help="TOML file of the grid.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder of the bench, new or begun.")],
    data: Annotated[
        str | None, typer.Option(help="Folder of radiographs, over the file's own.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Only cells whose name holds this, such as 'central'.")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Make nothing; tell what is finished.")
    ] = False,
    target: Annotated[
        float | None,
        typer.Option(help="A macro AUC: the table tells when each row met it.", min=0.0, max=1.0),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Train and score a grid: learner by mode (central, federated, private), partition and seed.

    Makes what is missing and may be stopped and started again. Each finished cell is one file in
    cells/ of the folder; table.md, .csv and .json, modes.md (a column for each way of training)
    and curves.svg are made from these.

    Example: thoracle compare simulation/compare_nih.toml --data DIR --out runs/compare
    """
    from simulation.compare_modes import by_mode
    from simulation.compare_report import as_csv, cells_of, markdown, plot, read_records, rows_of

    cells = read_cells(config, data)
    if only is not None:
        cells = tuple(cell for cell in cells if only in cell.name)
        if not cells:
            raise ConfigError(f"no cell of the grid has {only!r} in its name")
    records = folder / RECORDS
    if not report:
        _check(cells)
        try:
            records.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the folder {folder} cannot be made: {error.strerror}") from None
        _make(cells, folder, quiet=as_json)
    found = read_records(records)
    rows = rows_of(found, target)
    atomic_write(folder / "table.md", markdown(rows, target).encode())
    atomic_write(folder / "modes.md", by_mode(rows).encode())
    atomic_write(folder / "table.csv", as_csv(rows).encode())
    atomic_write(folder / "table.json", canonical_json([asdict(row) for row in rows]))
    plot(found, folder / "curves.svg")
    if as_json:
        emit_json([asdict(row) for row in rows])
        return
    shown = ("Learner", "Variant", "Mode", "Macro AUC", "95 % interval", "AP only", "PA only")
    names = {record["name"] for record in found}
    finished = sum(cell.name in names for cell in cells)
    table = Table(title=f"{finished} of {len(cells)} cells are finished")
    for head in shown:
        table.add_column(head)
    for row in rows:
        texts = cells_of(row)
        table.add_row(*texts[:3], texts[7], texts[8], texts[10], texts[11])
    out.print(table)
    out.print(f"All figures: {folder / 'table.md'}, table.csv, table.json, modes.md, curves.svg")


def _check(cells: tuple[Cell, ...]) -> None:
    """Refuse a wrong option of the last cell before the first one is trained."""
    from simulation.planning import check_plans, learner_of

    for cell in cells:
        try:
            check_plans(cell.settings, learner_of(cell.settings))
        except ConfigError as error:
            raise ConfigError(f"cell {cell.name}: {error}") from None


def _make(cells: tuple[Cell, ...], folder: Path, *, quiet: bool) -> None:
    from simulation.compare_cells import data_digests, gather_cell, run_cell
    from simulation.progress import Steps

    steps = Steps(quiet=quiet)
    for number, cell in enumerate(cells, 1):
        steps.say(f"Cell {number} of {len(cells)}: {cell.name}")
        with tempfile.TemporaryDirectory() as scratch:
            cohorts = gather_cell(cell, Path(scratch) / "phantoms")
            digest = cell.digest(data_digests(cohorts))
            kept = folder / RECORDS / f"{cell.name}-{digest[:12]}.json"
            if kept.is_file():
                steps.say("  finished before")
                continue
            place = folder / "work" / f"{cell.name}-{digest[:12]}"
            record = run_cell(cell, cohorts, digest, place, steps)
        atomic_write(kept, canonical_json(record))
