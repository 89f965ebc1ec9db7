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

if TYPE_CHECKING:
    from server.evaluate import Evaluation, TestSet

SUBSETS: MappingProxyType[str, Literal["train", "test"] | None] = MappingProxyType(
    {"test": "test", "train": "train", "all": None}
)
_RESAMPLES = 1000


def evaluate(
    target: Annotated[
        Path, typer.Argument(metavar="RUN|MODEL", help="Run folder, or a file of its models/.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder in the NIH release's layout; default: the run's own test set."),
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
    threads: Annotated[int, typer.Option(help="Processors to use.", min=1)] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Score a model: ranking, decisions and calibration, each with a 95 % interval over patients.

    Macro AUC beside the AUC within each view (the view alone predicts some findings), each
    finding, weighted F1 on thresholds that other patients gave, Brier score and calibration error;
    then by sex, age band and hospital. --json has every figure.

    The model's bytes are checked against its digest before use. A run's model is its last one.

    Example: thoracle evaluate runs/first --data ../shared/data/nih --subset test
    """
    if subset not in SUBSETS:
        raise ConfigError(f"--subset is {', '.join(SUBSETS)}, not {subset!r}")
    if 0 < resamples < 10:
        raise ConfigError("--resamples is 0 or at least 10")
    chosen = choose(target, number)

    from client.learners.registry import from_description
    from server.evaluate import evaluate_model, read_model

    learner = from_description(chosen.learner)
    refuse_parts(learner)
    model = read_model(chosen.path, chosen.manifest)
    with progress() as bar:
        reading = bar.add_task("reading radiographs", total=None)
        scoring = bar.add_task("scoring", total=None)
        test = _test_set(
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
    if as_json:
        source = str(data) if data is not None else "the run's own test set"
        about = {"model": chosen.path.stem, "learner": chosen.learner, "data": source}
        five = competition_scores(found)
        emit_json({**about, "subset": subset, **found.to_record(), "chexpert_competition": five})
        return
    _print(chosen, found)


def _test_set(
    chosen: Chosen, data: Path | None, subset: str, size: int, watch: Callable[[int, int], None]
) -> TestSet:
    from client.data.preprocess import load_pixels
    from client.data.sources import load_source
    from client.data.vocabulary import project
    from simulation.testset import read_test_set, scored_on

    if data is None:
        own = chosen.run / "test.npz"
        if not own.is_file():
            raise DataError("the run has no test set of its own: give --data FOLDER")
        return read_test_set(own)
    cohort = project(load_source(data, SUBSETS[subset]), chosen.findings)
    pixels = load_pixels(cohort, size, progress=watch, plan=chosen.preprocessing(size))
    return scored_on(cohort, pixels)


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
