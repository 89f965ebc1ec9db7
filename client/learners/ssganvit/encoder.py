"""The vision transformer, which reads an image's tokens and its critic's maps side by side.

Blocks are timm's ``VisionTransformer`` (Dosovitskiy et al., ICLR 2021), from ImageNet weights where
a file gives them. Three stems make tokens: the convolutional one of the learner ``vit`` (from
scratch), MobileNetV2 (``mobilenet``), and the plain patches of the paper. The critic's last two
maps, pooled to two by two, come as further tokens. No gradient goes back into the critic: it has
had its phase, and what the findings teach stays with the classifier.

Without blocks (a depth of 0) it is a convolutional network beside the critic, the paper's row
"SS-GAN + CNN": no token reads another, so the mean takes in the critic's tokens, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from client.learners.ssganvit.mobilenet import CHANNELS, MobileStem
from client.learners.ssganvit.options import CONVOLUTIONAL, FROZEN, MOBILENET, PATCH, Options
from client.learners.vit import ConvolutionalStem
from ledger.errors import ConfigError

# isort: split
from timm.models.vision_transformer import VisionTransformer

GAN_MAPS = 2
"""Maps of the critic, from the smallest, that are read."""
_SIDE = 2
_DEVIATION = 0.02


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """What the encoder makes of images.

    Attributes:
        stages: tokens (B, N + M, D) after a third, two thirds and all of the blocks; the image's
            N first, then M of the critic's maps. The last is normalised; without blocks it is
            the only one.
        mean: (B, D), of the image's own last tokens, which have read the others; without blocks
            of all of them.
        tokens: (B, N, D), the image's own last.
        stem: (B, N, C) tokens of a pretrained stem as they came, or None.
    """

    stages: tuple[Tensor, ...]
    mean: Tensor
    tokens: Tensor
    stem: Tensor | None


class GanTokens(nn.Module):
    """Maps (B, C, H, W) of the critic to tokens (B, 4 a map, D)."""

    def __init__(self, *, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(each) for each in channels)
        self.projections = nn.ModuleList(nn.Linear(each, width) for each in channels)
        self.places = nn.Parameter(torch.randn(1, len(channels) * _SIDE**2, width) * _DEVIATION)

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Return the tokens, map by map."""
        found = []
        for features, norm, project in zip(maps, self.norms, self.projections, strict=True):
            # The floor keeps sides that are odd: their last row and column are left out.
            pooled = functional.avg_pool2d(features, features.shape[-1] // _SIDE)
            pooled = pooled[:, :, :_SIDE, :_SIDE].flatten(2).transpose(1, 2)
            found.append(project(norm(pooled)))
        return torch.cat(found, dim=1) + self.places


class Encoder(nn.Module):
    """Images, and perhaps maps of the critic, to tokens of several depths."""

    def __init__(self, options: Options, gan_channels: tuple[int, ...]) -> None:
        super().__init__()
        more: dict[str, Any] = {} if options.stem == PATCH else {"embed_layer": _stem(options)}
        self.vit = VisionTransformer(
            img_size=options.input_size,
            patch_size=options.patch,
            in_chans=options.channels,
            num_classes=0,
            embed_dim=options.width,
            depth=options.depth,
            num_heads=options.heads,
            mlp_ratio=options.mlp_ratio,
            class_token=False,
            global_pool="",
            pos_embed="learn" if options.stem == PATCH else "none",
            norm_layer=nn.LayerNorm,
            **more,
        )
        for block in self.vit.blocks:
            # The fused kernel has no rule for per-image gradients.
            block.get_submodule("attn").fused_attn = False
        self.mobile = options.stem == MOBILENET
        if not options.train_stem:
            self.vit.patch_embed.requires_grad_(requires_grad=False)
        self.count = (options.input_size // options.patch) ** 2
        depth = options.depth
        self.depths = tuple(sorted({-(-depth // 3), -(-2 * depth // 3), depth}))
        self.gan_tokens = (
            GanTokens(channels=gan_channels, width=options.width) if options.gan_tokens else None
        )

    @property
    def stem_channels(self) -> int:
        """Channels of a pretrained stem's own tokens, 0 where there are none."""
        return CHANNELS if self.mobile else 0

    def stem_tokens(self, images: Tensor) -> Tensor:
        """Return a pretrained stem's own tokens (B, N, C) of (B, 1, S, S)."""
        embed = self.vit.patch_embed
        if not isinstance(embed, MobileStem):
            raise ConfigError("only a mobile stem has tokens of its own")
        return embed.map(images)

    def forward(self, images: Tensor, maps: tuple[Tensor, ...]) -> Encoded:
        """Encode (B, 1, S, S)."""
        stem: Tensor | None = None
        embed = self.vit.patch_embed
        if isinstance(embed, MobileStem):
            stem = embed.map(images)
            tokens = embed.tokens(stem)
        else:
            tokens = embed(images)
        if self.vit.pos_embed is not None:
            tokens = tokens + self.vit.pos_embed
        if self.gan_tokens is not None:
            tokens = torch.cat([tokens, self.gan_tokens(maps)], dim=1)
        stages: list[Tensor] = []
        for place, block in enumerate(self.vit.blocks, start=1):
            tokens = block(tokens)
            if place in self.depths:
                stages.append(tokens)
        last = self.vit.norm(tokens)
        own = last[:, : self.count]
        read = own if stages else last
        return Encoded(stages=(*stages[:-1], last), mean=read.mean(dim=1), tokens=own, stem=stem)


def _stem(options: Options) -> object:
    """Return what timm calls to make the stem."""
    if options.stem == CONVOLUTIONAL:
        return partial(ConvolutionalStem, norm="group")
    return partial(MobileStem, frozen=options.stem_norm == FROZEN)
