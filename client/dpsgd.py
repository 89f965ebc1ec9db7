"""DP-SGD over patients: Poisson-sample patients, then one uniform image of each.

Abadi et al. 2016, with the unit of privacy of McMahan et al. 2018: one *patient* contributes at
most one clipped gradient to a step, however many images the release has of them, so that epsilon
is per patient. With ``unit="image"`` every image is drawn on its own.

The mean's denominator is public (sample rate times a bucketed count), the batch's true size is
not used. An empty draw is a step of pure noise. Large draws are processed in chunks of
``physical_batch`` images; augmentation multiplicity averages the gradients of several augmented
copies of one image before clipping (De et al. 2022), at no privacy cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from client.dp_modules import check_module, quiet_hooks
from client.dp_optimiser import PrivateOptimiser
from client.dp_oracle import check_uncoupled
from client.noise import Keystream
from client.privacy_plan import MIN_COHORT
from ledger.errors import CohortTooSmall, ConfigError

PerSampleLoss = Callable[[Tensor, Tensor], Tensor]
Augment = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class PrivatePlan:
    """One round of DP-SGD.

    Attributes:
        steps: optimiser steps.
        sample_rate: probability that one unit is drawn in a step, (0, 1].
        noise_multiplier: noise deviation over ``clip_norm``.
        clip_norm: L2 bound on one unit's gradient.
        learning_rate: of AdamW (or SGD).
        optimiser: ``adamw`` or ``sgd``.
        weight_decay: decoupled.
        multiplicity: augmented copies of each image.
        physical_batch: images in memory at a time.
    """

    steps: int
    sample_rate: float
    noise_multiplier: float
    clip_norm: float = 1.0
    learning_rate: float = 1e-3
    optimiser: str = "adamw"
    weight_decay: float = 0.0
    multiplicity: int = 1
    physical_batch: int = 64

    def __post_init__(self) -> None:
        """Check every range (``ConfigError``)."""
        if self.steps < 1 or self.multiplicity < 1 or self.physical_batch < 1:
            raise ConfigError("steps, multiplicity and physical_batch must be at least 1")
        if not 0 < self.sample_rate <= 1:
            raise ConfigError("sample_rate must be above 0 and at most 1")
        if min(self.noise_multiplier, self.clip_norm, self.learning_rate) <= 0:
            raise ConfigError("noise_multiplier, clip_norm and learning_rate must be above 0")
        if self.optimiser not in {"adamw", "sgd"}:
            raise ConfigError("a private optimiser is adamw or sgd")


@dataclass(frozen=True, kw_only=True)
class PrivateOutcome:
    """What a round of DP-SGD did; ``drawn`` and ``refused`` are private to the hospital."""

    steps: int
    drawn: int
    refused: int
    insecure: bool


class UnitSampler:
    """Poisson sampling of units, one uniform image each.

    Args:
        units: for each image, the unit (patient) it belongs to, shape (N,).
        rate: probability of each unit in a draw.
        keystream: secret randomness.

    Raises:
        CohortTooSmall: fewer units than ``MIN_COHORT``.
    """

    def __init__(self, units: NDArray[np.int64], rate: float, keystream: Keystream) -> None:
        _, inverse, counts = np.unique(units, return_inverse=True, return_counts=True)
        if len(counts) < MIN_COHORT:
            raise CohortTooSmall(
                f"{len(counts)} patients are too few for private training: at least {MIN_COHORT}"
            )
        self._images = np.argsort(inverse, kind="stable")
        self._starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
        self._counts = counts.astype(np.int64)
        self._rate = rate
        self._keystream = keystream
        self.size = len(counts)

    def draw(self) -> NDArray[np.int64]:
        """Return the image indices of one draw, at most one a unit (may be empty)."""
        chosen = np.flatnonzero(self._keystream.bernoulli(self.size, self._rate))
        offsets = self._keystream.below(self._counts[chosen])
        picked: NDArray[np.int64] = self._images[self._starts[chosen] + offsets]
        return picked


def train_private(
    module: nn.Module,
    loss: PerSampleLoss,
    batch_of: Callable[[NDArray[np.int64]], tuple[Tensor, Tensor]],
    units: NDArray[np.int64],
    plan: PrivatePlan,
    *,
    public_units: int,
    input_shape: tuple[tuple[int, int, int], int],
    keystream: Keystream,
    augment: Augment | None = None,
    rate_share: Callable[[str], float] = lambda _name: 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> PrivateOutcome:
    """Train ``module`` in place for one round.

    Args:
        module: in any mode; left in evaluation mode.
        loss: from logits (B, L) and labels (B, L) to one loss a sample (B,); it must not couple
            samples (the microbatch oracle in the tests checks a learner's).
        batch_of: from image indices to images (B, 1, S, S) and labels (B, L).
        units: the patient of each image, shape (N,).
        plan: what to run; its mechanism is what the accountant was charged.
        input_shape: ((C, S, S), L) for the microbatch oracle's random images.
        public_units: bucketed number of units, the public part of the mean's denominator.
        keystream: secret randomness for draws and noise.
        augment: random transformation of images, for ``plan.multiplicity`` above 1.
        rate_share: share of the learning rate of each named parameter. Clipping and noise are the
            same whatever it is: it only scales what the optimiser does with the released sum.
        progress: called with (steps done, steps).

    Raises:
        UnsupportedModule: the module couples samples by construction (batch norm).
        CoupledSamples: the oracle saw a loss or module that couples samples.
        CohortTooSmall: too few patients.
        NonFiniteGradient: a clipped sum is not finite.
    """
    module.train()  # Opacus refuses to look at a module that is evaluating
    check_module(module)
    sampler = UnitSampler(units, plan.sample_rate, keystream)
    shape, labels = input_shape
    check_uncoupled(module, loss, image_shape=shape, labels=labels)
    wrapped = GradSampleModule(module, loss_reduction="sum")
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = PrivateOptimiser(
        _optimiser(module, plan, rate_share),
        keystream=keystream,
        noise_multiplier=plan.noise_multiplier,
        max_grad_norm=plan.clip_norm,
        expected_batch_size=max(1.0, plan.sample_rate * public_units),
        loss_reduction="mean",
    )
    drawn = 0
    try:
        wrapped.train()
        for step in range(plan.steps):
            indices = sampler.draw()
            drawn += len(indices)
            with quiet_hooks():
                _step(wrapped, optimiser, loss, batch_of, indices, plan, augment)
            if progress is not None:
                progress(step + 1, plan.steps)
    finally:
        wrapped.remove_hooks()
        for parameter in parameters:
            parameter.grad = None
            for extra in ("grad_sample", "summed_grad"):
                if hasattr(parameter, extra):
                    delattr(parameter, extra)
        module.eval()
    return PrivateOutcome(
        steps=plan.steps,
        drawn=drawn,
        refused=optimiser.refused_samples,
        insecure=keystream.insecure,
    )


def _optimiser(
    module: nn.Module, plan: PrivatePlan, rate_share: Callable[[str], float]
) -> torch.optim.Optimizer:
    """Return the plan's optimiser; vectors (biases, norms) are not decayed, as without privacy."""
    groups = [
        {
            "params": [parameter],
            "lr": plan.learning_rate * rate_share(name),
            "weight_decay": plan.weight_decay if parameter.ndim > 1 else 0.0,
        }
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    ]
    if plan.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=plan.learning_rate)
    return torch.optim.AdamW(groups, lr=plan.learning_rate)


