"""The ``thoracle data`` commands of one hospital."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from client.data.check import Problem, Progress, check_images
from client.data.console import print_report
from client.data.label_commands import register as register_label
from client.data.pipeline import Preprocessing, Switch
from client.data.records import Cohort
from client.data.sources import Subset, check_source, load_source
from client.data.uncertainty import Policy
from ledger.console import JsonFlag, emit_json, err, out, progress

app = typer.Typer(
    name="data",
    help="Radiographs and labels: make phantoms, check, prepare, preview and partition data.",
    no_args_is_help=True,
)

Source = Annotated[
    Path, typer.Argument(metavar="SOURCE", help="NIH, CheXpert, DICOM or table folder.")
]
KindFlag = Annotated[
    str, typer.Option("--kind", help="auto, nih, chexpert, dicom or table.", show_default=True)
]
SubsetFlag = Annotated[
    Subset | None, typer.Option("--subset", help="The source's own train or test list.")
]
PolicyFlag = Annotated[Policy, typer.Option("--uncertain", help="What uncertain labels become.")]
Size = Annotated[int, typer.Option(help="Side of the result in pixels, 8 to 2048.")]
Clahe = Annotated[Switch, typer.Option(help="Adaptive equalisation: on, off, auto (from 256 px).")]
Blur = Annotated[Switch, typer.Option(help="Gaussian 5 x 5: on, off, auto (from 256 px).")]
MaskFlag = Annotated[
    Switch, typer.Option("--mask", help="Paint over text, devices, abdomen: on, off, auto.")
]


@app.callback()
def _data() -> None:
    """Radiographs and labels: make phantoms, check, prepare, preview and partition data."""


@app.command()
def check(source: Source, kind: KindFlag = "auto", as_json: JsonFlag = False) -> None:
    """Count patients, images and labels, and name everything that is wrong.

    Every image is read and decoded. Exits 0 only if nothing is wrong; notes stop nothing.

    Example: thoracle data check ../shared/data/nih
    """
    with watching("reading images") as watch:
        report = check_source(source, watch, kind)
    if as_json:
        emit_json(report.to_json())
    else:
        print_report(report)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def prepare(
    source: Source,
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="New or empty folder.")],
    key: Annotated[Path, typer.Option(help="The site's secret; drawn there if missing.")],
    subset: SubsetFlag = None,
    kind: KindFlag = "auto",
    uncertain: PolicyFlag = Policy.IGNORE,
    size: Size = 256,
    clahe: Clahe = "auto",
    blur: Blur = "auto",
    mask: MaskFlag = "off",
    bad: Annotated[
        Literal["refuse", "skip"], typer.Option(help="Unreadable or blank images: stop, or skip.")
    ] = "refuse",
    as_json: JsonFlag = False,
) -> None:
    """Write a checked, preprocessed, de-identified set that every command reads.

    Patients and images get keyed hashes; the key stays with you, never share it with the set.

    Example: thoracle data prepare /data/dicom prepared --key site.key --size 128
    """
    from client.data.deidentify import open_site_key
    from client.data.prepare import prepare as run

    plan = Preprocessing(size=size, clahe=clahe, blur=blur, mask=mask)
    skipped: list[Problem] = []
    skip = bad == "skip"
    found = skipped if skip else None
    cohort = load_source(source, subset, kind=kind, policy=uncertain, left_out=found)
    if skip:
        cohort = _without_bad(cohort, skipped)
    with watching("preparing images") as watch:
        made = run(cohort, folder, plan, open_site_key(key), watch)
    if mask == "off":
        err.print(
            "burnt-in text, if any, is still on the films: look at data preview, or --mask on"
        )
    if as_json:
        emit_json({**made.about, "skipped": len(skipped)})
        return
    out.print(f"{len(made.cohort):,} images of {made.about['patients']:,} patients in {made.root}")
    out.print(f"cohort digest {made.about['cohort_digest']}")
    out.print(f"pixels digest {made.about['pixels_digest']}")
    if skipped:
        out.print(f"left out: {len(skipped):,}, all named above")


@app.command()
def preview(
    source: Source,
    sheet: Annotated[Path, typer.Argument(metavar="OUT.png", help="The contact sheet.")],
    count: Annotated[int, typer.Option(help="Films shown, at most 60.")] = 12,
    subset: SubsetFlag = None,
    kind: KindFlag = "auto",
    size: Size = 64,
    clahe: Clahe = "auto",
    blur: Blur = "auto",
    mask: MaskFlag = "off",
) -> None:
    """Draw films before and after preprocessing, with view and findings, on one sheet.

    Example: thoracle data preview phantoms sheet.png --size 64
    """
    from client.data.preview import contact_sheet

    plan = Preprocessing(size=size, clahe=clahe, blur=blur, mask=mask)
    shown = contact_sheet(load_source(source, subset, kind=kind), plan, count, sheet)
    out.print(f"{shown} films before and after on {sheet}")


register_label(app)


@contextmanager
def watching(description: str) -> Iterator[Progress]:
    """Show progress on standard error and give the function that advances it."""
    with progress() as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _without_bad(cohort: Cohort, skipped: list[Problem]) -> Cohort:
    """Return the cohort without unreadable and blank images, and name all that is left out.

    Args:
        cohort: what was loaded.
        skipped: what was left out on loading; takes those images, too.
    """
    from client.data.check import NOTES

    with watching("checking images") as watch:
        found, _digests = check_images(cohort.records, watch)
    bad = [problem for problem in found if problem.kind not in NOTES]
    skipped += bad
    for problem in skipped:
        err.print(f"left out: {problem}", markup=False)
    names = {problem.name for problem in bad}
    kept = [i for i, record in enumerate(cohort.records) if record.image_id not in names]
    return cohort.select(kept)
