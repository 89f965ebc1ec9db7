"""Image quality: the two distances against what is known of them, and the sheet."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from client.learners.ssganvit.network import SSGANViT
from client.learners.ssganvit.quality import (
    SPACE,
    RandomFeatures,
    frechet_distance,
    kernel_distance,
    png,
    quality,
    sheet,
)
from ledger.errors import ConfigError, DataError
from tests.client.ssganvit.small import small


def test_the_frechet_distance_of_known_gaussians() -> None:
    chance = np.random.default_rng(0)
    first = chance.standard_normal((4000, 3))
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(first, first + np.array([2.0, 0, 0])) == pytest.approx(4, abs=1e-6)
    # |m|² + tr(A + 4 A - 2 (A 4 A)^(1/2)) = tr A
    spread = float(np.trace(np.cov(first, rowvar=False)))
    centre = first.mean(axis=0)
    assert frechet_distance(first - centre, 2 * (first - centre)) == pytest.approx(spread)
    flat = first * np.array([1.0, 0, 0])  # a singular covariance
    assert frechet_distance(flat, flat) == pytest.approx(0, abs=1e-6)


def test_the_kernel_distance_is_unbiased_and_sees_a_shift() -> None:
    chance = np.random.default_rng(1)
    first, second = chance.standard_normal((2, 600, 4))
    same, error = kernel_distance(first, second)
    assert abs(same) < 4 * error + 0.05
    far, error = kernel_distance(first, second + 1.0)
    assert far > 10 * error
    assert kernel_distance(first, second, seed=3) == kernel_distance(first, second, seed=3)


def test_quality_is_repeatable_and_in_a_named_space() -> None:
    learner = small()
    module = learner.build(0)
    assert isinstance(module, SSGANViT)
    noise = np.random.default_rng(0).integers(0, 256, (40, 1, 32, 32), dtype=np.uint8)
    found = quality(module, learner, noise)
    assert found == quality(module, learner, noise)
    assert (found.images, found.space) == (40, SPACE)
    assert found.fid > 0
    assert found.kid > 10 * found.kid_error  # what an untrained generator makes is not like noise
    generator = torch.Generator().manual_seed(0)

    def blind(images: torch.Tensor) -> torch.Tensor:
        return torch.randn(len(images), 5, generator=generator)

    same = quality(module, learner, noise, features=blind, space="blind/v1")
    assert abs(same.kid) < 0.5
    assert same.space == "blind/v1"
    with pytest.raises(ConfigError, match="name"):
        quality(module, learner, noise, features=blind)
    with pytest.raises(DataError, match="at least 10"):
        quality(module, learner, noise[:3])


def test_random_features_are_the_same_everywhere() -> None:
    images = torch.linspace(-1, 1, 2 * 256).reshape(2, 1, 16, 16)
    first, second = RandomFeatures()(images), RandomFeatures()(images)
    assert first.shape == (2, 224)
    assert torch.equal(first, second)


def test_a_sheet_is_a_grid_of_generated_images() -> None:
    learner = small()
    module = learner.build(0)
    assert isinstance(module, SSGANViT)
    data = sheet(module, learner, columns=4, rows=2)
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.size, picture.mode) == ((4 * 16, 2 * 16), "L")
    assert data == sheet(module, learner, columns=4, rows=2)
    tiles = torch.stack([torch.full((1, 2, 2), level) for level in (-1.0, 0.0, 1.0, -1.0)])
    with Image.open(io.BytesIO(png(tiles, 2))) as picture:
        grey = np.asarray(picture)
    assert grey[::2, ::2].tolist() == [[0, 128], [255, 0]]
