"""Batch norm that looks at no batch, so that pretrained weights are lawful to build on.

Batch norm mixes patients while it trains on them. Frozen, it is a fixed line for each channel from
statistics that came with the weights (public images): nothing of a batch enters it, per-image
gradients exist, and its buffers are part of the model file that no phase changes. Its scale and
shift stay parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ledger.errors import ConfigError


class FrozenNorm(nn.Module):
    """What batch norm, and the activation that comes with it, knows; it never looks at a batch.

    Its tensors have the names of the layer that it takes the place of, so files fit. The line
    itself is drawn by the convolution before it (``FoldedConv2d``), what is left is to activate.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, replaced: nn.BatchNorm2d) -> None:
        super().__init__()
        channels = replaced.num_features
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        # timm's batch norms may bring their activation with them.
        self.act: nn.Module = getattr(replaced, "act", None) or nn.Identity()
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
    """Put frozen norms in place of batch norms, each folded into the convolution before it.

    Raises:
        ConfigError: there is a norm without one (before an activation, as in DenseNet).
    """
    _freeze_below(module)
    if any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules()):
        raise ConfigError("a batch norm that no convolution stands before cannot be frozen")


def _freeze_below(module: nn.Module) -> None:
    before: tuple[str, nn.Conv2d] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and before is not None:
            frozen = FrozenNorm(child)
            setattr(module, name, frozen)
            setattr(module, before[0], FoldedConv2d(before[1], frozen))
            before = None
        elif isinstance(child, nn.Conv2d) and child.bias is None:
            before = (name, child)
        else:
            _freeze_below(child)
