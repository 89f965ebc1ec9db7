"""From stored 8-bit pixels to what a network sees."""

from __future__ import annotations

import torch
from torch import Tensor

_FLOOR = 1e-6
"""Least standard deviation in grey levels, so that a blank image becomes zeros, not NaN."""


def standardise(pixels: Tensor) -> Tensor:
    """Give each image zero mean and unit variance; (B, C, S, S) uint8 -> float32.

    Statistics are the image's own, so none of the data set's leaks into a model. The torch form
    of ``client.data.preprocess.normalise``, which the server may not import.
    """
    images = pixels.to(torch.float32)
    deviation, mean = torch.std_mean(images, dim=(1, 2, 3), correction=0, keepdim=True)
    return (images - mean) / deviation.clamp(min=_FLOOR)
