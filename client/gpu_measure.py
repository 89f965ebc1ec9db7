"""A few steps of one phase on this machine's device, private or not, and what they cost.

On random images; the loss is that of a fixed batch with fixed draws, before and after. Private
steps with a mechanism's real noise show no fall in so few, so here the noise is next to none; what
a step costs does not depend on it.
"""

from __future__ import annotations

import importlib.util
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from client.dp_gradients import gradients_of
from client.dp_oracle import check_uncoupled
from client.dp_step import PrivatePlan, PrivateSteps
from client.learners.determinism import deterministic
from client.learners.device import AUTO, CUDA, choose, placed
from client.learners.inputs import standardise
from client.learners.interface import Learner
from client.learners.phase import Draws, Phase
from client.optimisers import free_steps
from client.plain_step import PlainSteps
from client.train_plan import TrainPlan

if TYPE_CHECKING:
    from client.noise import Keystream

Take = Callable[[int], None]
"""Takes a step, told how many were taken before."""
_NOISE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What to measure.

    Attributes:
        batch: images a step.
        steps: that count; one more before them warms up.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    batch: int = 64
    steps: int = 10
    device: str = AUTO


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One phase, trained in one way.

    Attributes:
        images_per_second: by the median step.
        memory_mib: peak of what the GPU's allocator gave out; on a processor, of the process so
            far.
        before, after: mean loss of the batch, with the same draws.
    """

    learner: str
    phase: str
    private: bool
    size: int
    batch: int
    parameters: int
    images_per_second: float
    memory_mib: float
    before: float
    after: float

    @property
    def fell(self) -> bool:
        """Whether training lowered the loss (NaN did not fall)."""
        return self.after < self.before


class OrdinaryNoise:
    """Gaussian noise of NumPy's generator, where the keystream's library is not installed."""

    insecure = True

    def __init__(self) -> None:
        self._generator = np.random.default_rng()

    def normals(self, count: int) -> NDArray[np.float32]:
        """Return standard normal values."""
        return self._generator.standard_normal(count, dtype=np.float32)


def noise_source() -> Keystream | OrdinaryNoise:
    """Return the hospital's own keystream where its library is here, or else ordinary noise."""
    if importlib.util.find_spec("cryptography") is None:
        return OrdinaryNoise()
    from client.noise import Keystream

    return Keystream()


def measure(learner: Learner, phase: Phase, setup: Setup, *, private: bool) -> Figure:
    """Train one phase for a few steps.

    Raises:
        PrivacyError: the oracle refuses the phase (only where ``private``).
    """
    device = choose(setup.device)
    images, labels = batch_of(learner, setup.batch)
    module = learner.build(0)
    with deterministic(seed=0, threads=torch.get_num_threads(), device=device):
        if device.type == CUDA:
            torch.cuda.reset_peak_memory_stats(device)
        with placed(module, device):
            pixels = standardise(images.to(device)).contiguous(memory_format=torch.channels_last)
            truth = labels.to(device)
            draws = _fixed(phase, module, pixels, truth)
            before = _loss(phase, module, pixels, truth, draws)
            take = (_private if private else _plain)(learner, phase, module, pixels, truth)
            seconds = [_timed(take, device, done) for done in range(setup.steps + 1)][1:]
            after = _loss(phase, module, pixels, truth, draws)
            memory = _memory(device)
    return Figure(
        learner=learner.name,
        phase=phase.name,
        private=private,
        size=learner.input_size,
        batch=setup.batch,
        parameters=sum(
            p.numel() for n, p in module.named_parameters() if n in phase.trained(module)
        ),
        images_per_second=round(setup.batch / statistics.median(seconds), 1),
        memory_mib=round(memory / 2**20, 1),
        before=before,
        after=after,
    )


def batch_of(learner: Learner, count: int) -> tuple[Tensor, Tensor]:
    """Return random 8-bit images with a square that its findings tell of, and the findings."""
    generator = Generator().manual_seed(0)
    side = learner.input_size
    images = torch.randint(0, 80, (count, 1, side, side), generator=generator, dtype=torch.uint8)
    labels = (torch.rand((count, learner.labels), generator=generator) < 0.3).to(torch.int8)
    images[labels[:, 0] == 1, :, : side // 2, : side // 2] += 120
    return images, labels


def _plain(
    learner: Learner, phase: Phase, module: nn.Module, images: Tensor, labels: Tensor
) -> Take:
    plan = TrainPlan.from_description(
        {**phase.train_defaults, "warmup": 0.0, "batch_size": len(images)}
    )
    module.train()
    draws, free = (Generator().manual_seed(seed) for seed in (1, 2))
    steps = PlainSteps(module, learner, phase, plan, draws=draws, free=free)

    def take(done: int) -> None:
        steps.take(images, labels, 0.0)
        if steps.free is not None:
            steps.free.after(done + 1, 0.0)

    return take


def _private(
    learner: Learner, phase: Phase, module: nn.Module, images: Tensor, labels: Tensor
) -> Take:
    shape = (int(images.shape[1]), int(images.shape[2]), int(images.shape[3]))
    check_uncoupled(module, phase, image_shape=shape, labels=learner.labels)
    plan = PrivatePlan(
        steps=1,
        sample_rate=1.0,
        noise_multiplier=_NOISE,
        optimiser="sgd",
        learning_rate=0.5,
        physical_batch=len(images),
    )
    steps = PrivateSteps(
        gradients_of(module, phase, Generator().manual_seed(1)),
        lambda rows: (images[rows], labels[rows]),
        plan,
        public_units=len(images),
        keystream=noise_source(),  # type: ignore[arg-type] # of which only normals is used
        rate_share=learner.rate_share,
    )
    local = TrainPlan(batch_size=len(images), free_rate=1e-4)
    generator = Generator().manual_seed(2)
    free = free_steps(module, learner, phase, local, generator=generator, count=len(images))
    every = np.arange(len(images), dtype=np.int64)

    def take(done: int) -> None:
        steps.take(every)
        if free is not None:
            free.after(done + 1, 0.5)

    return take


def _fixed(phase: Phase, module: nn.Module, images: Tensor, labels: Tensor) -> Draws:
    module.eval()
    with torch.no_grad():
        return phase.draws(module, images, labels, Generator().manual_seed(3))


def _loss(phase: Phase, module: nn.Module, images: Tensor, labels: Tensor, draws: Draws) -> float:
    modes = module.training
    module.eval()
    with torch.no_grad():
        found = float(phase.loss(module, images, labels, draws).mean())
    module.train(modes)
    return round(found, 6)


def _timed(take: Take, device: torch.device, done: int) -> float:
    start = time.perf_counter()
    take(done)
    if device.type == CUDA:
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _memory(device: torch.device) -> int:
    if device.type == CUDA:
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
