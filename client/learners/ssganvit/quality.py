"""How good generated images are: KID and FID in a feature space that is stated, and a sheet.

Both compare features of generated images with features of real ones: KID by an unbiased estimate
of the squared maximum mean discrepancy under a cubic kernel (Bińkowski et al., ICLR 2018), FID by
two Gaussians (Heusel et al., NeurIPS 2017), which needs many more images than features to mean
anything. The usual space is Inception's, which needs weights of ImageNet. Here it is a fixed
network of random weights (``RandomFeatures``), the same everywhere, as Naeem et al. (ICML 2020) use
where ImageNet's features do not suit the images; figures compare only within one space. The
critic's own features would flatter the generator that was trained to please it. Features count in
deviations of the real images', or the brightest map would decide alone.

A figure against private images is a release of its own: take it on public test images.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from client.learners.inputs import standardise
from client.learners.ssganvit.adversarial import generate
from client.learners.ssganvit.critic import RANGE
from client.learners.ssganvit.learner import SSGANViTLearner
from client.learners.ssganvit.network import SSGANViT
from ledger.errors import ConfigError, DataError

Features = Callable[[Tensor], Tensor]
"""From small images (B, 1, g, g) in [-1, 1] to features (B, D)."""
Array = NDArray[np.float64]
SPACE = "random-convolutions-64/v1"
_SEED = 20260101
_WIDTHS = (1, 16, 32, 64)
_LEAST = 10
_FLOOR = 1e-6
_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How far generated images are from real ones.

    Attributes:
        kid: unbiased, so it may be below zero where nothing tells them apart.
        kid_error: standard error of ``kid`` over subsets of the images.
        fid: zero or more.
        images: of each kind.
        space: the feature space's name.
    """

    kid: float
    kid_error: float
    fid: float
    images: int
    space: str


class RandomFeatures(nn.Module):
    """Mean and deviation of each map of a convolutional network that nobody trained."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(_SEED)
        self.layers = nn.ModuleList()
        for before, after in pairwise(_WIDTHS):
            layer = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            weight = torch.randn(layer.weight.shape, generator=generator)
            with torch.no_grad():
                layer.weight.copy_(weight * (2 / (9 * before)) ** 0.5)
            self.layers.append(layer)
        self.requires_grad_(requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, 2 * (16 + 32 + 64))."""
        maps, found = images, []
        for layer in self.layers:
            maps = torch.relu(layer(maps))
            deviation, mean = torch.std_mean(maps, dim=(2, 3), correction=0)
            found += [mean, deviation]
        return torch.cat(found, dim=1)


def quality(
    module: SSGANViT,
    learner: SSGANViTLearner,
    pixels: NDArray[np.uint8],
    *,
    seed: int = 0,
    features: Features | None = None,
    space: str = SPACE,
) -> Quality:
    """Compare as many generated images as there are real ones.

    Args:
        module: of the learner.
        learner: its settings.
        pixels: (N, 1, S, S) uint8 of real images that may be looked at, at least 10.
        seed: of the generated ones.
        features: another space; None: ``RandomFeatures``.
        space: its name, for the record.

    Raises:
        DataError: too few images.
        ConfigError: another space without a name of its own.
    """
    if len(pixels) < _LEAST:
        raise DataError(f"image quality takes at least {_LEAST} real images, not {len(pixels)}")
    if (features is None) != (space == SPACE):
        raise ConfigError("a feature space goes with its own name")
    see = features or RandomFeatures()
    factor = learner.input_size // learner.gan_size
    real, made = [], []
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for start in range(0, len(pixels), _BATCH):
            images = standardise(torch.from_numpy(np.array(pixels[start : start + _BATCH])))
            small = nn.functional.avg_pool2d(images, factor)
            real.append(see((small / RANGE).clamp(-1, 1)))
            made.append(see(generate(module, learner, len(images), generator)["image"]))
    theirs, ours = (torch.cat(each).double().numpy() for each in (real, made))
    centre, scale = theirs.mean(axis=0), theirs.std(axis=0).clip(min=_FLOOR)
    theirs, ours = ((each - centre) / scale for each in (theirs, ours))
    kid, error = kernel_distance(theirs, ours, seed=seed)
    return Quality(
        kid=kid,
        kid_error=error,
        fid=frechet_distance(theirs, ours),
        images=len(pixels),
        space=space,
    )


def kernel_distance(
    first: Array, second: Array, *, subsets: int = 20, size: int = 200, seed: int = 0
) -> tuple[float, float]:
    """Return KID and its standard error over random subsets.

    Args:
        first: (N, D) features.
        second: (M, D) features.
        subsets: how many.
        size: rows of each, at most N and M.
        seed: of their choice.
    """
    chance = np.random.default_rng(seed)
    size = min(size, len(first), len(second))
    found = [
        _discrepancy(
            first[chance.choice(len(first), size, replace=False)],
            second[chance.choice(len(second), size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(subsets))


def frechet_distance(first: Array, second: Array) -> float:
    """Return FID: the squared Wasserstein distance of two Gaussians fitted to (N, D) and (M, D)."""
    gap = first.mean(axis=0) - second.mean(axis=0)
    spread, other = (np.cov(each, rowvar=False) for each in (first, second))
    # The trace of the root of a product of covariances, by symmetric matrices only: these may be
    # singular, where a general root is not to be had.
    values, vectors = np.linalg.eigh(spread)
    half = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    roots = np.sqrt(np.linalg.eigvalsh(half @ other @ half).clip(min=0))
    distance = gap @ gap + np.trace(spread) + np.trace(other) - 2 * roots.sum()
    return max(0.0, float(distance))


def sheet(
    module: SSGANViT, learner: SSGANViTLearner, *, columns: int = 8, rows: int = 8, seed: int = 0
) -> bytes:
    """Return a PNG of generated images, side by side."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        made = generate(module, learner, columns * rows, generator)["image"].cpu()
    return png(made, columns)


def png(images: Tensor, columns: int) -> bytes:
    """Return a PNG of images (B, 1, g, g) in [-1, 1], row by row; -1 is black."""
    side = images.shape[-1]
    rows = len(images) // columns
    grid = images[: rows * columns].reshape(rows, columns, side, side).transpose(1, 2)
    grey = ((grid.reshape(rows * side, columns * side) + 1) * 127.5).round().clamp(0, 255)
    buffer = io.BytesIO()
    Image.fromarray(grey.to(torch.uint8).numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def _discrepancy(first: Array, second: Array) -> float:
    """Return the unbiased squared discrepancy of (n, D) and (n, D) under (x·y / D + 1)³."""
    count, width = first.shape

    def kernel(a: Array, b: Array) -> Array:
        product: Array = (a @ b.T / width + 1) ** 3
        return product

    same = sum(
        (inner.sum() - np.trace(inner)) / (count * (count - 1))
        for inner in (kernel(first, first), kernel(second, second))
    )
    return float(same - 2 * kernel(first, second).mean())
