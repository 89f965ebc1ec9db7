"""The ``thoracle data`` commands that need the simulation: phantoms and partition."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from client.data.commands import KindFlag, SubsetFlag, watching
from client.data.sources import load_sources
from ledger.console import JsonFlag, emit_json, out
from simulation.partition import parse_scheme
from simulation.partition import partition as split
from simulation.phantoms import write_phantoms


def register(app: typer.Typer) -> None:
    """Add these commands to the hospital's ``data`` application."""
    app.command()(phantoms)
    app.command()(partition)


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
    with watching("drawing patients") as watch:
        made = write_phantoms(folder, patients, seed, size=size, layout=layout, progress=watch)
    if as_json:
        emit_json({"root": str(made.root), "patients": made.patients, "images": made.images})
    else:
        out.print(f"{made.images:,} images of {made.patients:,} patients in {made.root}")
        out.print(f"Look at them, or check them: thoracle data check {made.root}")


def partition(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE...", help="One folder, or several as one.")
    ],
    hospitals: Annotated[int, typer.Option(help="How many hospitals.")] = 3,
    scheme: Annotated[
        str,
        typer.Option(
            "--partition",
            help="iid, dirichlet:ALPHA, quantity:ALPHA, silos, source or feature:STRENGTH.",
        ),
    ] = "silos",
    seed: Annotated[int, typer.Option(help="Fixes the split.")] = 0,
    subset: SubsetFlag = None,
    kind: KindFlag = "auto",
    picture: Annotated[Path | None, typer.Option(help="Write a PNG of who holds what.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show how a partition would spread radiographs over hospitals; no data is moved.

    Several sources are joined under the union of their findings; --partition source makes each
    a hospital of its own.

    Example: thoracle data partition phantoms --hospitals 3 --partition silos --picture who.png
    """
    from simulation.partition_picture import describe, draw_partition

    parse_scheme(scheme)  # a misspelt one is told before a long read
    cohort = load_sources(sources, subset, kind=kind)
    parts = split(cohort, hospitals, scheme, seed)
    rows = describe(cohort, parts)
    if picture is not None:
        draw_partition(cohort, parts, f"{hospitals} hospitals by {scheme}, seed {seed}", picture)
    if as_json:
        emit_json({"partition": scheme, "seed": seed, "hospitals": rows})
        return
    table = Table("hospital", "images", "patients", "AP", "male", "age", "findings (images)")
    for row in rows:
        present = row["present"]
        shown = sorted(present.items(), key=lambda p: -p[1]) if isinstance(present, dict) else []
        table.add_row(
            *(
                "?" if row[key] is None else str(row[key])
                for key in ("hospital", "images", "patients", "ap_share", "male_share", "mean_age")
            ),
            ", ".join(f"{name} {count}" for name, count in shown[:5]),
        )
    out.print(table)
    if picture is not None:
        out.print(f"picture: {picture}")
