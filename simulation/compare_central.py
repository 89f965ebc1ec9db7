"""A central cell of a bench: one training on all patients together, phase after phase.

The curve is written after every epoch that is scored, the training put down every minute, and each
finished phase kept, so that a stopped cell goes on. Epochs stand where a federation has rounds: a
learner of several phases divides them as it would divide rounds, and ``[[phases]]`` of the settings
mean that many passes each (times the phase's own ``epochs``), whole ones: there is nothing to
average, so ``parts`` divides none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from client.checkpoint import Cadence, Desk
from client.learners.exchange import load_model, module_to_model
from client.learners.interface import Learner
from client.learners.phase import Phase
from client.train import train
from client.train_plan import TrainPlan
from ledger.canonical import canonical_json, parse_json
from ledger.errors import DataError
from ledger.files import atomic_write, read_bounded, remove
from ledger.manifest import Manifest, decode_model, encode_model, model_digest
from server.evaluate import MAX_MODEL_BYTES, TestSet, evaluate_model
from simulation.cohorts import Cohorts, films_of
from simulation.compare import Cell
from simulation.planning import learner_of, schedule_of, settings_in, train_plan
from simulation.prepare import initial_module
from simulation.progress import Steps
from simulation.settings import Settings
from simulation.testset import scored_on

_LIMIT = 1 << 24
RESAMPLES = 1000
CADENCE = Cadence(seconds=60.0)
"""How often a central training is put down."""
Point = dict[str, float | int | None]
"""Of a curve: ``at`` (epoch or round), macro AUC, within AP and PA, seconds and bytes so far."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """One phase of a central training.

    Attributes:
        phase: what is trained.
        plan: of all its epochs.
        before: epochs of the phases before it.
    """

    phase: Phase
    plan: TrainPlan
    before: int


def spans_of(settings: Settings, learner: Learner) -> Iterator[Span]:
    """Yield the phases of a central training, in order."""
    whole = settings if settings.phases else replace(settings, rounds=settings.epochs)
    tables = schedule_of(whole, learner)
    if not tables:
        phase = learner.phase(learner.phases[-1])
        yield Span(phase=phase, plan=replace(train_plan(settings), parts=1), before=0)
        return
    before = 0
    for table in tables:
        own = settings_in(replace(settings, epochs=Settings.epochs), learner, table)
        epochs = table["rounds"] * own.epochs
        plan = replace(train_plan(replace(own, epochs=epochs)), parts=1)
        yield Span(phase=learner.phase(table["name"]), plan=plan, before=before)
        before += epochs


def train_centrally(cell: Cell, cohorts: Cohorts, folder: Path, steps: Steps) -> dict[str, object]:
    """Train and score a central cell, or go on with it; return what is kept of it.

    Args:
        cell: which.
        cohorts: its data; the first hospital holds them all.
        folder: its own; holds what a stopped one goes on from.
        steps: says how far it is.

    Raises:
        DataError: there is nothing to score on.
    """
    settings, rows = cell.settings, cohorts.hospitals[0]
    if cohorts.test is None:
        raise DataError("there is no test list")
    learner = learner_of(settings, cohorts.train.vocabulary)
    module = initial_module(settings, learner, cohorts.train.vocabulary)
    test = scored_on(cohorts.test, films_of(settings, cohorts.test))
    folder.mkdir(parents=True, exist_ok=True)
    training = _Central(
        name=cell.name,
        learner=learner,
        module=module,
        test=test,
        folder=folder,
        desk=Desk(
            folder=folder,
            data=(
                films_of(settings, cohorts.train)[rows.train],
                cohorts.train.label_matrix()[rows.train],
            ),
            cadence=CADENCE,
        ),
        curve=Curve(folder / "curve.json"),
        steps=steps,
    )
    spans = list(spans_of(settings, learner))
    for span in spans:
        training.train(span, seed=settings.seed + 1, total=sum(each.plan.epochs for each in spans))
    model = module_to_model(module, learner.shared(module))
    training.clear()
    found = evaluate_model(model, learner, test, resamples=RESAMPLES)
    return {
        "evaluation": found.to_record(),
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "images": len(rows.train),
        "curve": training.curve.points,
        "seconds": training.curve.seconds,
        "bytes": 0,
        "model": model_digest(encode_model(model)).hex(),
    }


@dataclass(kw_only=True)
class _Central:
    """One central training, phase by phase."""

    name: str
    learner: Learner
    module: nn.Module
    test: TestSet
    folder: Path
    desk: Desk
    curve: Curve
    steps: Steps

    def train(self, span: Span, *, seed: int, total: int) -> None:
        """Train one phase, unless it was finished before."""
        kept = self.folder / f"{span.phase.name}-{span.before}.safetensors"
        names = self.learner.shared(self.module)
        base = module_to_model(self.module, names)
        if kept.is_file():
            data = read_bounded(kept, MAX_MODEL_BYTES)
            load_model(self.module, decode_model(data, Manifest.of_model(base)), names)
            return
        pixels, labels = self.desk.data
        every = -(-len(pixels) // span.plan.batch_size)

        def heard(done: int, _all: int) -> None:
            if done % every == 0:
                self._epoch(span, span.before + done // every, total)

        bound = {
            "learner": self.learner.describe(),
            "plan": span.plan.describe(),
            "phase": span.phase.name,
        }
        train(
            self.module, self.learner, pixels, labels, span.plan, seed=seed + span.before,
            phase=span.phase, progress=heard, checkpoint=self.desk.checkpoint(base, bound, seed),
        )  # fmt: skip
        atomic_write(kept, encode_model(module_to_model(self.module, names)))
        self.desk.clear()

    def _epoch(self, span: Span, epoch: int, total: int) -> None:
        """Score an epoch whose model tells findings, and say how far it is."""
        told = span.phase.name
        if span.phase.scored:
            model = module_to_model(self.module, self.learner.shared(self.module))
            self.curve.add(epoch, evaluate_model(model, self.learner, self.test, resamples=0))
            told = self.curve.told()
        else:
            self.curve.pass_time(epoch)
        self.steps.say(f"  {self.name}: epoch {epoch} of {total}: {told}")

    def clear(self) -> None:
        """Forget what a stopped one would go on from; the curve stays."""
        self.desk.clear()
        for path in self.folder.glob("*.safetensors"):
            remove(path)


class Curve:
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

    def pass_time(self, epoch: int) -> None:
        """Add a point without scores: the model does not tell findings yet."""
        self._put({"at": epoch, **dict.fromkeys(("macro_auc", "macro_auc_AP", "macro_auc_PA"))})

    def add(self, epoch: int, found: Any) -> None:
        """Add an epoch's point, over any that it repeats."""
        within = {view: scores.macro_auc for view, scores in found.within.items()}
        self._put(
            {
                "at": epoch,
                "macro_auc": found.overall.macro_auc,
                "macro_auc_AP": within.get("AP"),
                "macro_auc_PA": within.get("PA"),
            }
        )

    def _put(self, point: Point) -> None:
        epoch = int(point["at"] or 0)
        kept = [point for point in self.points if int(point["at"] or 0) < epoch]
        self.points = [
            *kept,
            {
                **point,
                "seconds": round(self._before + time.monotonic() - self._start, 3),
                "bytes": 0,
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
