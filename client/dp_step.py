"""One logical step of DP-SGD: chunks of per-sample gradients, clipped and summed, then noise once.

Large draws are processed in chunks of ``physical_batch`` images; augmentation multiplicity
averages the gradients of several augmented copies of one image before clipping (De et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from client.dp_gradients import Gradients
from client.dp_optimiser import PrivateOptimiser
from ledger.errors import ConfigError

if TYPE_CHECKING:
    from client.noise import Keystream

BatchOf = Callable[[NDArray[np.int64]], tuple[Tensor, Tensor]]
Augment = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class PrivatePlan:
    """One round of DP-SGD.

    Attributes:
        steps: optimiser steps.
        sample_rate: probability that one unit is drawn in a step, (0, 1].
        noise_multiplier: noise deviation over ``clip_norm``.
        clip_norm: L2 bound on one unit's gradient.
        learning_rate: of an Adam, or of SGD on gradients in units of ``clip_norm``.
        optimiser: ``adamw``, ``adam`` or ``sgd``.
        weight_decay: decoupled for AdamW and SGD.
        betas: of the Adams.
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
    betas: tuple[float, float] = (0.9, 0.999)
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
        if self.optimiser not in {"adamw", "adam", "sgd"}:
            raise ConfigError("a private optimiser is adamw, adam or sgd")


class PrivateSteps:
    """Takes private steps on one module; ``close`` takes Opacus' leftovers off it again.

    Args:
        gradients: one an image, of what the phase trains.
        batch_of: from image indices to images (B, 1, S, S) and labels (B, L).
        plan: what to run.
        public_units: bucketed number of units, the public part of the mean's denominator.
        keystream: secret randomness for the noise.
        augment: random transformation of images, for ``plan.multiplicity`` above 1.
        rate_share: share of the learning rate of each named parameter. Clipping and noise are the
            same whatever it is: it only scales what the optimiser does with the released sum.
    """

    def __init__(
        self,
        gradients: Gradients,
        batch_of: BatchOf,
        plan: PrivatePlan,
        *,
        public_units: int,
        keystream: Keystream,
        augment: Augment | None = None,
        rate_share: Callable[[str], float] = lambda _name: 1.0,
    ) -> None:
        self._gradients = gradients
        self._batch_of = batch_of
        self._plan = plan
        self._augment = augment
        self._parameters = list(gradients.parameters.values())
        self.optimiser = PrivateOptimiser(
            _optimiser(gradients.parameters, plan, rate_share),
            keystream=keystream,
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.clip_norm,
            expected_batch_size=max(1.0, plan.sample_rate * public_units),
            loss_reduction="mean",
        )

    def take(self, indices: NDArray[np.int64]) -> None:
        """Take one step on these images, at most one of each unit; none: a step of pure noise.

        Raises:
            UnsupportedModule: a parameter took no part in the loss.
            NonFiniteGradient: the clipped sum is not finite; the module is as before the step.
        """
        self._gradients.refresh()
        self.optimiser.zero_grad(set_to_none=True)
        if not len(indices):
            self.optimiser.add_empty()
            self.optimiser.step()
        size = self._plan.physical_batch
        for start in range(0, len(indices), size):
            self._leave(indices[start : start + size])
            self.optimiser.signal_skip_step(do_skip=start + size < len(indices))
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
        self.optimiser.zero_grad(set_to_none=True)

    def close(self) -> None:
        """Take hooks and leftovers off the module."""
        self._gradients.close()

    def _leave(self, chunk: NDArray[np.int64]) -> None:
        """Leave one gradient an image at every parameter, the mean of its augmented copies."""
        images, labels = self._batch_of(chunk)
        copies = self._plan.multiplicity if self._augment is not None else 1
        if copies > 1 and self._augment is not None:
            images = torch.cat([self._augment(images) for _ in range(copies)])
            labels = labels.repeat(copies, 1)
        self._gradients.leave(images, labels)
        if copies > 1:
            for parameter in self._parameters:
                sample: Tensor = parameter.grad_sample  # type: ignore[attr-defined]
                average = sample.reshape(copies, -1, *sample.shape[1:]).mean(dim=0)
                parameter.grad_sample = average  # type: ignore[attr-defined]


def _optimiser(
    parameters: Mapping[str, nn.Parameter], plan: PrivatePlan, rate_share: Callable[[str], float]
) -> torch.optim.Optimizer:
    """Return the plan's optimiser; vectors (biases, norms) are not decayed, as without privacy.

    Plain SGD steps along the mean divided by the clipping norm (De et al. 2022, section 2), so that
    its rate means the same at every norm; Adam divides by the gradient's own scale anyway.
    """
    scale = plan.clip_norm if plan.optimiser == "sgd" else 1.0
    groups = [
        {
            "params": [parameter],
            "lr": plan.learning_rate * rate_share(name) / scale,
            "weight_decay": plan.weight_decay * scale if parameter.ndim > 1 else 0.0,
        }
        for name, parameter in parameters.items()
    ]
    if plan.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=plan.learning_rate)
    family = torch.optim.AdamW if plan.optimiser == "adamw" else torch.optim.Adam
    return family(groups, lr=plan.learning_rate, betas=plan.betas)
