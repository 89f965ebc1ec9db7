"""Explanations: Grad-CAM and rollout against answers worked out by hand, and where they look."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import client.learners.torchvision_ops  # noqa: F401 - must come before timm

# isort: split
import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from client.learners import get_learner
from client.learners.explain import attention, enlarge, grad_cam, peak, rollout, rollout_maps
from client.learners.interface import Learner
from client.learners.target import Target, find_target
from ledger.errors import ConfigError, DataError


class Pooled(nn.Module):
    """A convolution, the mean over its map, a linear head."""

    def __init__(self, channels: int, labels: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, channels, kernel, padding=kernel // 2)
        self.head = nn.Linear(channels, labels)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(functional.relu(self.conv(images)).mean(dim=(2, 3)))
        return logits


class Extended(nn.Module):
    """A transformer whose blocks also see tokens of something else, behind the patches."""

    def __init__(self, labels: int, extra: int, pool: str) -> None:
        super().__init__()
        self.vit = VisionTransformer(
            img_size=16, patch_size=4, in_chans=1, num_classes=0, embed_dim=16, depth=2,
            num_heads=2, global_pool=cast(Literal["token", "avg"], pool),
            class_token=pool == "token",
        )  # fmt: skip
        self.extra = nn.Parameter(torch.randn(1, extra, 16))
        self.head = nn.Linear(16, labels)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.vit._pos_embed(self.vit.patch_embed(images))
        tokens = torch.cat([tokens, self.extra.expand(len(images), -1, -1)], dim=1)
        tokens = self.vit.norm(self.vit.blocks(tokens))
        read = tokens[:, 0] if self.vit.global_pool == "token" else tokens.mean(dim=1)
        logits: Tensor = self.head(read)
        return logits


@dataclass(frozen=True, kw_only=True)
class Made(Learner):
    name: ClassVar[str] = "made"

    labels: int = 2
    input_size: int = 16
    kind: str = "pooled"
    extra: int = 0

    def network(self) -> nn.Module:
        if self.kind == "pooled":
            return Pooled(4, self.outputs, 3)
        if self.kind == "flat":
            return nn.Sequential(nn.Flatten(), nn.Linear(256, self.outputs))
        return Extended(self.outputs, self.extra, self.kind)

    def head(self, module: nn.Module) -> nn.Linear:
        head = module[1] if isinstance(module, nn.Sequential) else module.get_submodule("head")
        assert isinstance(head, nn.Linear)
        return head


def images(count: int, side: int) -> Tensor:
    return torch.randn((count, 1, side, side), generator=torch.Generator().manual_seed(0))


# Grad-CAM


def test_grad_cam_is_the_formula() -> None:
    """Of a mean-pooled map, a channel's weight is the head's, over the number of cells."""
    learner = Made()
    module = learner.build(0).eval()
    assert isinstance(module, Pooled)
    films = images(3, 16)
    target = find_target(learner, module)
    assert target.layer is module.conv
    found = grad_cam(learner, module, target, films, [1, 0])
    features = module.conv(films).detach()
    for place, finding in enumerate((1, 0)):
        # behind the rectifier a cell answers only where it is positive
        slope = module.head.weight[finding][None, :, None, None] * (features > 0) / 256
        weights = slope.mean(dim=(2, 3), keepdim=True)
        expected = (weights * features).sum(1).clamp(min=0).detach().numpy()
        assert found[:, place] == pytest.approx(expected, abs=1e-6)


def test_grad_cam_finds_planted_lesions() -> None:
    learner = Made()
    module = learner.build(0).train()
    generator = np.random.default_rng(0)

    def films(count: int) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
        pixels = generator.normal(0, 0.3, (count, 1, 16, 16))
        labels = np.arange(count) % 2
        places = [tuple(generator.integers(1, 12, 2).tolist()) for _ in range(count)]
        for film, (row, column) in enumerate(places):
            if labels[film]:
                pixels[film, 0, row : row + 4, column : column + 4] += 2
        truth = np.stack([labels, 1 - labels], axis=1)
        return torch.tensor(pixels).float(), torch.tensor(truth).float(), places

    optimiser = torch.optim.Adam(module.parameters(), lr=0.05)
    seen, labels, _ = films(64)
    for _ in range(60):
        optimiser.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(module(seen), labels)
        torch.autograd.backward(loss)
        optimiser.step()
    others, _, places = films(40)
    maps = grad_cam(learner, module.eval(), find_target(learner, module), others, [0])[:, 0]
    hits = 0
    for film in range(1, 40, 2):
        at = peak(maps[film])
        assert at is not None
        column, row = at[0] * 16 - 0.5, at[1] * 16 - 0.5
        top, left = places[film]
        hits += top - 1 <= row <= top + 4 and left - 1 <= column <= left + 4
    assert hits >= 18


@pytest.mark.parametrize("extra", [0, 5])
@pytest.mark.parametrize("pool", ["token", "avg"])
def test_tokens_become_the_grid_of_patches(pool: str, extra: int) -> None:
    learner = Made(kind=pool, extra=extra)
    module = learner.build(0).eval()
    assert isinstance(module, Extended)
    target = find_target(learner, module)
    first = int(pool == "token")
    assert (target.grid, target.first, target.class_token) == ((4, 4), first, first == 1)
    assert len(target.attention) == 2
    if pool == "token":  # behind the last block scores rest on the class token alone
        assert target.layer is module.vit.blocks[1].norm1
    films = images(2, 16)
    captured: list[Tensor] = []
    handle = target.layer.register_forward_hook(lambda _m, _i, output: captured.append(output))
    score = module(films)[:, 1].sum()
    handle.remove()
    (slope,) = torch.autograd.grad(score, captured[0])
    patches = slice(first, first + 16)
    weights = slope[:, patches].mean(dim=1, keepdim=True)
    expected = (weights * captured[0][:, patches]).sum(-1).clamp(min=0).detach().numpy()
    found = grad_cam(learner, module, target, films, [1])[:, 0]
    assert found.reshape(2, 16) == pytest.approx(expected, abs=1e-6)


# Attention rollout


def test_rollout_is_the_product_of_half_passed_blocks() -> None:
    weights = [torch.rand((1, 3, 4, 4), dtype=torch.float64).softmax(-1) for _ in range(3)]
    found = rollout(weights)
    assert found.sum(-1).numpy() == pytest.approx(np.ones((1, 4)))
    expected = np.eye(4)
    for block in weights:
        expected = (block[0].mean(0).numpy() + np.eye(4)) / 2 @ expected
    assert found[0].numpy() == pytest.approx(expected)
    assert rollout([torch.eye(4)[None, None]])[0].tolist() == torch.eye(4).tolist()
    joined = [torch.eye(3)[None, None], *weights]  # tokens that join later start there
    assert rollout(joined)[0].numpy() == pytest.approx(expected)
    with pytest.raises(DataError):
        rollout([])


def test_attention_is_read_as_it_is_used() -> None:
    learner = Made(kind="token", extra=3)
    module = learner.build(0).eval()
    assert isinstance(module, Extended)
    films, target = images(2, 16), find_target(learner, module)
    before = module(films)
    blocks = attention(module, target, films)
    assert [tuple(block.shape) for block in blocks] == [(2, 2, 20, 20)] * 2
    assert all(layer.fused_attn for layer in target.attention)
    assert torch.equal(module(films), before)
    # the last block's own output follows from these weights
    layer: Any = module.vit.get_submodule("blocks.1.attn")
    inputs: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _m, given: inputs.append(given[0]))
    module(films)
    handle.remove()
    value = layer.qkv(inputs[0]).reshape(2, 20, 3, 2, 8).permute(2, 0, 3, 1, 4)[2]
    mixed = (blocks[1] @ value).transpose(1, 2).reshape(2, 20, 16)
    assert torch.allclose(layer.proj(mixed), layer(inputs[0]), atol=1e-5)
    maps = rollout_maps(module, target, films)
    assert maps is not None
    assert maps.shape == (2, 4, 4)
    assert maps.reshape(2, 16) == pytest.approx(rollout(blocks)[:, 0, 1:17].numpy())


# Where to look


@pytest.mark.parametrize(
    ("name", "size", "blocks"),
    [("cnn", 64, 0), ("resnet18", 64, 0), ("vit", 64, 4), ("vit_tiny", 64, 12)],
)
def test_every_kind_of_learner_has_a_place_to_look(name: str, size: int, blocks: int) -> None:
    learner = get_learner(name, input_size=size, labels=2)
    module = learner.build(0).eval()
    target = find_target(learner, module)
    assert len(target.attention) == blocks
    films = images(1, size)
    assert grad_cam(learner, module, target, films, [0, 1]).shape == (1, 2, 4, 4)
    maps = rollout_maps(module, target, films)
    assert (maps is None) == (blocks == 0)
    if maps is not None:
        assert 0.5 < maps.sum() <= 1 + 1e-5


def test_the_critics_tokens_are_no_places_of_the_image() -> None:
    learner = get_learner("ssganvit", labels=2)
    module = learner.build(0).eval()
    target = find_target(learner, module)
    assert isinstance(target.layer, nn.LayerNorm)
    assert target.grid is not None
    films = images(1, learner.input_size)
    maps = rollout_maps(module, target, films)
    assert maps is not None
    blocks = attention(module, target, films)
    assert blocks[-1].shape[-1] > target.grid[0] * target.grid[1]  # there are others beside
    own = target.grid[0] * target.grid[1]
    through = rollout(blocks)[:, :own].mean(dim=1)  # what the mean token reads, and no other
    assert maps.reshape(1, own) == pytest.approx(through[:, :own].numpy())
    assert maps.sum() < 1
    assert grad_cam(learner, module, target, films, [1]).shape == (1, 1, *target.grid)


@pytest.mark.parametrize("preset", ["cxr96", "cxr96_private"])
def test_a_pretrained_stem_is_explained_where_all_that_reads_it_begins(preset: str) -> None:
    """The head reads it beside the blocks: a map behind them would leave out what decides."""
    learner = get_learner("ssganvit", preset=preset, labels=2, input_size=96)
    module = learner.build(0).eval()
    target = find_target(learner, module)
    films = images(2, 96)
    head = module.get_submodule("head")
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight.zero_()
        # all but the mean token: the centred stem of the one, the fused features of the other
        head.weight[:, learner.width :].normal_(generator=torch.Generator().manual_seed(1))  # type: ignore[attr-defined]
    maps = grad_cam(learner, module, target, films, [0, 1])
    assert maps.shape == (2, 2, 3, 3)
    assert all(found.max() > 0 for found in maps.reshape(4, -1))
    spread = rollout_maps(module, target, films)
    assert spread is not None
    assert spread.shape == (2, 3, 3)
    assert len(target.attention) == learner.depth  # type: ignore[attr-defined]


def test_a_learner_may_say_itself_where_to_look() -> None:
    class Own(Made):
        def explain_at(self, module: nn.Module) -> Target:
            return Target(layer=module)

    learner = Own()
    module = learner.build(0).eval()
    assert find_target(learner, module).layer is module
    with pytest.raises(ConfigError, match="does not run"):
        grad_cam(learner, module, Target(layer=nn.Identity()), images(1, 16), [0])


def test_a_network_without_places_is_refused() -> None:
    learner = Made(kind="flat")
    with pytest.raises(ConfigError, match="no map"):
        find_target(learner, learner.build(0))


# Peaks


def test_a_peak_is_the_middle_of_the_highest_cell_and_of_the_drawn_map() -> None:
    cells = np.zeros((2, 4), np.float32)
    assert peak(cells) is None
    cells[1, 3] = 2
    assert peak(cells) == (0.875, 0.75)
    drawn = enlarge(cells, 64)
    assert drawn.max() == drawn[int(0.75 * 64), int(0.875 * 64)]
