"""Spectral normalisation without a state: layers whose largest singular value is a chosen gain.

Miyato et al. (ICLR 2018) keep a vector between steps and improve it by one power iteration each.
That vector would have to travel, or go stale when hospitals' weights are averaged; and a layer
that changes a buffer while it computes cannot be differentiated image by image. Here a fixed
number of iterations starts from a fixed vector each time: the norm is a function of the weight
alone, in training and evaluation alike, so it mixes no patients and has nothing to share. It costs
two products of a weight and a vector an iteration, once a batch. As in the paper, gradients take
the singular vectors as constants.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_ITERATIONS = 8
_FLOOR = 1e-6


def largest_singular_value(weight: Tensor, start: Tensor) -> Tensor:
    """Estimate it, from below, of a weight (out, ...) seen as a matrix (out, rest).

    Args:
        weight: of at least two dimensions.
        start: (out,), not zero.
    """
    matrix = weight.flatten(1)
    fixed = matrix.detach()
    left = start
    for _ in range(_ITERATIONS):
        right = functional.normalize(fixed.t() @ left, dim=0)
        left = functional.normalize(fixed @ right, dim=0)
    return left @ matrix @ right


class SpectralConv2d(nn.Conv2d):
    """A convolution whose filters, as a matrix, have the largest singular value ``gain``."""

    start: Tensor

    def __init__(
        self, before: int, after: int, kernel: int, *, stride: int = 1, padding: int, gain: float
    ) -> None:
        super().__init__(before, after, kernel, stride=stride, padding=padding)
        self.gain = gain
        self.register_buffer("start", _start(after), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Convolve (B, before, H, W)."""
        norm = largest_singular_value(self.weight, self.start).clamp(min=_FLOOR)
        filters = self.weight * (self.gain / norm)
        return functional.conv2d(features, filters, self.bias, self.stride, self.padding)


class SpectralLinear(nn.Linear):
    """A linear layer of largest singular value ``gain``."""

    start: Tensor

    def __init__(self, before: int, after: int, *, gain: float, bias: bool) -> None:
        super().__init__(before, after, bias=bias)
        self.gain = gain
        self.register_buffer("start", _start(after), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, before) to (B, after)."""
        norm = largest_singular_value(self.weight, self.start).clamp(min=_FLOOR)
        return functional.linear(features, self.weight * (self.gain / norm), self.bias)


def _start(size: int) -> Tensor:
    """Return a vector that is the same on every machine and along no axis."""
    steps = torch.arange(1, size + 1, dtype=torch.float64)
    return functional.normalize(torch.sin(steps * steps) + 0.1, dim=0).to(torch.float32)
