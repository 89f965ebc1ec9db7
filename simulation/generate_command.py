"""``thoracle generate``: what a model's generator makes, as a sheet, and how good it is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
import typer

from client.data.vocabulary import canonical
from ledger.console import JsonFlag, emit_json, out, progress
from ledger.errors import ConfigError, DataError
from simulation.chosen import Chosen, choose
from simulation.evaluate_command import SUBSETS
from simulation.pictures import new_picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from client.learners.ssganvit.learner import SSGANViTLearner
    from client.learners.ssganvit.network import SSGANViT
    from client.learners.ssganvit.quality import Quality

NOTE = (
    "Generated images, of nobody; a model that was trained without privacy may still repeat what"
    " it saw."
)


def generate(
    target: Annotated[
        Path, typer.Argument(metavar="RUN|MODEL", help="Run folder, or a file of its models/.")
    ],
    sheet: Annotated[Path, typer.Option("--out", help="The sheet to make: a new PNG.")],
    count: Annotated[int, typer.Option(help="Images on it.", min=1, max=1024)] = 64,
    finding: Annotated[
        str | None, typer.Option(help="Ask every image for this finding, whatever else is drawn.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of noise and findings.", min=0, max=2**63 - 1)] = 0,
    number: Annotated[
        int | None,
        typer.Option("--round", help="Of a run: the model after this round; 0 is the initial one."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Compare with these radiographs. Take public test images: a figure against"
            " private ones is a release."
        ),
    ] = None,
    subset: Annotated[
        str, typer.Option(help="With --data, which list of the folder: test, train or all.")
    ] = "test",
    threads: Annotated[int, typer.Option(help="Processors to use.", min=1)] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Draw images that a model with a generator makes (learner ssganvit), and measure them.

    With --data as many images are generated as the list has, and both are compared by KID (0: no
    difference found) and FID in a named feature space; figures compare only within one space. With
    --finding, only the radiographs that show it.

    The model's bytes are checked against its digest before use. A run's model is its last one.

    Example: thoracle generate runs/first --out sheet.png --finding Effusion
    """
    if subset not in SUBSETS:
        raise ConfigError(f"--subset is {', '.join(SUBSETS)}, not {subset!r}")
    new_picture(sheet, "--out")
    chosen = choose(target, number)
    place = None if finding is None else _place(finding, chosen.findings)

    from client.learners.determinism import deterministic
    from client.learners.ssganvit import quality
    from ledger.files import atomic_write

    learner, module = _open(chosen)
    measured: Quality | None = None
    with deterministic(seed=seed, threads=threads):
        made = quality.sheet(module, learner, count=count, seed=seed, finding=place)
        if data is not None:
            pixels = _pixels(chosen, data, subset, place, learner.input_size)
            measured = quality.quality(module, learner, pixels, seed=seed, finding=place)
    atomic_write(sheet, made)
    about: dict[str, Any] = {
        "model": chosen.path.stem,
        "sheet": str(sheet),
        "images": count,
        "side": learner.gan_size,
        "finding": None if place is None else chosen.findings[place],
        "seed": seed,
        "note": NOTE,
        "quality": None
        if measured is None
        else {"data": str(data), "subset": subset, **asdict(measured)},
    }
    if as_json:
        emit_json(about)
    else:
        _print(about)


def _place(finding: str, known: tuple[str, ...]) -> int:
    name = canonical(finding)
    if name not in known:
        raise ConfigError(f"the model does not know {name!r}; it knows {', '.join(known)}")
    return known.index(name)


def _open(chosen: Chosen) -> tuple[SSGANViTLearner, SSGANViT]:
    """Return learner and module of a model that can make images.

    Raises:
        ConfigError: it cannot.
    """
    from client.learners.registry import from_description
    from client.learners.ssganvit.learner import SSGANViTLearner
    from simulation.predict import open_model

    learner = from_description(chosen.learner)
    if not isinstance(learner, SSGANViTLearner):
        raise ConfigError(
            f"a model of the learner {learner.name} makes no images; one of"
            f" {SSGANViTLearner.name} does"
        )
    return learner, cast("SSGANViT", open_model(chosen)[1])


def _pixels(
    chosen: Chosen, data: Path, subset: str, place: int | None, size: int
) -> NDArray[np.uint8]:
    """Return the real radiographs (N, 1, S, S) to compare with: those with the finding asked for.

    Raises:
        DataError: there are none, or they cannot be read.
    """
    from client.data.preprocess import load_pixels
    from client.data.sources import load_source
    from client.data.vocabulary import project

    cohort = project(load_source(data, SUBSETS[subset]), chosen.findings)
    if place is not None:
        cohort = cohort.select(np.flatnonzero(cohort.label_matrix()[:, place] == 1))
        if not len(cohort):
            raise DataError(f"no radiograph of that list shows {chosen.findings[place]}")
    with progress() as bar:
        task = bar.add_task("reading radiographs", total=None)
        return load_pixels(
            cohort,
            size,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            plan=chosen.preprocessing(size),
        )


def _print(about: dict[str, Any]) -> None:
    asked = f", each asked to show {about['finding']}" if about["finding"] else ""
    out.print(
        f"{about['images']:,} images of {about['side']} x {about['side']} px by model"
        f" {about['model'][:16]}…{asked}: {about['sheet']}",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )
    found = about["quality"]
    if found is not None:
        out.print(
            f"KID {found['kid']:.4g} ± {found['kid_error']:.2g} (standard error), FID"
            f" {found['fid']:.4g}, against {found['images']:,} radiographs in the feature space"
            f" {found['space']}",
            soft_wrap=True,
            markup=False,
            highlight=False,
        )
    out.print(about["note"])
