"""What privacy costs in time: a DP-SGD step against a plain step, measured in one process.

``python -m simulation.benchmark [--json]`` takes plain and private steps in turn on the same random
images, so that both see the same machine, and compares medians of processor time (one thread).
The private step is a hospital's own: per-sample gradients, clipping, the keystream's noise and
the optimiser; the microbatch oracle, which runs once a round, is left out of the steps.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from client.dp_gradients import gradients_of
from client.dp_step import PrivatePlan, PrivateSteps
from client.learners import get_learner
from client.learners.determinism import deterministic
from client.learners.interface import Learner
from client.learners.phase import Phase
from client.noise import Keystream
from client.plain_step import PlainSteps
from client.train import TrainPlan
from ledger.console import JsonFlag, emit_json, out, run

LEARNERS = ("vit", "cnn", "ssganvit")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Median processor seconds of a step on ``batch`` images, and how many times slower."""

    learner: str
    phase: str
    parameters: int
    size: int
    batch: int
    physical_batch: int
    plain_seconds: float
    private_seconds: float
    ratio: float


def measure(
    learner: Learner,
    phase: Phase,
    *,
    batch: int,
    physical: int,
    repeats: int,
    warm_up: int = 1,
) -> Cost:
    """Time plain and private steps in turn; a generator's steps, equal in both, are left out.

    Args:
        learner: what to train.
        phase: which of its phases.
        batch: images a step (the private step draws all of them: sample rate 1).
        physical: images of which per-sample gradients are in memory at a time.
        repeats: pairs of steps that count.
        warm_up: pairs before them that do not.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((batch, 1, learner.input_size, learner.input_size), generator=generator)
    labels = (torch.rand((batch, learner.labels), generator=generator) < 0.1).to(torch.int8)
    with deterministic(seed=0, threads=1):
        steps = (
            _plain(learner, phase, images, labels),
            _private(learner, phase, images, labels, physical),
        )
        spent: tuple[list[float], list[float]] = ([], [])
        for turn in range(warm_up + repeats):
            for step, times in zip(steps, spent, strict=True):
                start = time.process_time()
                step()
                if turn >= warm_up:
                    times.append(time.process_time() - start)
    module = learner.build(0)
    plain, private = (statistics.median(times) for times in spent)
    return Cost(
        learner=learner.name,
        phase=phase.name,
        parameters=sum(module.get_parameter(name).numel() for name in phase.trained(module)),
        size=learner.input_size,
        batch=batch,
        physical_batch=physical,
        plain_seconds=round(plain, 4),
        private_seconds=round(private, 4),
        ratio=round(private / plain, 2),
    )


def _plain(learner: Learner, phase: Phase, images: Tensor, labels: Tensor) -> Callable[[], object]:
    module = learner.build(0).train()
    steps = PlainSteps(
        module,
        learner,
        phase,
        TrainPlan(),
        draws=torch.Generator(),
        free=torch.Generator(),
    )
    pixels = images.contiguous(memory_format=torch.channels_last)  # as plain training has them
    return lambda: steps.take(pixels, labels, 0.5)


def _private(
    learner: Learner, phase: Phase, images: Tensor, labels: Tensor, physical: int
) -> Callable[[], object]:
    plan = PrivatePlan(
        steps=1, sample_rate=1.0, noise_multiplier=1.0, clip_norm=0.1, physical_batch=physical
    )
    steps = PrivateSteps(
        gradients_of(learner.build(0), phase, torch.Generator()),
        lambda rows: (images[rows], labels[rows]),
        plan,
        public_units=len(images),
        keystream=Keystream(),
        rate_share=learner.rate_share,
    )
    every = np.arange(len(images), dtype=np.int64)
    return lambda: steps.take(every)


def main(
    batch: Annotated[int, typer.Option(help="Images a step.")] = 128,
    physical: Annotated[int, typer.Option(help="Per-sample gradients in memory.")] = 32,
    repeats: Annotated[int, typer.Option(help="Pairs of steps that count.")] = 5,
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 64,
    learner: Annotated[list[str] | None, typer.Option(help="Again for each; all three.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Time a DP-SGD step against a plain one, for every phase of the built-in learners.

    Example: python -m simulation.benchmark --repeats 5
    """
    learners = [get_learner(name, input_size=size) for name in learner or LEARNERS]
    found = [
        measure(each, each.phase(name), batch=batch, physical=physical, repeats=repeats)
        for each in learners
        for name in each.phases
    ]
    if as_json:
        emit_json({"torch": torch.__version__, "threads": 1, "steps": [asdict(c) for c in found]})
        return
    out.print(
        "| learner | phase | parameters | images a step | plain, images/s | private, images/s |"
        " ratio |",
        soft_wrap=True,
    )
    out.print("|---|---|---|---|---|---|---|")
    for cost in found:
        rates = (cost.batch / seconds for seconds in (cost.plain_seconds, cost.private_seconds))
        cells = " | ".join(f"{rate:.0f}" for rate in rates)
        out.print(
            f"| {cost.learner} | {cost.phase} | {cost.parameters:,} | {cost.batch} | {cells} |"
            f" {cost.ratio:.2f} |",
            soft_wrap=True,
        )


if __name__ == "__main__":
    run(lambda: typer.run(main))
