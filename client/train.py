"""Local training: a fixed number of epochs over one hospital's images, repeatable bit for bit.

One seed fixes everything random (order, augmentation, dropout), each from a generator of its own,
so switching one on does not change the others. Nothing global stays changed. The optimisation
step is an argument: differential privacy replaces ``plain_step`` (and the batches), nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from client.checkpoint import Checkpoint
from client.learners.augment import Augmentation, augment
from client.learners.determinism import deterministic
from client.learners.inputs import standardise
from client.learners.interface import Learner
from ledger.errors import ConfigError, DataError, NonFiniteUpdate

Step = Callable[[nn.Module, Learner, Optimizer, Tensor, Tensor], float]
"""(module, learner, optimiser, images, labels) -> mean loss of the batch before the step."""
Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

OPTIMISERS = ("adamw", "adam", "sgd")
_SGD_MOMENTUM = 0.9
_MAX_EPOCHS = 1000
_MAX_BATCH = 65_536


@dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """How to train in one round.

    The learning rate follows a half cosine over the whole run, after a linear warm-up; ``span``
    is the part of the run that this round covers (see ``for_round``).

    Args:
        epochs: passes over the hospital's images, 1 to 1000.
        batch_size: images a step; the last batch of an epoch may be smaller.
        learning_rate: at the peak, (0, 10].
        final_share: share of the peak that is left at the end of the run, [0, 1]; 1 is constant.
        warmup: share of the run spent rising from zero, [0, 0.5].
        weight_decay: decoupled for AdamW; not applied to biases and norms, [0, 1].
        optimiser: "adamw", "adam" or "sgd" (momentum 0.9); its state starts fresh each round.
        clip_norm: largest L2 norm of a step's gradient, or None.
        proximal: weight mu of (mu / 2) |w - w0|^2, which pulls towards the round's first weights
            (FedProx: Li et al., MLSys 2020), [0, 100].
        augmentation: how training images may move.
        threads: torch threads, part of what a result depends on.
        span: (from, to) within the run, 0 <= from < to <= 1.

    Raises:
        ConfigError: a value is outside its range.
    """

    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 2e-3
    final_share: float = 0.1
    warmup: float = 0.05
    weight_decay: float = 0.05
    optimiser: str = "adamw"
    clip_norm: float | None = 1.0
    proximal: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    threads: int = 1
    span: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        _check(self, "epochs", 1, _MAX_EPOCHS, whole=True)
        _check(self, "batch_size", 1, _MAX_BATCH, whole=True)
        _check(self, "threads", 1, 256, whole=True)
        _check(self, "learning_rate", 1e-9, 10)
        _check(self, "final_share", 0, 1)
        _check(self, "warmup", 0, 0.5)
        _check(self, "weight_decay", 0, 1)
        _check(self, "proximal", 0, 100)
        if self.clip_norm is not None:
            _check(self, "clip_norm", 1e-9, 1e9)
        if self.optimiser not in OPTIMISERS:
            raise ConfigError(f"train: optimiser is one of {', '.join(OPTIMISERS)}")
        if not 0 <= self.span[0] < self.span[1] <= 1:
            raise ConfigError("train: span is a part of [0, 1]")

    def for_round(self, number: int, rounds: int) -> TrainPlan:
        """Return the plan of round ``number`` (from 1) of ``rounds``.

        Raises:
            ConfigError: there is no such round.
        """
        if not 1 <= number <= rounds:
            raise ConfigError(f"train: there is no round {number} of {rounds}")
        return replace(self, span=((number - 1) / rounds, number / rounds))

    def rate(self, share: float) -> float:
        """Return the learning rate at ``share`` in [0, 1] of this plan's span."""
        at = self.span[0] + share * (self.span[1] - self.span[0])
        if at < self.warmup:
            return self.learning_rate * at / self.warmup
        left = 0.5 * (1 + math.cos(math.pi * (at - self.warmup) / (1 - self.warmup)))
        return self.learning_rate * (self.final_share + (1 - self.final_share) * left)

    def describe(self) -> dict[str, object]:
        """Return the plan as JSON values, ``span`` left out (the round's number gives it)."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["augmentation"] = {
            item.name: getattr(self.augmentation, item.name) for item in fields(Augmentation)
        }
        del values["span"]
        return values

    @classmethod
    def from_description(cls, values: Mapping[str, object]) -> TrainPlan:
        """Return the plan that ``describe`` described.

        Raises:
            ConfigError: an unknown key, or a value outside its range.
        """
        moves = values.get("augmentation", {})
        known = {item.name for item in fields(cls)} - {"span"}
        inner = {item.name for item in fields(Augmentation)}
        if not isinstance(moves, Mapping):
            raise ConfigError("train: augmentation is a table")
        odd = sorted({*values} - known) + sorted({*moves} - inner)
        if odd:
            raise ConfigError(f"train: there is no setting {odd[0]!r}")
        rest = {key: value for key, value in values.items() if key != "augmentation"}
        return cls(augmentation=Augmentation(**moves), **rest)  # type: ignore[arg-type]


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
    progress: Progress | None = None,
    step: Step | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainOutcome:
    """Train the module in place, from its checkpoint where there is one.

    Going on from a checkpoint gives, bit for bit, what an undisturbed training gives.

    Args:
        module: of this learner.
        learner: gives the loss.
        images: (N, 1, S, S), 8-bit grey.
        labels: (N, L) of 1, 0, -1 (unknown) and -2 (uncertain: a class under ``multiclass``).
        plan: of this round.
        seed: fixes order, augmentation and dropout.
        progress: told about every step.
        step: replaces ``plain_step``.
        checkpoint: where a long training is put down; None: nowhere.

    Raises:
        DataError: no images, or arrays that do not fit the learner.
        NonFiniteUpdate: the loss became NaN or infinite; the module is to be thrown away.
    """
    _check_arrays(learner, images, labels)
    steps_an_epoch = math.ceil(len(images) / plan.batch_size)
    total = steps_an_epoch * plan.epochs
    take = step or plain_step_of(module, learner, plan)
    was_training = module.training
    done, loss_sum = 0, 0.0
    with deterministic(seed=_stream(seed, 0), threads=plan.threads):
        order, motion = (Generator().manual_seed(_stream(seed, stream)) for stream in (1, 2))
        optimiser = make_optimiser(module, learner, plan)
        kept = checkpoint.load(module, optimiser) if checkpoint is not None else None
        if kept is not None:
            done, loss_sum = int(kept[0]["done"]), float(kept[0]["loss_sum"])
            order.set_state(kept[1]["order"])
            motion.set_state(kept[1]["motion"])
        module.train()
        try:
            while done < total:
                drawn, taken = order.get_state(), done % steps_an_epoch
                loss_sum = loss_sum if taken else 0.0
                for rows in islice(_batches(len(images), plan.batch_size, order), taken, None):
                    for group in optimiser.param_groups:
                        group["lr"] = plan.rate((done + 0.5) / total) * group["share"]
                    batch = augment(
                        standardise(torch.from_numpy(images[rows])), plan.augmentation, motion
                    ).contiguous(memory_format=torch.channels_last)
                    loss = take(module, learner, optimiser, batch, torch.from_numpy(labels[rows]))
                    if not math.isfinite(loss):
                        raise NonFiniteUpdate("training diverged: the loss is not finite")
                    loss_sum += loss * len(rows)
                    done += 1
                    if checkpoint is not None and checkpoint.due(done):
                        # The order within an epoch is drawn again from before its draw.
                        state = drawn if done % steps_an_epoch else order.get_state()
                        checkpoint.save(
                            module,
                            optimiser,
                            {"order": state, "motion": motion.get_state()},
                            {"done": done, "loss_sum": loss_sum},
                        )
                    if progress is not None:
                        progress(done, total)
        finally:
            module.train(was_training)
    return TrainOutcome(
        steps=done,
        examples=len(images) * plan.epochs,
        loss=loss_sum / len(images),
        positives=tuple(int(count) for count in (labels == 1).sum(axis=0)),
    )


def plain_step_of(module: nn.Module, learner: Learner, plan: TrainPlan) -> Step:
    """Return the plan's step; a proximal one is tied to the weights that the module has now.

    What a hospital keeps for itself is not pulled: there is nothing global to be near to.
    """
    if not plan.proximal:
        return clipped_step(plan.clip_norm)
    own = set(learner.local_tensors(module))
    shared = [(n, p) for n, p in module.named_parameters() if p.requires_grad and n not in own]
    anchors = [(parameter, parameter.detach().clone()) for _name, parameter in shared]

    def pull() -> Tensor:
        squares = [(parameter - anchor).square().sum() for parameter, anchor in anchors]
        return 0.5 * plan.proximal * torch.stack(squares).sum()

    return clipped_step(plan.clip_norm, pull)


def clipped_step(clip_norm: float | None, penalty: Callable[[], Tensor] | None = None) -> Step:
    """Return a plain step whose gradient's L2 norm is at most ``clip_norm``.

    ``penalty`` is added to what is minimised, not to the loss that is told.
    """

    def plain_step(
        module: nn.Module, learner: Learner, optimiser: Optimizer, images: Tensor, labels: Tensor
    ) -> float:
        optimiser.zero_grad(set_to_none=True)
        loss = learner.loss(module(images), labels).mean()
        whole = loss if penalty is None else loss + penalty()
        torch.autograd.backward(whole)
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(module.parameters(), clip_norm)
        optimiser.step()
        return float(loss.detach())

    return plain_step


def make_optimiser(module: nn.Module, learner: Learner, plan: TrainPlan) -> Optimizer:
    """Return the plan's optimiser.

    Vectors (biases, norms) are not decayed. Each group's ``share`` is what the learner says of
    its tensors' learning rate.
    """
    kinds: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decay = plan.weight_decay if parameter.ndim > 1 else 0.0
            kinds.setdefault((learner.rate_share(name), decay), []).append(parameter)
    groups: list[dict[str, object]] = [
        {"params": parameters, "weight_decay": decay, "share": share}
        for (share, decay), parameters in kinds.items()
    ]
    if plan.optimiser == "sgd":
        return SGD(groups, lr=plan.learning_rate, momentum=_SGD_MOMENTUM)
    family = AdamW if plan.optimiser == "adamw" else Adam
    return family(groups, lr=plan.learning_rate)


def _batches(count: int, size: int, order: Generator) -> Iterator[NDArray[np.int64]]:
    shuffled = torch.randperm(count, generator=order).numpy()
    for start in range(0, count, size):
        yield shuffled[start : start + size]


def _stream(seed: int, stream: int) -> int:
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


def _check(plan: TrainPlan, name: str, low: float, high: float, *, whole: bool = False) -> None:
    value = getattr(plan, name)
    right = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not right or not low <= value <= high:
        kind = "an integer" if whole else "a number"
        raise ConfigError(f"train: {name} is {kind} in [{low:g}, {high:g}], not {value!r}")