def _step(
    module: GradSampleModule,
    optimiser: PrivateOptimiser,
    loss: PerSampleLoss,
    batch_of: Callable[[NDArray[np.int64]], tuple[Tensor, Tensor]],
    indices: NDArray[np.int64],
    plan: PrivatePlan,
    augment: Augment | None,
) -> None:
    """One logical step: chunks of clipped gradients, then noise once."""
    optimiser.zero_grad(set_to_none=True)
    if not len(indices):
        optimiser.add_empty()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return
    chunks = [
        indices[start : start + plan.physical_batch]
        for start in range(0, len(indices), plan.physical_batch)
    ]
    for position, chunk in enumerate(chunks):
        images, labels = batch_of(chunk)
        copies = plan.multiplicity if augment is not None else 1
        if copies > 1 and augment is not None:
            images = torch.cat([augment(images) for _ in range(copies)])
            labels = labels.repeat(copies, 1)
        torch.autograd.backward(loss(module(images), labels).sum())
        if copies > 1:
            _average_copies(optimiser, copies)
        optimiser.signal_skip_step(do_skip=position < len(chunks) - 1)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


def _average_copies(optimiser: PrivateOptimiser, copies: int) -> None:
    for parameter in optimiser.params:
        sample = parameter.grad_sample
        parameter.grad_sample = sample.reshape(copies, -1, *sample.shape[1:]).mean(dim=0)
