"""The microbatch oracle: are per-sample gradients really per sample?

Opacus trusts the model and the loss not to couple samples. A loss that does (an in-batch
contrastive loss, a batch mean inside the loss) still gives numbers, clipped ones even, and no
guarantee. So before a hospital trains privately the oracle compares, on a few *random* images that
are nobody's, each sample's gradient within a batch against the gradient of that sample alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from client.dp_modules import quiet_hooks
from ledger.errors import CoupledSamples, UnsupportedModule

_SAMPLES = 3
_TOLERANCE = 1e-3
"""Relative to the largest gradient: float32 kernels differ by batch size at about 1e-6."""


def check_uncoupled(
    module: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    image_shape: tuple[int, int, int],
    labels: int,
    seed: int = 0,
) -> float:
    """Compare batched per-sample gradients with gradients of single samples.

    Args:
        module: as it will be trained; a copy is used.
        loss: from logits (B, L) and labels (B, L) to (B,).
        image_shape: (C, S, S) of one image.
        labels: number of labels L.
        seed: of the random images and labels.

    Returns:
        The largest difference, relative to the largest gradient.

    Raises:
        UnsupportedModule: a parameter took no part in the loss.
        CoupledSamples: a sample's gradient depends on the samples beside it.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn((_SAMPLES, *image_shape), generator=generator)
    truth = (torch.rand((_SAMPLES, labels), generator=generator) < 0.3).to(torch.int8)
    model = copy.deepcopy(module).train()
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.eval()  # its randomness is per sample, but differs from call to call
    wrapped = GradSampleModule(model, loss_reduction="sum")
    with quiet_hooks():
        torch.autograd.backward(loss(wrapped(images), truth).sum())
    parameters = [p for p in model.parameters() if p.requires_grad]
    gathered = [getattr(p, "grad_sample", None) for p in parameters]
    batched = [item.detach().clone() for item in gathered if isinstance(item, Tensor)]
    if len(batched) < len(parameters):
        raise UnsupportedModule("a parameter took no part in the loss: it has no gradient")
    wrapped.remove_hooks()
    worst, largest = 0.0, 0.0
    for row in range(_SAMPLES):
        alone = torch.autograd.grad(
            loss(model(images[row : row + 1]), truth[row : row + 1]).sum(), parameters
        )
        for mine, other in zip(alone, batched, strict=True):
            worst = max(worst, float((mine - other[row]).abs().max()))
            largest = max(largest, float(mine.abs().max()))
    difference = worst / max(largest, 1e-12)
    if not difference <= _TOLERANCE:
        raise CoupledSamples(
            "a sample's gradient changes with the samples beside it: this model or loss couples"
            " patients and cannot be trained privately"
        )
    return difference
