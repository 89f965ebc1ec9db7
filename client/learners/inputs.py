"""From stored 8-bit pixels to what a network sees."""

from __future__ import annotations

import torch
from torch import Tensor

_FLOOR = 1.0
"""Least standard deviation in grey levels: a blank image becomes zeros, not noise or NaN."""


def standardise(pixels: Tensor) -> Tensor:
    """Give each image zero mean and unit variance; (B, C, S, S) uint8 -> float32.

    Statistics are the image's own, so none of the data set's leaks into a model.
    """
    images = pixels.to(torch.float32)
    deviation, mean = torch.std_mean(images, dim=(1, 2, 3), correction=0, keepdim=True)
    return (images - mean) / deviation.clamp(min=_FLOOR)
