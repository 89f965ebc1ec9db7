"""What all radiographs share, taken away from a pretrained stem's features before the head.

Most of a stem's mean features is what every chest has in common. A head's gradients then point
along that common part, images with and without a finding cancel only over many of them, and under
differential privacy the clipping spends nearly all of every gradient on it. Batch norm would take
it away but mixes patients. Here the common part is a parameter of its own: the self-supervised
phase draws it towards each image's features by half their squared distance, whose minimum is their
mean. So it is learnt by the same private steps as anything else, under the same accountant, and
each patient is in no loss but its own. Centring before a private linear head: cf. Sun et al.,
"Importance of Feature Preprocessing for Differentially Private Linear Optimization", ICLR 2024.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Centre(nn.Module):
    """Tokens (B, N, C) to their centred mean (B, C).

    Means are brought to mean zero and length one before they are centred, so a centre is no longer
    than one; what is left is told in units in which channels are near one, as after layer norm.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.middle = nn.Parameter(torch.zeros(channels))
        self.scale = math.sqrt(channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the mean less the centre, which no gradient of this reaches."""
        return self.scale * (self._unit(tokens) - self.middle.detach())

    def loss(self, tokens: Tensor) -> Tensor:
        """Return half the squared distance (B,) of each unit mean from the centre."""
        return 0.5 * (self._unit(tokens).detach() - self.middle).square().sum(dim=1)

    def _unit(self, tokens: Tensor) -> Tensor:
        mean = tokens.mean(dim=1)
        normed: Tensor = functional.layer_norm(mean, (mean.shape[1],))
        return normed / self.scale
