"""MobileNetV2 as a stem, its batch norms frozen, so that ImageNet weights are lawful to build on.

Batch norm mixes patients while it trains on them. Frozen, it is a fixed line for each channel from
statistics that came with the weights (public images): nothing of a batch enters it, per-image
gradients exist, and its buffers are part of the model file that no phase changes. Its scale and
shift stay parameters. Without privacy batch norm may stay what it is; its running statistics then
travel and are averaged like weights. MobileNetV2: Sandler et al., CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

import client.learners.torchvision_ops  # noqa: F401 - must come before timm

# isort: split
import timm
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed

from client.learners.baselines import lay_channels_last, leave_nothing_in_place
from client.learners.pretrained import in_our_names

ARCHITECTURE = "mobilenetv2_100"
CHANNELS = 1280
"""Of the last map, whose side is 1/32 of the image's."""
_POSITION_SCALE = 0.2


class FrozenNorm(nn.Module):
    """What batch norm, and the activation that comes with it, knows; it never looks at a batch.

    Its tensors have the names of the layer that it takes the place of, so files fit. The line
    itself is drawn by the convolution before it (``FoldedConv2d``), what is left is to activate.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, replaced: BatchNormAct2d) -> None:
        super().__init__()
        channels = replaced.num_features
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.act: nn.Module = replaced.act
        self.eps = float(replaced.eps)

    def line(self) -> tuple[Tensor, Tensor]:
        """Return each channel's slope and intercept, (C,) both."""
        slope = self.weight * torch.rsqrt(self.running_var + self.eps)
        return slope, self.bias - self.running_mean * slope

    def forward(self, features: Tensor) -> Tensor:
        """Activate (B, C, H, W), which the convolution has brought into line."""
        activated: Tensor = self.act(features)
        return activated


class FoldedConv2d(nn.Conv2d):
    """A convolution with the frozen norm after it multiplied into its filters.

    The same function as one after the other, with one pass over the maps less, and the norm's
    gradients from the filters' and not from whole maps: it trains a half quicker.
    """

    def __init__(self, replaced: nn.Conv2d, norm: FrozenNorm) -> None:
        super().__init__(
            replaced.in_channels,
            replaced.out_channels,
            replaced.kernel_size,  # type: ignore[arg-type]  # a pair
            stride=replaced.stride,  # type: ignore[arg-type]
            padding=replaced.padding,  # type: ignore[arg-type]
            groups=replaced.groups,
            bias=False,
        )
        self.weight = nn.Parameter(replaced.weight.detach().clone())
        # In a tuple: the norm is registered beside the convolution, where files look for it.
        self._norm = (norm,)

    def forward(self, features: Tensor) -> Tensor:
        """Convolve (B, C, H, W)."""
        slope, intercept = self._norm[0].line()
        filters = self.weight * slope[:, None, None, None]
        return functional.conv2d(
            features, filters, intercept, self.stride, self.padding, groups=self.groups
        )


def freeze_norms(module: nn.Module) -> None:
    """Put frozen norms in place of batch norms, each folded into the convolution before it."""
    before: tuple[str, nn.Conv2d] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, BatchNormAct2d) and before is not None:
            frozen = FrozenNorm(child)
            setattr(module, name, frozen)
            setattr(module, before[0], FoldedConv2d(before[1], frozen))
            before = None
        elif isinstance(child, nn.Conv2d):
            before = (name, child)
        else:
            freeze_norms(child)


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
