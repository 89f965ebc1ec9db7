"""Opacus' optimiser with our noise, and without its three traps.

* Noise comes from a :class:`client.noise.Keystream`, not from torch's generator.
* A sample whose gradient is not finite contributes nothing, instead of making the model NaN:
  zero is within the clipping norm whatever the data, so the sensitivity stays what is charged
  (skipping the *whole* step would make its happening depend on one patient's data).
* Gradients accumulated as lists would silently multiply the charged sample rate: refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor

from ledger.errors import NonFiniteGradient, PrivacyError, UnsupportedModule

if TYPE_CHECKING:
    from client.noise import Keystream


class PrivateOptimiser(DPOptimizer):  # type: ignore[misc] # Opacus ships no types
    """A DP-SGD optimiser whose noise is an operating-system keystream's.

    Args:
        optimizer: any torch optimiser over the parameters of a ``GradSampleModule``.
        keystream: where noise comes from.
        noise_multiplier: standard deviation over the clipping norm.
        max_grad_norm: L2 clipping norm of one sample's gradient.
        expected_batch_size: public denominator of the mean.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, *, keystream: Keystream, **options: Any):
        super().__init__(optimizer, **options)
        self.keystream = keystream
        self.refused_samples = 0
        """Samples whose gradient was not finite (private: never leaves the hospital)."""

    def clip_and_accumulate(self) -> None:
        """Clip, with non-finite samples zeroed, and add to the sum of this logical batch.

        Norms are taken once: what they show to be NaN or infinite (a finite gradient too large for
        its norm among it) is zeroed. Opacus' own method would need a pass over all gradients
        before, which costs more than clipping itself.

        Raises:
            PrivacyError: gradients were accumulated over several backward passes.
            UnsupportedModule: a parameter took no part in the loss.
        """
        samples: list[Tensor] = []
        for parameter in self.params:
            item = getattr(parameter, "grad_sample", None)
            if item is None:
                raise UnsupportedModule("a parameter took no part in the loss: it has no gradient")
            if not isinstance(item, Tensor):
                raise PrivacyError("gradients were accumulated over several backward passes")
            samples.append(item)
        flat = [item.flatten(1) for item in samples]
        norms = torch.stack([rows.norm(dim=1) for rows in flat]).norm(dim=0)  # (B,)
        finite = norms.isfinite()
        if not bool(finite.all()):
            self.refused_samples += int((~finite).sum())
            norms = norms.where(finite, torch.zeros_like(norms))
            for rows in flat:
                rows[~finite] = 0.0  # zero times infinity would be NaN
        factors = (self.max_grad_norm / (norms + 1e-6)).clamp(max=1.0)
        for parameter, rows in zip(self.params, flat, strict=True):
            clipped = (factors @ rows).view_as(parameter)
            summed = parameter.summed_grad
            parameter.summed_grad = clipped if summed is None else summed + clipped

    def add_empty(self) -> None:
        """Make the sum of an empty Poisson draw: zero, so that the step is noise alone."""
        for parameter in self.params:
            parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))

    def add_noise(self) -> None:
        """Add the keystream's Gaussian noise to the clipped sum.

        Raises:
            NonFiniteGradient: the sum is not finite all the same; nothing is applied.
        """
        scale = float(self.noise_multiplier * self.max_grad_norm)
        for parameter in self.params:
            summed = parameter.summed_grad
            if not bool(summed.isfinite().all()):
                raise NonFiniteGradient("a clipped gradient is not finite; the step is refused")
            noise = torch.from_numpy(self.keystream.normals(summed.numel())).reshape(summed.shape)
            parameter.grad = (summed + scale * noise.to(summed)).view_as(parameter)
