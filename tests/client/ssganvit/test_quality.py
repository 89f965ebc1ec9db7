"""Image quality: the two distances against what is known of them, and the sheet."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from client.learners.ssganvit.network import SSGANViT
from client.learners.ssganvit.quality import (
    FRAME,
    SPACE,
    TILE,
    RandomFeatures,
    frechet_distance,
    kernel_distance,
    png,
    quality,
    sample,
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
    assert abs(same) < 4 * error
    far, error = kernel_distance(first, second + 1.0)
    assert far > 5 * error
    assert kernel_distance(first, second, seed=3) == kernel_distance(first, second, seed=3)
    by_hand = 0.0
    for x, y, sign in ((first, first, 1), (second, second, 1), (first, second, -2)):
        pairs = (x @ y.T / 4 + 1) ** 3
        if sign == 1:
            pairs = pairs[~np.eye(len(x), dtype=bool)]
        by_hand += sign * pairs.mean()
    assert kernel_distance(first, second)[0] == pytest.approx(by_hand)


def test_the_kernel_distance_knows_how_far_off_it_is() -> None:
    chance = np.random.default_rng(2)
    found = [
        kernel_distance(chance.standard_normal((40, 4)), chance.standard_normal((40, 4)) + 0.7)
        for _ in range(200)
    ]
    values, errors = np.array(found).T
    # Forty images are few: even so its own error is near the spread over 200 other forties.
    assert values.std() == pytest.approx(np.sqrt((errors**2).mean()), rel=0.3)


def test_a_feature_that_real_images_lack_does_not_decide_alone() -> None:
    learner = small()
    module = learner.build(0)
    assert isinstance(module, SSGANViT)
    noise = np.random.default_rng(0).integers(0, 256, (40, 1, 32, 32), dtype=np.uint8)
    calls = 0

    def dead(images: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        fires = torch.full((len(images), 1), float(calls % 2 == 0))  # in generated ones alone
        return torch.cat([torch.from_numpy(chance.standard_normal((len(images), 9))), fires], dim=1)

    chance = np.random.default_rng(3)
    found = quality(module, learner, noise, features=dead, space="dead/v1")
    assert 10 < found.fid < 1000  # the square of a tenth of the others' deviation away
    assert abs(found.kid) < 1e4


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
    data = sheet(module, learner, count=6, columns=4)
    tile = 16 * round(TILE / 16) + 2 * FRAME
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.size, picture.mode) == ((4 * tile, 2 * tile), "L")
        grey = np.asarray(picture)
    assert (grey[0, : 4 * tile] == 255).all()  # a frame
    assert not grey[tile:, 2 * tile :].any()  # two places are left
    assert grey[FRAME : tile - FRAME, FRAME : tile - FRAME].std() > 0
    assert data == sheet(module, learner, count=6, columns=4)
    assert data != sheet(module, learner, count=6, columns=4, seed=1)
    tiles = torch.stack([torch.full((1, 2, 2), level) for level in (-1.0, 0.0, 1.0, -1.0)])
    with Image.open(io.BytesIO(png(tiles, 2))) as picture:
        grey = np.asarray(picture)
    assert grey[::2, ::2].tolist() == [[0, 128], [255, 0]]


def test_a_finding_is_asked_of_every_image() -> None:
    learner = small()
    module = learner.build(0)
    assert isinstance(module, SSGANViT)
    heard: list[torch.Tensor] = []
    module.generator.register_forward_pre_hook(lambda _, given: heard.append(given[1]))
    asked, free = (
        sample(module, learner, 50, torch.Generator().manual_seed(0), finding)
        for finding in (1, None)
    )
    assert asked.shape == (50, 1, 16, 16)
    assert not torch.equal(asked, free)
    assert (heard[0][:, 1] == 1).all()
    assert 0 < heard[1][:, 1].float().mean() < 1
    assert torch.equal(heard[0][:, [0, 2]], heard[1][:, [0, 2]])  # all else as it was drawn
    deaf = small(conditional=False)
    other = deaf.build(0)
    assert isinstance(other, SSGANViT)
    assert len(sheet(other, deaf, count=1)) > 0
    with pytest.raises(ConfigError, match="not told"):
        sheet(other, deaf, count=1, finding=0)
