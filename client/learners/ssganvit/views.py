"""Views of one image, and what is to be told of them: the self-supervised tasks' questions.

All is made row by row from the image itself, so a patient's task is nobody else's. Grey levels are
standard deviations of the image (its mean is zero).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

from client.learners.augment import Augmentation

WAYS = 4
"""Quarter turns that rotation prediction tells apart."""
SEGMENTS = 4
"""Segments, two by two, of a token's cell."""
WINDOWS = (-1.0, 0.0, 1.0)
"""Grey levels of the three pseudo-colours: air, soft tissue, bone."""
_SPREAD = 0.5
_REACH = 2.0
MOTION = Augmentation(rotation=10.0, shift=0.08, zoom=0.15)
"""How two views of one radiograph differ; a mirrored heart would be another finding."""


def turn(images: Tensor, quarters: Tensor) -> Tensor:
    """Turn each of (B, 1, S, S) by its number (B,) of quarters."""
    turned = torch.stack([torch.rot90(images, way, (2, 3)) for way in range(WAYS)])
    return turned[quarters, torch.arange(len(images), device=images.device)]


def draw_hidden(count: int, cells: int, share: float, generator: Generator) -> Tensor:
    """Return which cells (B, M) of each image are hidden: a fixed number of the N at random."""
    hidden = max(1, round(share * cells))
    chance = torch.rand((count, cells), generator=generator, device=generator.device)
    return chance.argsort(dim=1)[:, :hidden].contiguous()


def hide(images: Tensor, hidden: Tensor, cell: int) -> Tensor:
    """Put the image's mean, zero, in place of the hidden cells."""
    side = images.shape[-1] // cell
    kept = torch.ones(len(images), side * side, device=images.device)
    kept.scatter_(1, hidden, 0.0)
    pattern = kept.reshape(-1, 1, side, side)
    return images * functional.interpolate(pattern, scale_factor=cell, mode="nearest")


def degrade(images: Tensor) -> Tensor:
    """Take away what colours are to be told from: fine detail, and the ends of the grey scale."""
    coarse = functional.avg_pool2d(images, 2)
    fine = functional.interpolate(coarse, scale_factor=2, mode="nearest")
    return torch.tanh(fine)


def segments(images: Tensor, cell: int) -> Tensor:
    """Return the mean grey level of each cell's segments, (B, N, 4)."""
    return _cells(functional.avg_pool2d(images, cell // 2))


def quantise(levels: Tensor, bins: int) -> Tensor:
    """Return which of ``bins`` equal steps of [-2, 2] each level lies in; the ends are open."""
    steps = (levels + _REACH) * (bins / (2 * _REACH))
    return steps.floor().clamp(0, bins - 1).to(torch.int64)


def colours(images: Tensor, cell: int) -> Tensor:
    """Return the pseudo-colours of each segment, (B, N, 4 · 3), each within [0, 1].

    A radiograph has no colours. What stands in for them is how much of a segment lies in each of
    three windows of the grey scale, as a reader's windows would show it in red, green and blue.
    """
    found = []
    for level in WINDOWS:
        window = torch.exp(-((images - level) ** 2) / (2 * _SPREAD**2))
        found.append(_cells(functional.avg_pool2d(window, cell // 2)))
    return torch.stack(found, dim=3).flatten(2)


def _cells(pooled: Tensor) -> Tensor:
    """Sort (B, 1, 2 n, 2 n) into the 2 by 2 of each of n² cells: (B, n², 4)."""
    blocks = functional.unfold(pooled, kernel_size=2, stride=2)  # (B, 4, N)
    return blocks.transpose(1, 2).contiguous()
