"""A plain convolutional network with group norm: the cheap baseline.

Downsampling happens early, so that most arithmetic runs on small maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from client.learners.interface import Learner
from client.learners.standardised import StandardisedConv2d
from ledger.errors import ConfigError

_GROUPS = 8


class ConvolutionalNetwork(nn.Module):
    """Stride-2 blocks, a mean over what is left, a linear head."""

    def __init__(self, *, channels: int, widths: tuple[int, ...], labels: int, drop: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise((channels, *widths)):
            layers += [
                StandardisedConv2d(before, after, 3, stride=2),
                nn.GroupNorm(_GROUPS, after),
                nn.ReLU(),
            ]
        layers += [
            StandardisedConv2d(widths[-1], widths[-1], 3),
            nn.GroupNorm(_GROUPS, widths[-1]),
            nn.ReLU(),
        ]
        self.body = nn.Sequential(*layers)
        self.drop = nn.Dropout(drop)
        self.head = nn.Linear(widths[-1], labels)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, S, S) to logits (B, L)."""
        features = self.body(images).mean(dim=(2, 3))  # (B, D)
        logits: Tensor = self.head(self.drop(features))
        return logits


@dataclass(frozen=True, kw_only=True)
class ConvolutionalLearner(Learner):
    """The cheap baseline.

    Args:
        width: channels after the first of four blocks, doubled by each to at most 8 times.
        dropout: on the pooled features, [0, 0.9].
    """

    name: ClassVar[str] = "cnn"

    width: int = 32
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("width", 8, 256)
        self.check_range("dropout", 0.0, 0.9)
        if self.width % _GROUPS:
            raise ConfigError(f"learner cnn: width is a multiple of {_GROUPS}")

    def network(self) -> nn.Module:
        """Return the network."""
        w = self.width
        return ConvolutionalNetwork(
            channels=self.channels,
            widths=(w, 2 * w, 4 * w, 4 * w),
            labels=self.outputs,
            drop=self.dropout,
        )

    def head(self, module: nn.Module) -> nn.Linear:
        """Return the linear layer over the mean of the last map."""
        head = module.get_submodule("head")
        if not isinstance(head, nn.Linear):
            raise ConfigError("this module is not of the learner cnn")
        return head
