"""One cell of a bench made, and what is kept of it: one JSON file.

A central cell writes its curve after every epoch and puts its training down, so that a stopped one
goes on; a federated one is a run folder, which goes on from its round.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from client.checkpoint import Cadence, Desk
from client.learners.exchange import module_to_model
from client.train import train
from ledger.canonical import canonical_json, parse_json
from ledger.errors import DataError
from ledger.files import atomic_write, read_bounded
from ledger.manifest import encode_model, model_digest
from server.evaluate import TestSet, evaluate_model, read_model
from simulation.cohorts import Cohorts, Shares, films_of, gather
from simulation.compare import CENTRAL, FORMAT, Cell, versions
from simulation.figures import table_rows
from simulation.planning import learner_of, train_plan
from simulation.prepare import initial_module
from simulation.progress import Steps
from simulation.stratify import stratified_split
from simulation.testset import read_test_set, scored_on
from simulation.utility import GridRun, make

_LIMIT = 1 << 24
RESAMPLES = 1000
CADENCE = Cadence(seconds=60.0)
"""How often a central training is put down."""
Point = dict[str, float | int | None]
"""Of a curve: ``at`` (epoch or round), macro AUC, within AP and PA, seconds and bytes so far."""


def gather_cell(cell: Cell, scratch: Path) -> Cohorts:
    """Load a cell's data, held-back patients of a central cell stratified by finding.

    Raises:
        DataError: the data cannot be used, or have no test list to score on.
    """
    settings = cell.settings
    if cell.mode == CENTRAL:
        settings = replace(settings, hospitals=1, partition="iid")
    found = gather(settings, scratch)
    if found.test is None:
        raise DataError("a bench needs a test list: give settings.test, or data that have one")
    if cell.mode == CENTRAL:
        kept, held = stratified_split(found.train, settings.held_back, settings.seed)
        found = replace(found, hospitals=(Shares(train=kept, held=held),))
    return found


def data_digests(cohorts: Cohorts) -> dict[str, str]:
    """Return the digests of the records that a cell trains and is scored on."""
    test = cohorts.test.digest().hex() if cohorts.test is not None else ""
    return {"train": cohorts.train.digest().hex(), "test": test}


def run_cell(
    cell: Cell, cohorts: Cohorts, digest: str, folder: Path, steps: Steps
) -> dict[str, object]:
    """Make one cell, or go on with it, and return what is kept of it.

    Args:
        cell: which.
        cohorts: its data.
        digest: of the cell.
        folder: its own; holds what a stopped one goes on from.
        steps: says how far it is.
    """
    about: dict[str, object] = {
        "format": FORMAT,
        "digest": digest,
        "name": cell.name,
        "mode": cell.mode,
        "variant": cell.variant,
        "settings": cell.told(),
        "data": data_digests(cohorts),
        "versions": versions(),
    }
    work = _central if cell.mode == CENTRAL else _federated
    return {**about, **work(cell, cohorts, folder, steps)}


def _central(cell: Cell, cohorts: Cohorts, folder: Path, steps: Steps) -> dict[str, object]:
    settings, rows = cell.settings, cohorts.hospitals[0]
    if cohorts.test is None:
        raise DataError("there is no test list")
    learner = learner_of(settings, cohorts.train.vocabulary)
    module = initial_module(settings, learner, cohorts.train.vocabulary)
    test = scored_on(cohorts.test, films_of(settings, cohorts.test))
    pixels = films_of(settings, cohorts.train)[rows.train]
    labels = cohorts.train.label_matrix()[rows.train]
    plan, seed = train_plan(settings), settings.seed + 1
    base = module_to_model(module, learner.shared(module))
    curve = _Curve(folder / "curve.json")
    folder.mkdir(parents=True, exist_ok=True)
    desk = Desk(folder=folder, data=(pixels, labels), cadence=CADENCE)
    bound = {"learner": learner.describe(), "plan": plan.describe()}
    every = -(-len(pixels) // plan.batch_size)

    def heard(done: int, total: int) -> None:
        if done % every == 0:
            epoch = done // every
            model = module_to_model(module, learner.shared(module))
            curve.add(epoch, evaluate_model(model, learner, test, resamples=0), bytes_=0)
            steps.say(f"  {cell.name}: epoch {epoch} of {total // every}: {curve.told()}")

    train(
        module, learner, pixels, labels, plan, seed=seed, progress=heard,
        checkpoint=desk.checkpoint(base, bound, seed),
    )  # fmt: skip
    model = module_to_model(module, learner.shared(module))
    desk.clear()
    return {
        **_scores(evaluate_model(model, learner, test, resamples=RESAMPLES)),
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "images": len(pixels),
        "curve": curve.points,
        "seconds": curve.seconds,
        "bytes": 0,
        "model": model_digest(encode_model(model)).hex(),
    }


def _federated(cell: Cell, cohorts: Cohorts, folder: Path, steps: Steps) -> dict[str, object]:
    from simulation.chosen import choose

    steps.say(f"  {cell.name}: a whole audited run in {folder}")
    make(GridRun(name=cell.name, settings=cell.settings), folder)
    chosen, learner = choose(folder), learner_of(cell.settings, cohorts.train.vocabulary)
    rows = table_rows(folder / "metrics.csv")
    central = {row["round"]: row for row in table_rows(folder / "central.csv")}
    points: list[Point] = []
    seconds = moved = 0.0
    for row in rows:
        seconds += float(row["seconds"])
        moved += int(row["bytes_up"]) + int(row["bytes_down"])
        scored = central.get(row["round"], {})
        points.append(
            {
                "at": int(row["round"]),
                **{
                    n: _number(scored.get(n)) for n in ("macro_auc", "macro_auc_AP", "macro_auc_PA")
                },
                "federated_auc": _number(row.get("metric_auc")),
                "seconds": seconds,
                "bytes": int(moved),
            }
        )
    module = learner.build(0)
    found: dict[str, object] = {"evaluation": None}
    if not learner.local:  # what a hospital keeps for itself nobody else can score
        model = read_model(chosen.path, chosen.manifest)
        test: TestSet = read_test_set(folder / "test.npz")
        found = _scores(evaluate_model(model, learner, test, resamples=RESAMPLES))
    return {
        **found,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "images": sum(len(share.train) for share in cohorts.hospitals),
        "curve": points,
        "seconds": seconds,
        "bytes": int(moved),
        "model": chosen.path.stem,
    }


class _Curve:
    """A central training's scores by epoch, durable after each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.points: list[Point] = []
        if path.is_file():
            found = parse_json(read_bounded(path, _LIMIT), _LIMIT)
            self.points = found if isinstance(found, list) else []
        self._before = float(self.points[-1]["seconds"] or 0) if self.points else 0.0
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Of training and scoring, over all sittings; what was lost with a stop is not in it."""
        return float(self.points[-1]["seconds"] or 0) if self.points else 0.0

    def add(self, epoch: int, found: Any, *, bytes_: int) -> None:
        """Add an epoch's point, over any that it repeats."""
        within = {view: scores.macro_auc for view, scores in found.within.items()}
        kept = [point for point in self.points if int(point["at"] or 0) < epoch]
        self.points = [
            *kept,
            {
                "at": epoch,
                "macro_auc": found.overall.macro_auc,
                "macro_auc_AP": within.get("AP"),
                "macro_auc_PA": within.get("PA"),
                "seconds": round(self._before + time.monotonic() - self._start, 3),
                "bytes": bytes_,
            },
        ]
        atomic_write(self._path, canonical_json(self.points))

    def told(self) -> str:
        """Return the last point in words."""
        last = self.points[-1]
        return ", ".join(
            f"{name} {'–' if last[key] is None else f'{last[key]:.3f}'}"
            for name, key in (
                ("macro AUC", "macro_auc"),
                ("within AP", "macro_auc_AP"),
                ("within PA", "macro_auc_PA"),
            )
        )


def _scores(found: Any) -> dict[str, object]:
    return {"evaluation": found.to_record()}


def _number(text: str | None) -> float | None:
    return float(text) if text else None
