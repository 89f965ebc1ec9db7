"""A learner and a batch that take milliseconds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from client.learners import get_learner
from client.learners.phase import Draws, Phase
from client.learners.ssganvit.learner import SSGANViTLearner

LABELS = 3


def small(**more: object) -> SSGANViTLearner:
    learner = get_learner("ssganvit", **{"preset": "demo", "labels": LABELS, **more})
    assert isinstance(learner, SSGANViTLearner)
    return learner


def batch(count: int = 3, side: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, 2, (count, LABELS), generator=generator, dtype=torch.int8)
    return torch.randn((count, 1, side, side), generator=generator), labels


def drawn(phase: Phase, module: nn.Module, images: Tensor, labels: Tensor, seed: int = 1) -> Draws:
    with torch.no_grad():
        return phase.draws(module, images, labels, torch.Generator().manual_seed(seed))


class LossOf(nn.Module):
    """A phase's loss as a module, for ``functional_call``."""

    def __init__(self, phase: Phase, module: nn.Module) -> None:
        super().__init__()
        self.phase, self.module = phase, module

    def forward(self, images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        return self.phase.loss(self.module, images, labels, draws)
