"""Parts left out: no transformer blocks, a frozen stem, no tokens of the critic, no fusion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from client.dp_modules import check_phases, mixes
from client.dpsgd import PrivatePlan, train_private
from client.learners import get_learner
from client.learners.determinism import deterministic
from client.learners.explain import grad_cam, rollout_maps
from client.learners.ssganvit.learner import SSGANViTLearner
from client.learners.ssganvit.network import SSGANViT
from client.learners.target import find_target
from client.noise import Keystream
from client.privacy_plan import MIN_COHORT
from ledger.errors import UnsupportedModule
from tests.client.ssganvit.small import LABELS, batch, small

BARE = {"gan_tokens": False, "fusion": False}


def built(learner: SSGANViTLearner) -> SSGANViT:
    module = learner.build(0)
    assert isinstance(module, SSGANViT)
    return module


@pytest.mark.parametrize("stem", ["convolutional", "patch"])
@pytest.mark.parametrize("more", [{}, {"fusion": False}, {"gan_tokens": False}, BARE])
def test_without_blocks_tokens_go_straight_to_fusion_and_head(
    more: dict[str, object], stem: str
) -> None:
    learner = small(depth=0, stem=stem, **more)
    module = built(learner).eval()
    images, _ = batch()
    encoded = module.encode(images)
    critic = 0 if more.get("gan_tokens") is False else 8
    assert [tuple(stage.shape) for stage in encoded.stages] == [(3, 16 + critic, 32)]
    assert torch.equal(encoded.tokens, encoded.stages[0][:, :16])
    assert torch.equal(encoded.mean, encoded.stages[0].mean(dim=1))
    assert module(images).shape == (3, LABELS)
    assert not any("blocks" in name for name in module.state_dict())


def test_without_blocks_the_head_still_hears_the_critic() -> None:
    module = built(small(depth=0, fusion=False))
    images, _ = batch()
    before = module(images)
    with torch.no_grad():
        module.get_parameter("critic.refine.bias").add_(1.0)
    assert not torch.allclose(module(images), before, atol=1e-4)


def test_without_blocks_there_is_a_map_of_each_finding_but_no_rollout() -> None:
    learner = small(depth=0)
    module = built(learner).eval()
    images, _ = batch()
    target = find_target(learner, module)
    assert (target.grid, target.first, target.attention) == ((4, 4), 0, ())
    maps = grad_cam(learner, module, target, images, range(LABELS))
    assert maps.shape == (3, LABELS, 4, 4)
    assert maps.max() > 0
    assert rollout_maps(module, target, images) is None


def _private_step(learner: SSGANViTLearner, module: SSGANViT, name: str) -> set[str]:
    """Take one private step of a phase on a few small images; return which tensors moved."""
    phase = learner.phase(name)
    generator = Generator().manual_seed(0)
    side = learner.input_size
    images = torch.randn((MIN_COHORT, 1, side, side), generator=generator)
    labels = (torch.rand((MIN_COHORT, learner.labels), generator=generator) < 0.5).to(torch.int8)

    def rows_of(rows: np.ndarray) -> tuple[Tensor, Tensor]:
        return images[rows], labels[rows]

    before = {key: value.clone() for key, value in module.state_dict().items()}
    plan = PrivatePlan(
        steps=1, sample_rate=2 / MIN_COHORT, noise_multiplier=1.0, learning_rate=0.1,
        optimiser="sgd", physical_batch=2,
    )  # fmt: skip
    with deterministic(seed=2):
        train_private(
            module, phase, rows_of, np.arange(MIN_COHORT, dtype=np.int64), plan,
            public_units=MIN_COHORT, input_shape=((1, side, side), learner.labels),
            keystream=Keystream.insecure_test(5), draws=Generator().manual_seed(7),
        )  # fmt: skip
    after = module.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    return {key for key, value in after.items() if not torch.equal(value, before[key])}


def test_the_private_preset_is_one() -> None:
    learner = get_learner("ssganvit", preset="cxr96_private", input_size=96)
    assert isinstance(learner, SSGANViTLearner)
    module = built(learner)
    check_phases(module, [learner.phase(name) for name in learner.phases])
    for name in learner.phases[1:]:
        assert not any("backbone" in trained for trained in learner.phase(name).travels(module))
    other = get_learner("ssganvit", preset="cxr96", input_size=96)
    assert isinstance(other, SSGANViTLearner)
    with pytest.raises(UnsupportedModule, match="mixes patients"):
        check_phases(built(other), [other.phase(name) for name in other.phases])


@pytest.mark.parametrize(
    "options",
    [{"depth": 0}, {"train_stem": False}, BARE],
    ids=["no blocks", "frozen stem", "neither tokens nor fusion"],
)
def test_a_frozen_stem_without_a_part_trains_privately(options: dict[str, object]) -> None:
    """At 32 px, the smallest its stem takes; all phases, as private training checks them."""
    frozen = {"stem_norm": "frozen", **options}
    learner = get_learner("ssganvit", preset="cxr96", input_size=32, labels=1, **frozen)
    assert isinstance(learner, SSGANViTLearner)
    assert (learner.stem, learner.width) == ("mobilenet", 128)
    module = built(learner)
    check_phases(module, [learner.phase(name) for name in learner.phases])
    assert not any(mixes(layer) for layer in module.modules())
    for name in learner.phases:
        moved = _private_step(learner, module, name)
        assert moved == set(learner.phase(name).trained(module)), name
