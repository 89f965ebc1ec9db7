"""The ``thoracle data`` commands that need the simulation: phantoms and partition."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ledger.console import JsonFlag, emit_json, out, progress
from simulation.phantoms import write_phantoms


def register(app: typer.Typer) -> None:
    """Add these commands to the hospital's ``data`` application."""
    app.command()(phantoms)


def phantoms(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="New or empty folder.")],
    patients: Annotated[int, typer.Option(help="How many patients.")] = 300,
    seed: Annotated[int, typer.Option(help="Fixes every byte.")] = 0,
    size: Annotated[int, typer.Option(help="Pixels a side, 32 to 2048.")] = 128,
    layout: Annotated[str, typer.Option(help="nih, chexpert or dicom.")] = "nih",
    as_json: JsonFlag = False,
) -> None:
    """Draw procedural chest radiographs in the layout of a real release.

    No person's data: for demonstrations and tests. Several images a patient, PA and AP, the 14
    findings as visible signs.

    Example: thoracle data phantoms phantoms --patients 300 --seed 0
    """
    with progress() as bar:
        task = bar.add_task("drawing patients", total=patients)
        made = write_phantoms(
            folder,
            patients,
            seed,
            size=size,
            layout=layout,
            progress=lambda done, _total: bar.update(task, completed=done),
        )
    if as_json:
        emit_json({"root": str(made.root), "patients": made.patients, "images": made.images})
    else:
        out.print(f"{made.images:,} images of {made.patients:,} patients in {made.root}")
        out.print(f"Look at them, or check them: thoracle data check {made.root}")
