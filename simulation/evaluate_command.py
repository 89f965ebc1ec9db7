"""``thoracle evaluate``: score a model of a run on radiographs, with the figures' uncertainty."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from client.data.chexpert import COMPETITION
from client.data.vocabulary import canonical
from ledger.console import JsonFlag, emit_json, out, progress
from ledger.errors import ConfigError, DataError
from simulation.chosen import Chosen, choose, refuse_parts
from simulation.figures import figure
from simulation.pictures import new_picture

if TYPE_CHECKING:
    from client.data.records import Cohort
    from server.evaluate import Evaluation, TestSet

SUBSETS: MappingProxyType[str, Literal["train", "test"] | None] = MappingProxyType(
    {"test": "test", "train": "train", "all": None}
)
_RESAMPLES = 1000
MOST_FILMS = 60


def evaluate(
    target: Annotated[
        Path, typer.Argument(metavar="RUN|MODEL", help="Run folder, or a file of its models/.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of radiographs, of any kind; default: the run's own test set."),
    ] = None,
    subset: Annotated[
        str, typer.Option(help="Which list of the folder: test, train or all.")
    ] = "test",
    number: Annotated[
        int | None,
        typer.Option("--round", help="Of a run: the model after this round; 0 is the initial one."),
    ] = None,
    resamples: Annotated[
        int, typer.Option(help="Patient bootstrap resamples for the interval; 0 for none.", min=0)
    ] = _RESAMPLES,
    panels: Annotated[
        Path | None,
        typer.Option(help="Draw predicted against actual findings of a few films: a new PNG."),
    ] = None,
    films: Annotated[
        int, typer.Option(help="With --panels: how many films it shows.", min=1, max=MOST_FILMS)
    ] = 12,
    threads: Annotated[int, typer.Option(help="Processors to use.", min=1)] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Score a model: ranking, decisions and calibration, each with a 95 % interval over patients.

    Macro AUC beside the AUC within each view (the view alone predicts some findings), each
    finding, weighted F1 on thresholds that other patients gave, Brier score and calibration error;
    then by sex, age band and hospital. --json has every figure.

    --panels draws films, chosen by their labels and a digest, beside the model's probabilities and
    decisions. It shows the films themselves; share it as you would share them.

    The model's bytes are checked against its digest before use. A run's model is its last one.

    Example: thoracle evaluate runs/first --data ../shared/data/nih --subset test
    """
    if subset not in SUBSETS:
        raise ConfigError(f"--subset is {', '.join(SUBSETS)}, not {subset!r}")
    if 0 < resamples < 10:
        raise ConfigError("--resamples is 0 or at least 10")
    if panels is not None:
        new_picture(panels, "--panels")
    chosen = choose(target, number)

    from client.learners.registry import from_description
    from server.evaluate import evaluate_model, read_model

    learner = from_description(chosen.learner)
    refuse_parts(learner)
    model = read_model(chosen.path, chosen.manifest)
    with progress() as bar:
        reading = bar.add_task("reading radiographs", total=None)
        scoring = bar.add_task("scoring", total=None)
        test, cohort = _test_set(
            chosen,
            data,
            subset,
            learner.input_size,
            lambda done, total: bar.update(reading, completed=done, total=total),
        )
        found = evaluate_model(
            model,
            learner,
            test,
            resamples=resamples,
            threads=threads,
            progress=lambda done, total: bar.update(scoring, completed=done, total=total),
        )
    drawn = _panels(panels, found, test, cohort, films) if panels is not None else None
    if as_json:
        source = str(data) if data is not None else "the run's own test set"
        about = {"model": chosen.path.stem, "learner": chosen.learner, "data": source}
        more = {"chexpert_competition": competition_scores(found), "panels": drawn}
        emit_json({**about, "subset": subset, **found.to_record(), **more})
        return
    _print(chosen, found)
    if drawn is not None:
        out.print(f"Predicted against actual: {panels}", soft_wrap=True, markup=False)


def _test_set(
    chosen: Chosen, data: Path | None, subset: str, size: int, watch: Callable[[int, int], None]
) -> tuple[TestSet, Cohort | None]:
    """Return what to score on, and the films it came from unless it is the run's own."""
    from client.data.preprocess import load_pixels
    from client.data.sources import load_source
    from client.data.vocabulary import project
    from simulation.testset import read_test_set, scored_on

    if data is None:
        own = chosen.run / "test.npz"
        if not own.is_file():
            raise DataError("the run has no test set of its own: give --data FOLDER")
        return read_test_set(own), None
    cohort = project(load_source(data, SUBSETS[subset]), chosen.findings)
    pixels = load_pixels(cohort, size, progress=watch, plan=chosen.preprocessing(size))
    return scored_on(cohort, pixels), cohort


