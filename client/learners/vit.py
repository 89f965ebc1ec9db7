"""A compact vision transformer on a convolutional stem.

Blocks are timm's ``VisionTransformer`` (Dosovitskiy et al., ICLR 2021). Strided convolutions with
standardised weights take the place of the patch embedding (Xiao et al., NeurIPS 2021, "Early
convolutions help transformers see better"): from scratch on 10,000 radiographs a pure ViT hardly
learns. Everything here gives per-sample gradients under Opacus: group norm in the stem, plain
``nn.LayerNorm``, fixed sine-cosine positions and mean pooling instead of learnt tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from client.learners.interface import Learner
from client.learners.standardised import StandardisedConv2d
from ledger.errors import ConfigError

# isort: split
import client.learners.torchvision_ops  # noqa: F401 - must come before timm

# isort: split
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models.vision_transformer import VisionTransformer

_GROUPS = 8
_PATCHES = (8, 16)
_POSITION_SCALE = 0.2
"""Sines have unit amplitude, which would drown the content of an untrained stem."""


def _norm(kind: str, channels: int) -> nn.Module:
    return nn.GroupNorm(_GROUPS, channels) if kind == "group" else nn.BatchNorm2d(channels)


class ConvolutionalStem(nn.Module):
    """Three or four stride-2 convolutions: (B, 1, S, S) -> tokens (B, (S/patch)², D).

    The arguments are those of timm's ``embed_layer``, which passes more than are needed, and
    ``norm``.
    """

    def __init__(
        self,
        *,
        img_size: int,
        patch_size: int,
        in_chans: int,
        embed_dim: int,
        norm: str,
        **_unused: object,
    ) -> None:
        super().__init__()
        side = img_size // patch_size
        self.num_patches = side * side
        halvings = patch_size.bit_length() - 1
        widths = (in_chans, *(embed_dim // share for share in (4, 2, 1)))
        widths += (embed_dim,) * (halvings - 3)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [
                StandardisedConv2d(before, after, 3, stride=2),
                _norm(norm, after),
                nn.ReLU(),
            ]
        layers.append(StandardisedConv2d(embed_dim, embed_dim, 3))
        self.layers = nn.Sequential(*layers)
        positions = build_sincos2d_pos_embed([side, side], dim=embed_dim).unsqueeze(0)
        # Fixed by shape alone, so it need not travel.
        self.register_buffer(
            "positions", _POSITION_SCALE * positions.to(torch.float32), persistent=False
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens (B, N, D)."""
        tokens = self.layers(images).flatten(2).transpose(1, 2)  # (B, N, D)
        positions: Tensor = self.get_buffer("positions")
        return torch.add(tokens, positions)


@dataclass(frozen=True, kw_only=True)
class VisionTransformerLearner(Learner):
    """The default learner.

    Args:
        width: token dimension D, a multiple of 32.
        patch: pixels a token's side covers, 8 or 16 (three or four strided convolutions).
        depth: transformer blocks.
        heads: attention heads; divide ``width``.
        mlp_ratio: hidden width of a block's perceptron, in units of D.
        dropout: on the pooled features, [0, 0.9].
        block_rate: share of the learning rate that the transformer blocks train with.
        stem_norm: "group" or "batch" (batch norm couples patients: refused under DP).
    """

    name: ClassVar[str] = "vit"

    width: int = 128
    patch: int = 16
    depth: int = 4
    heads: int = 4
    mlp_ratio: float = 2.0
    dropout: float = 0.0
    stem_norm: str = "group"
    block_rate: float = 0.15

    def rate_share(self, parameter: str) -> float:
        """Return the blocks' smaller share, and 1 for stem and head."""
        return self.block_rate if parameter.startswith("blocks.") else 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("width", 32, 1024)
        self.check_range("depth", 1, 32)
        self.check_range("heads", 1, 32)
        self.check_range("mlp_ratio", 0.5, 8.0)
        self.check_range("dropout", 0.0, 0.9)
        self.check_range("block_rate", 0.01, 1.0)
        if self.width % 32 or self.width % self.heads:
            raise ConfigError("learner vit: width is a multiple of 32 and of heads")
        if self.patch not in _PATCHES or self.input_size % self.patch:
            raise ConfigError("learner vit: patch is 8 or 16 and divides input_size")
        if self.stem_norm not in ("group", "batch"):
            raise ConfigError('learner vit: stem_norm is "group" or "batch"')

    def network(self) -> nn.Module:
        """Return the transformer."""
        module: nn.Module = VisionTransformer(
            img_size=self.input_size,
            patch_size=self.patch,
            in_chans=self.channels,
            num_classes=self.outputs,
            embed_dim=self.width,
            depth=self.depth,
            num_heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            drop_rate=self.dropout,
            class_token=False,
            global_pool="avg",
            pos_embed="none",
            norm_layer=nn.LayerNorm,
            embed_layer=partial(ConvolutionalStem, norm=self.stem_norm),
        )
        return module

    def head(self, module: nn.Module) -> nn.Linear:
        """Return the linear layer over the mean token."""
        head = module.get_submodule("head")
        if not isinstance(head, nn.Linear):
            raise ConfigError("this module is not of the learner vit")
        return head
