"""``thoracle evaluate``: score a model of a run on radiographs, with the figures' uncertainty."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from client.data.chexpert import COMPETITION
from client.data.records import FINDINGS
from client.data.vocabulary import canonical
from ledger.canonical import parse_json
from ledger.console import JsonFlag, emit_json, out, progress
from ledger.errors import ConfigError, DataError, EvidenceMismatch, EvidenceMissing
from ledger.files import read_bounded
from ledger.manifest import Manifest

if TYPE_CHECKING:
    from client.data.pipeline import Preprocessing
    from client.learners.interface import Learner
    from server.evaluate import Evaluation, TestSet

MAX_RUN_BYTES = 1 << 24
MAX_METRICS_BYTES = 64 << 20
SUBSETS: MappingProxyType[str, Literal["train", "test"] | None] = MappingProxyType(
    {"test": "test", "train": "train", "all": None}
)
_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The model to score, and what the run says about it.

    Args:
        path: ``models/<digest>.safetensors``.
        run: the run folder.
        learner: the family's name and options.
        manifest: the model's tensors.
        findings: what the model tells, in its outputs' order.
        films: how the run preprocessed its films, beside their size.
    """

    path: Path
    run: Path
    learner: dict[str, object]
    manifest: Manifest
    findings: tuple[str, ...]
    films: dict[str, Any]

    def preprocessing(self, size: int) -> Preprocessing:
        """Return how films are prepared for the model: at ``size`` pixels, else as in its run.

        Raises:
            EvidenceMismatch: the run's record asks for steps that there are not.
        """
        from client.data.pipeline import Preprocessing

        try:
            return Preprocessing(size=size, **self.films)
        except (TypeError, ConfigError) as error:
            raise EvidenceMismatch(
                f"the run's record of its preprocessing cannot be used: {error}"
            ) from None


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


def choose(target: Path, number: int | None = None) -> Chosen:
    """Find model, learner and manifest of a run folder or of a model file in one.

    Raises:
        DataError: there is neither at ``target``, or the run has no such round.
        EvidenceMismatch: the run's records cannot be read.
    """
    if target.is_file():
        if number is not None:
            raise ConfigError("--round chooses a model of a run folder; a model file was given")
        run, path = target.absolute().parent.parent, target
    elif target.is_dir():
        run, path = target, None
    else:
        raise DataError(f"there is no run folder or model file {target}")
    if not (run / "run.json").is_file():
        raise DataError(f"{target} is no run folder, nor a file in the models/ of one")
    record = parse_json(read_bounded(run / "run.json", MAX_RUN_BYTES), MAX_RUN_BYTES)
    learner = record.get("learner") if isinstance(record, dict) else None
    if not isinstance(record, dict) or not isinstance(learner, dict):
        raise EvidenceMismatch(f"{run / 'run.json'} does not name the run's learner")
    if path is None:
        digest = _digest_after(run, number, str(record.get("initial_model", "")))
        path = run / "models" / f"{digest}.safetensors"
    manifest = Manifest.from_json(record.get("manifest"))
    findings = tuple(str(name) for name in record.get("findings", FINDINGS))
    settings = record.get("config")
    films = settings.get("preprocess_options", {}) if isinstance(settings, dict) else {}
    return Chosen(
        path=path, run=run, learner=learner, manifest=manifest, findings=findings, films=films
    )


def refuse_parts(learner: Learner) -> None:
    """Refuse a learner whose models are not whole outside the hospitals.

    Raises:
        ConfigError: parts of its models stay at the hospitals; here they would be as untrained.
    """
    if learner.local_tensors(learner.build(0)):
        raise ConfigError(
            "each hospital keeps parts of this model for itself; only there is it whole"
        )


def _digest_after(run: Path, number: int | None, initial: str) -> str:
    if number == 0:
        return initial
    try:
        text = read_bounded(run / "metrics.csv", MAX_METRICS_BYTES).decode()
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        models = {int(row["round"]): row["model"] for row in rows}
    except EvidenceMissing:
        models = {}
    except (ValueError, KeyError, TypeError):
        raise EvidenceMismatch(f"{run / 'metrics.csv'} is not a run's table of rounds") from None
    wanted = max(models, default=None) if number is None else number
    if wanted is None or wanted not in models:
        which = "a finished round" if number is None else f"a round {number}"
        raise DataError(f"the run {run.name} does not have {which}")
    return models[wanted]


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
            _figure(label.auc),
            _figure(label.average_precision),
            *map(_figure, views),
        )
    table.add_section()
    table.add_row(
        f"Macro over {found.overall.scored}",
        "",
        _figure(found.overall.macro_auc),
        _figure(found.overall.macro_average_precision),
        *(_figure(scores.macro_auc) for scores in found.within.values()),
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
        table.add_row(head, _figure(value), *map(_figure, ends))
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
                _figure(group.scores.macro_auc),
                *map(_figure, ends),
                str(group.scores.scored),
                _figure(group.calibration.brier),
                _figure(group.calibration.ece),
            )
        table.add_section()
    return table


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