def _panels(
    path: Path, found: Evaluation, test: TestSet, cohort: Cohort | None, films: int
) -> dict[str, object]:
    """Draw panels; return what is told of them."""
    from client.data.decode import decode
    from client.data.images import read_bytes
    from simulation.panels import Panel, bars_of, choose_films, write_panels

    # A run's own test set keeps pixels without identifiers: they are shown as the model sees them.
    ids = [record.image_id for record in cohort.records] if cohort else None
    keys = [each.encode() for each in ids] if ids else [film.tobytes() for film in test.pixels]
    places = choose_films(test.labels, test.patients, keys, films)
    bars = bars_of(test, found.scores, places)
    paths = [cohort.records[place].image for place in places] if cohort else None
    shown = (
        [decode(read_bytes(film), film.name) for film in paths]
        if paths
        else [test.pixels[place, 0] for place in places]
    )
    drawn = [Panel(film=film, bars=each) for film, each in zip(shown, bars, strict=True)]
    write_panels(path, drawn)
    there = {bar.finding for panel in drawn for bar in panel.bars if bar.actual}
    occur = [name for name, column in zip(test.findings, test.labels.T, strict=True) if 1 in column]
    return {
        "file": str(path),
        "films": len(places),
        "not_shown": [name for name in occur if name not in there],
    }


def _print(chosen: Chosen, found: Evaluation) -> None:
    table = Table(title=f"{chosen.learner['name']}, model {chosen.path.stem[:16]}…")
    table.add_column("Finding")
    for head in ("Positives", "AUC", "Average precision", *(f"AUC {v}" for v in found.within)):
        table.add_column(head, justify="right")
    for place, label in enumerate(found.overall.labels):
        views = (scores.labels[place].auc for scores in found.within.values())
        table.add_row(
            label.label,
            str(label.positives),
            figure(label.auc),
            figure(label.average_precision),
            *map(figure, views),
        )
    table.add_section()
    table.add_row(
        f"Macro over {found.overall.scored}",
        "",
        figure(found.overall.macro_auc),
        figure(found.overall.macro_average_precision),
        *(figure(scores.macro_auc) for scores in found.within.values()),
    )
    out.print(table)
    five = competition_scores(found)
    if five["macro_auc"] is not None:
        out.print(
            f"Of CheXpert's five competition findings, the {five['scored']} with both classes:"
            f" macro AUC {five['macro_auc']:.3f}"
        )
    out.print(f"{found.overall.images:,} images of {found.patients:,} patients")
    out.print(_measures(found))
    out.print(_groups(found))


def competition_scores(found: Evaluation) -> dict[str, float | int | None]:
    """Return the macro figures over the five findings of the CheXpert competition."""
    from client.learners.metrics import macro_over  # brings scikit-learn

    return macro_over(found.overall, [canonical(name) for name in COMPETITION])


def _measures(found: Evaluation) -> Table:
    suite = found.suite
    table = Table(title="With 95 % intervals over patients")
    for head in ("Figure", "Value", "From", "To"):
        table.add_column(head, justify="left" if head == "Figure" else "right")
    for head, name, value in (
        ("Macro AUC", "macro_auc", found.overall.macro_auc),
        (
            "Macro average precision",
            "macro_average_precision",
            found.overall.macro_average_precision,
        ),
        ("Weighted F1 (others' thresholds)", "weighted_f1", suite.operating.weighted_f1),
        ("Brier score", "brier", suite.calibration.brier),
        ("Expected calibration error", "ece", suite.calibration.ece),
    ):
        interval = suite.intervals.get(name)
        ends = (interval.low, interval.high) if interval else (None, None)
        table.add_row(head, figure(value), *map(figure, ends))
    return table


def _groups(found: Evaluation) -> Table:
    table = Table(title="Within groups")
    for head in ("Group", "Images", "Macro AUC", "From", "To", "Labels", "Brier", "ECE"):
        table.add_column(head, justify="left" if head == "Group" else "right")
    for kind, groups in found.suite.groups.items():
        for name, group in groups.items():
            ends = (group.interval.low, group.interval.high) if group.interval else (None, None)
            table.add_row(
                f"{kind} {name}",
                f"{group.scores.images:,}",
                figure(group.scores.macro_auc),
                *map(figure, ends),
                str(group.scores.scored),
                figure(group.calibration.brier),
                figure(group.calibration.ece),
            )
        table.add_section()
    return table
