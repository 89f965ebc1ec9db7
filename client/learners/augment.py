"""Small random shifts, turns and zooms of a batch, from a generator of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from ledger.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How much a training image may move; all zero (the default) leaves it as it is.

    Args:
        rotation: largest turn in degrees, [0, 45].
        shift: largest translation as a share of the side, [0, 0.5].
        zoom: largest change of scale as a share, [0, 0.5].
        flip: mirror half of the images left to right (a mirrored chest shows dextrocardia; it
            still helps small data).

    Raises:
        ConfigError: a value is outside its range.
    """

    rotation: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    flip: bool = False

    def __post_init__(self) -> None:
        for name, high in (("rotation", 45.0), ("shift", 0.5), ("zoom", 0.5)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ConfigError(f"augmentation {name} is a number")
            if not 0 <= value <= high:
                raise ConfigError(f"augmentation {name} lies in [0, {high}]")
        if not isinstance(self.flip, bool):
            raise ConfigError("augmentation flip is true or false")

    @property
    def moves(self) -> bool:
        """Whether any image changes at all."""
        return self.flip or max(self.rotation, self.shift, self.zoom) > 0


def augment(images: Tensor, how: Augmentation, generator: Generator) -> Tensor:
    """Return moved copies of float images (B, C, S, S); edges repeat the border."""
    if not how.moves:
        return images
    count = images.shape[0]
    draws = (torch.rand((5, count), generator=generator) * 2 - 1).to(images.device)  # in [-1, 1)
    angle = draws[0] * math.radians(how.rotation)
    scale = 1 / (1 + draws[1] * how.zoom)
    mirror = torch.where(draws[4] < 0, -1.0, 1.0) if how.flip else torch.ones_like(angle)
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    # affine_grid works in [-1, 1], so a share of the side is twice that.
    rows = [
        torch.stack([cosine * mirror, -sine, 2 * how.shift * draws[2]], dim=1),
        torch.stack([sine * mirror, cosine, 2 * how.shift * draws[3]], dim=1),
    ]
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
