"""The critic (the paper's discriminator): how real an image looks, and what it shows.

Strided convolutions with spectral normalisation and leaky ReLU, no norm layers: each image's
opinion, and the gradient penalty on it, is its own. Two heads read the last map: one score of
realness (Wasserstein, so linear; the paper's sigmoid is an option) and the findings (an auxiliary
classifier: Odena et al., ICML 2017). Its maps are also what the transformer later reads as tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from client.learners.ssganvit.generator import halve
from client.learners.ssganvit.spectral import SpectralConv2d, SpectralLinear

GAIN = 2**0.5
"""Largest singular value of a layer. With 1 the leaky ReLUs shrink the critic's slope so far that
the gradient penalty, which asks for a slope of 1, cannot be met."""
RANGE = 3.0
"""Deviations of a standardised radiograph that the generator's (-1, 1) stand for."""
_SLOPE = 0.2
_MOST = 8


class Critic(nn.Module):
    """Small images (B, 1, size, size) to realness and findings.

    Args:
        size: side, as of ``Generator``.
        width: channels of the first map, doubled by each halving, to at most eight times.
        labels: number of findings L.
        bounded: put the realness through a sigmoid, as the paper does.
    """

    def __init__(self, *, size: int, width: int, labels: int, bounded: bool) -> None:
        super().__init__()
        side, halvings = halve(size)
        self.bounded = bounded
        self.channels = tuple(width * min(2**step, _MOST) for step in range(halvings))
        self.sides = tuple(size >> (step + 1) for step in range(halvings))
        before = (1, *self.channels[:-1])
        self.body = nn.ModuleList(
            SpectralConv2d(a, b, 4, stride=2, padding=1, gain=GAIN)
            for a, b in zip(before, self.channels, strict=True)
        )
        last = self.channels[-1]
        self.refine = SpectralConv2d(last, last, 3, padding=1, gain=GAIN)
        # A difference of scores knows no offset; a bounded one does.
        self.realness = SpectralLinear(last * side * side, 1, gain=GAIN, bias=bounded)
        self.findings = nn.Linear(last * side * side, labels)

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the feature maps (B, C, H, W), largest first; as many as ``channels``."""
        features, found = images, []
        for layer in self.body:
            features = functional.leaky_relu(layer(features), _SLOPE)
            found.append(features)
        found[-1] = functional.leaky_relu(self.refine(features), _SLOPE)
        return tuple(found)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return realness (B,) and the findings' logits (B, L)."""
        last = self.maps(images)[-1].flatten(1)
        score = self.realness(last).squeeze(1)
        return torch.sigmoid(score) if self.bounded else score, self.findings(last)


def shrink(images: Tensor, size: int) -> Tensor:
    """Bring standardised radiographs (B, 1, S, S) to the critic's side and range, by area."""
    factor = images.shape[-1] // size
    small = functional.avg_pool2d(images, factor) if factor > 1 else images
    return (small / RANGE).clamp(-1, 1)
