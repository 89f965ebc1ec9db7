"""Per-sample gradients of a standardised convolution, without Opacus' slower fallback.

Opacus knows layers by their exact type and falls back to ``vmap`` for others. The gradient of
each sample with respect to the filters in use is a product of unfolded inputs and output
gradients; standardisation then maps it linearly, the same for every sample. Importing this
module registers the sampler.
"""

from __future__ import annotations

from typing import cast

import torch
from opacus.grad_sample import register_grad_sampler
from torch import Tensor, nn
from torch.nn import functional

from client.learners.standardised import StandardisedConv2d, inverse_scale


@register_grad_sampler(StandardisedConv2d)  # type: ignore[untyped-decorator]
def per_sample_gradients(
    layer: StandardisedConv2d, activations: list[Tensor], backprops: Tensor
) -> dict[nn.Parameter, Tensor]:
    """Return (B, out, in, k, k) gradients of the raw filters.

    With c the centred filter, s its scale and g the gradient of the filter in use, the raw
    filter's gradient is s (g - mean g) - s³ c <g, c>.

    Args:
        layer: the convolution.
        activations: its input (B, in, H, W), in a list.
        backprops: gradients of its output (B, out, H', W').
    """
    parameter = cast("nn.Parameter", layer.weight)
    weight = parameter.detach()
    inputs = activations[0].to(backprops.dtype)
    if len(inputs) == 0:
        return {parameter: weight.new_zeros((0, *weight.shape))}
    columns = functional.unfold(
        inputs, layer.kernel_size, padding=layer.weight.shape[-1] // 2, stride=layer.stride
    )  # (B, in k k, H' W')
    centred = (weight - weight.mean(dim=(1, 2, 3), keepdim=True)).flatten(1)  # (out, in k k)
    scale = inverse_scale(weight).flatten(1)  # (out, 1)
    # Scaled and centred before the large product rather than after it: fewer passes over memory.
    raw = torch.einsum(
        "boq,bpq->bop", backprops.flatten(2) * scale, columns - columns.mean(dim=1, keepdim=True)
    )  # s (g - mean g): (B, out, in k k)
    along = torch.einsum("bop,op->bo", raw, centred).unsqueeze(2)  # s <g, c>
    raw.addcmul_(along, -scale.square() * centred)
    return {parameter: raw.reshape(-1, *weight.shape)}
