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
from torch.nn import functional

from client.learners.inputs import standardise
from client.learners.ssganvit.adversarial import draw_noise
from client.learners.ssganvit.critic import RANGE
from client.learners.ssganvit.learner import SSGANViTLearner
from client.learners.ssganvit.network import SSGANViT
from ledger.errors import ConfigError, DataError

Features = Callable[[Tensor], Tensor]
"""From small images (B, 1, g, g) in [-1, 1] to features (B, D)."""
Array = NDArray[np.float64]
SPACE = "random-convolutions-64/v2"
_SEED = 20260101
_WIDTHS = (1, 16, 32, 64)
_LEAST = 10
_FLOOR = 0.1
"""A feature's least scale, in the median feature's: one that is the same in all real images, as a
map that never fires, would decide alone."""
_BATCH = 256
TILE = 96
"""Pixels a side, about, of an image on a sheet."""
FRAME = 1
"""White pixels around each."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How far generated images are from real ones.

    Attributes:
        kid: unbiased, so it may be below zero where nothing tells them apart.
        kid_error: standard error of ``kid`` by a jackknife over groups of the images.
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
    finding: int | None = None,
    features: Features | None = None,
    space: str = SPACE,
) -> Quality:
    """Compare as many generated images as there are real ones.

    Args:
        module: of the learner.
        learner: its settings.
        pixels: (N, 1, S, S) uint8 of real images that may be looked at, at least 10.
        seed: of the generated ones.
        finding: that the generated ones are asked to show (see ``sample``); let the real ones too.
        features: another space; None: ``RandomFeatures``.
        space: its name, for the record.

    Raises:
        DataError: too few images.
        ConfigError: another space without a name of its own, or as ``sample``.
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
            small = functional.avg_pool2d(images, factor)
            real.append(see((small / RANGE).clamp(-1, 1)))
            made.append(see(sample(module, learner, len(images), generator, finding)))
    theirs, ours = (torch.cat(each).double().numpy() for each in (real, made))
    centre, spread = theirs.mean(axis=0), theirs.std(axis=0)
    least = max(_FLOOR * float(np.median(spread)), np.finfo(np.float32).eps)
    scale = spread.clip(min=least)
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
    first: Array, second: Array, *, groups: int = 10, seed: int = 0
) -> tuple[float, float]:
    """Return KID, over all pairs, and its standard error by a delete-group jackknife.

    Subsets that overlap, as KID's error is often taken of, are not independent; where the images
    are no more than a subset they are even one and the same, and their spread is zero.

    Args:
        first: (N, D) features.
        second: (M, D) features.
        groups: left out one by one; at most N and M.
        seed: of who is in which.
    """
    chance = np.random.default_rng(seed)
    groups = min(groups, len(first), len(second))
    ours, theirs = (
        np.array_split(each[chance.permutation(len(each))], groups) for each in (first, second)
    )
    same, other = _pair_sums(ours, ours), _pair_sums(theirs, theirs)
    for sums, parts in ((same, ours), (other, theirs)):
        sums[np.diag_indices(groups)] -= [_kernel(part, part).trace() for part in parts]
    between = _pair_sums(ours, theirs)

    def estimate(kept: list[int]) -> float:
        n, m = (sum(len(parts[group]) for group in kept) for parts in (ours, theirs))
        inner = np.ix_(kept, kept)
        return float(
            same[inner].sum() / (n * (n - 1))
            + other[inner].sum() / (m * (m - 1))
            - 2 * between[inner].sum() / (n * m)
        )

    everyone = list(range(groups))
    left = np.array([estimate(everyone[:out] + everyone[out + 1 :]) for out in everyone])
    return estimate(everyone), float(np.sqrt((groups - 1) * left.var()))


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


def sample(
    module: SSGANViT,
    learner: SSGANViTLearner,
    count: int,
    generator: torch.Generator,
    finding: int | None = None,
) -> Tensor:
    """Return generated images (count, 1, g, g) in [-1, 1].

    Args:
        module: of the learner.
        learner: its settings.
        count: how many.
        generator: of noise and findings, which are drawn by the prior.
        finding: the place of one that every image is asked to show, whatever else is drawn.

    Raises:
        ConfigError: the generator is not told findings, so none can be asked of it.
    """
    if finding is not None and not learner.conditional:
        raise ConfigError("this generator is not told findings; none can be asked of it")
    with torch.no_grad():
        noise, asked = draw_noise(module, learner, count, generator)
        if finding is not None:
            asked[:, finding] = 1
        image: Tensor = module.generator(noise, asked, settled=True)
    return image


def sheet(
    module: SSGANViT,
    learner: SSGANViTLearner,
    *,
    count: int = 64,
    columns: int = 8,
    seed: int = 0,
    finding: int | None = None,
) -> bytes:
    """Return a PNG of generated images side by side, enlarged to be looked at.

    Raises:
        ConfigError: as ``sample``.
    """
    generator = torch.Generator().manual_seed(seed)
    made = sample(module, learner, count, generator, finding).cpu()
    scale = max(1, round(TILE / made.shape[-1]))
    large = functional.interpolate(made, scale_factor=scale, mode="bicubic") if scale > 1 else made
    framed = functional.pad(large, (FRAME,) * 4, value=1.0)
    return png(framed, min(count, columns))


def png(images: Tensor, columns: int) -> bytes:
    """Return a PNG of images (B, 1, h, w) in [-1, 1], row by row; -1 is black, and what is left."""
    height, width = images.shape[-2:]
    rows = -(-len(images) // columns)
    grid = images.new_full((rows * columns, height, width), -1.0)
    grid[: len(images)] = images[:, 0]
    grid = grid.reshape(rows, columns, height, width).transpose(1, 2)
    grey = ((grid.reshape(rows * height, columns * width) + 1) * 127.5).round().clamp(0, 255)
    buffer = io.BytesIO()
    Image.fromarray(grey.to(torch.uint8).numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def _pair_sums(ours: list[Array], theirs: list[Array]) -> Array:
    """Return the kernel's sum over all pairs of each two groups (G, G)."""
    return np.array([[_kernel(a, b).sum() for b in theirs] for a in ours])


def _kernel(a: Array, b: Array) -> Array:
    """Return (x·y / D + 1)³ of (n, D) and (m, D), as (n, m)."""
    found: Array = (a @ b.T / a.shape[1] + 1) ** 3
    return found
