"""MobileNetV2 as a stem, its batch norms frozen, so that ImageNet weights are lawful to build on.

Batch norm mixes patients while it trains on them, frozen it does not (``frozen_norm``). Without
privacy batch norm may stay what it is; its running statistics then travel and are averaged like
weights. MobileNetV2: Sandler et al., CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

import client.learners.torchvision_ops  # noqa: F401 - must come before timm

# isort: split
import timm
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed

from client.learners.baselines import lay_channels_last, leave_nothing_in_place
from client.learners.frozen_norm import freeze_norms
from client.learners.pretrained import in_our_names

ARCHITECTURE = "mobilenetv2_100"
CHANNELS = 1280
"""Of the last map, whose side is 1/32 of the image's."""
_POSITION_SCALE = 0.2


def in_timm_names(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return MobileNetV2's weights by timm's names, without its classifier.

    Args:
        given: of a file of timm's or of torchvision's, whole.
    """
    whole = timm.create_model(ARCHITECTURE, pretrained=False).state_dict()
    named = in_our_names(given, whole)
    return {name: tensor for name, tensor in named.items() if not name.startswith("classifier.")}


class MobileStem(nn.Module):
    """Images (B, 1, S, S) to tokens (B, (S/32)², D).

    The arguments are those of timm's ``embed_layer``, and whether batch norm is ``frozen``.
    """

    positions: Tensor

    def __init__(
        self,
        *,
        img_size: int,
        in_chans: int,
        embed_dim: int,
        frozen: bool = True,
        **_unused: object,
    ) -> None:
        super().__init__()
        self.side = img_size // 32
        self.num_patches = self.side**2
        self.backbone: nn.Module = timm.create_model(
            ARCHITECTURE, pretrained=False, in_chans=in_chans, num_classes=0
        )
        if frozen:
            freeze_norms(self.backbone)
        lay_channels_last(self.backbone)
        leave_nothing_in_place(self.backbone)
        self.project = nn.Linear(CHANNELS, embed_dim)
        positions = build_sincos2d_pos_embed([self.side, self.side], dim=embed_dim).unsqueeze(0)
        self.register_buffer(
            "positions", _POSITION_SCALE * positions.to(torch.float32), persistent=False
        )

    def map(self, images: Tensor) -> Tensor:
        """Return the last map as tokens (B, N, 1280)."""
        features: Tensor = self.backbone.forward_features(images)  # type: ignore[operator]
        return features.flatten(2).transpose(1, 2)

    def tokens(self, features: Tensor) -> Tensor:
        """Return tokens (B, N, D) of that map."""
        projected: Tensor = self.project(features)
        return projected + self.positions

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens (B, N, D)."""
        return self.tokens(self.map(images))
