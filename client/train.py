"""Local training: a fixed number of epochs over one hospital's images, repeatable bit for bit.

One seed fixes everything random (order, augmentation, dropout, a phase's own draws), each from a
generator of its own, so switching one on does not change the others. Nothing global stays changed.
What a step does is ``client.plain_step``'s; private training has a loop of its own
(``client.dpsgd``), for it draws its batches otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from client.checkpoint import Checkpoint
from client.learners.augment import augment
from client.learners.determinism import deterministic
from client.learners.device import ahead, choose, pinned, placed
from client.learners.inputs import standardise
from client.learners.interface import Learner
from client.learners.label_odds import odds_for
from client.learners.phase import Phase
from client.pass_parts import part_of_pass
from client.plain_step import PlainSteps
from client.train_plan import TrainPlan
from ledger.errors import DataError, NonFiniteUpdate

__all__ = ["Progress", "Step", "TrainOutcome", "TrainPlan", "seed_of", "train"]

Step = Callable[[Tensor, Tensor, float], float]
"""(images, labels, share of the round) -> mean loss of the batch before the step."""
Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""
DROPOUT, ORDER, MOTION, DRAWS, FREE = range(5)
"""Streams of randomness under one seed."""


@dataclass(frozen=True, kw_only=True)
class TrainOutcome:
    """What a training did.

    Args:
        steps: optimisation steps.
        examples: images seen, counted as often as they were seen.
        loss: mean loss per image over the last epoch, before each step.
        positives: known positive labels among the images, by label (private).
    """

    steps: int
    examples: int
    loss: float
    positives: tuple[int, ...]


def train(
    module: nn.Module,
    learner: Learner,
    images: NDArray[np.uint8],
    labels: NDArray[np.int8],
    plan: TrainPlan,
    *,
    seed: int,
    phase: Phase | None = None,
    progress: Progress | None = None,
    step: Step | None = None,
    checkpoint: Checkpoint | None = None,
    device: torch.device | None = None,
) -> TrainOutcome:
    """Train the module in place, from its checkpoint where there is one.

    Going on from a checkpoint gives, bit for bit, what an undisturbed training gives (on a
    processor: see ``client.learners.device``).

    Args:
        module: of this learner; on the processor, before and after.
        learner: what the module is of.
        images: (N, 1, S, S), 8-bit grey.
        labels: (N, L) of 1, 0, -1 (unknown) and -2 (uncertain: a class under ``multiclass``).
        plan: of this round.
        seed: fixes order, augmentation, dropout and draws.
        phase: what is trained, and on which loss; None: the learner's last.
        progress: told about every step.
        step: replaces ``PlainSteps.take``.
        checkpoint: where a long training is put down; None: nowhere.
        device: where to compute; None: ``device.choose``'s.

    Raises:
        DataError: no images, or arrays that do not fit the learner.
        ConfigError: the plan adjusts logits, and learner or phase cannot.
        NonFiniteUpdate: the loss became NaN or infinite; the module is to be thrown away.
    """
    _check_arrays(learner, images, labels)
    taught = phase or learner.phase(learner.phases[-1])
    odds = odds_for(learner, taught, labels, plan.logit_adjustment)  # of all images, not a part
    rows = part_of_pass(len(images), plan.parts, plan.turn)
    if len(rows) < len(images):
        images, labels = images[rows], labels[rows]
    where = device or choose()
    was_training = module.training
    seeded = deterministic(seed=seed_of(seed, DROPOUT), threads=plan.threads, device=where)
    with seeded, placed(module, where):
        module.train()
        try:
            steps = PlainSteps(
                module,
                learner,
                taught,
                plan,
                draws=Generator().manual_seed(seed_of(seed, DRAWS)),
                free=Generator().manual_seed(seed_of(seed, FREE)),
                odds=odds,
            )
            training = _Training(
                module=module,
                images=images,
                labels=labels,
                plan=plan,
                device=where,
                steps=steps,
                take=step or steps.take,
                checkpoint=checkpoint,
                progress=progress,
                generators={
                    "order": Generator().manual_seed(seed_of(seed, ORDER)),
                    "motion": Generator().manual_seed(seed_of(seed, MOTION)),
                    "draws": steps.draws,
                    **({} if steps.free is None else {"free": steps.free.generator}),
                },
            )
            loss = training.run()
        finally:
            module.train(was_training)
    return TrainOutcome(
        steps=training.done,
        examples=len(images) * plan.epochs,
        loss=loss,
        positives=tuple(int(count) for count in (labels == 1).sum(axis=0)),
    )


@dataclass(kw_only=True)
class _Training:
    """One round's epochs, from wherever its checkpoint left them."""

    module: nn.Module
    images: NDArray[np.uint8]
    labels: NDArray[np.int8]
    plan: TrainPlan
    device: torch.device
    steps: PlainSteps
    take: Step
    checkpoint: Checkpoint | None
    progress: Progress | None
    generators: dict[str, Generator]
    done: int = 0
    loss_sum: float = 0.0

    def run(self) -> float:
        """Take every step that is left; return the last epoch's mean loss an image."""
        self._take_up()
        while self.done < self._total:
            self._epoch()
        return self.loss_sum / len(self.images)

    @property
    def _an_epoch(self) -> int:
        return math.ceil(len(self.images) / self.plan.batch_size)

    @property
    def _total(self) -> int:
        return self._an_epoch * self.plan.epochs

    def _epoch(self) -> None:
        order = self.generators["order"]
        before, taken = order.get_state(), self.done % self._an_epoch
        self.loss_sum = self.loss_sum if taken else 0.0
        batches = islice(_batches(len(self.images), self.plan.batch_size, order), taken, None)
        for pixels, labels in ahead(batches, self._fetch, self.device):
            at = (self.done + 0.5) / self._total
            loss = self.take(self._prepare(pixels), labels.to(self.device, non_blocking=True), at)
            if not math.isfinite(loss):
                raise NonFiniteUpdate("training diverged: the loss is not finite")
            self.loss_sum += loss * len(labels)
            self.done += 1
            if self.steps.free is not None:
                self.steps.free.after(self.done, at)
            self._put_down(before)
            if self.progress is not None:
                self.progress(self.done, self._total)

    def _fetch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        pixels, labels = torch.from_numpy(self.images[rows]), torch.from_numpy(self.labels[rows])
        return pinned(pixels, self.device), pinned(labels, self.device)

    def _prepare(self, pixels: Tensor) -> Tensor:
        """Return what the network sees: bytes travel to the device, floats are made there."""
        images = standardise(pixels.to(self.device, non_blocking=True))
        moved = augment(images, self.plan.augmentation, self.generators["motion"])
        return moved.contiguous(memory_format=torch.channels_last)

    def _take_up(self) -> None:
        if self.checkpoint is None:
            return
        kept = self.checkpoint.load(self.module, self.steps.optimisers, self.generators)
        if kept is not None:
            self.done, self.loss_sum = int(kept["done"]), float(kept["loss_sum"])

    def _put_down(self, before: Tensor) -> None:
        """Write a checkpoint if it is time; ``before`` is the order's state before its draw."""
        if self.checkpoint is None or not self.checkpoint.due(self.done):
            return
        states = {name: each.get_state() for name, each in self.generators.items()}
        if self.done % self._an_epoch:  # within an epoch its order is drawn again
            states["order"] = before
        numbers = {"done": self.done, "loss_sum": self.loss_sum}
        self.checkpoint.save(self.module, self.steps.optimisers, states, numbers)


def _batches(count: int, size: int, order: Generator) -> Iterator[NDArray[np.int64]]:
    shuffled = torch.randperm(count, generator=order).numpy()
    for start in range(0, count, size):
        yield shuffled[start : start + size]


def seed_of(seed: int, stream: int) -> int:
    """Return an independent 63-bit seed, so that streams of near seeds do not overlap."""
    state = np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def _check_arrays(learner: Learner, images: NDArray[np.uint8], labels: NDArray[np.int8]) -> None:
    if len(images) == 0:
        raise DataError("there is nothing to train on: no images")
    expected = (len(images), learner.channels, learner.input_size, learner.input_size)
    if images.dtype != np.uint8 or images.shape != expected:
        raise DataError(
            f"learner {learner.name} takes uint8 images {expected}, not"
            f" {images.dtype} {images.shape}"
        )
    if labels.dtype != np.int8 or labels.shape != (len(images), learner.labels):
        raise DataError(
            f"learner {learner.name} takes int8 labels {(len(images), learner.labels)}, not"
            f" {labels.dtype} {labels.shape}"
        )
    if not np.isin(labels, (-2, -1, 0, 1)).all():
        raise DataError("labels are 1, 0, -1 (unknown) or -2 (uncertain)")
