"""The self-supervised tasks' heads over the encoder, and each task's loss, one an image.

Rotation: Gidaris et al., ICLR 2018. Masked segments: after Bao et al. (BEiT, ICLR 2022), with bins
of grey level in place of a learnt codebook. Triplet margin: Schroff et al., CVPR 2015. NT-Xent:
Chen et al. (SimCLR, ICML 2020). Contrastive losses are usually among the images of a batch, which
couples patients; here the positive is another view of the same image and the negatives are
generated, so that a patient is in no loss but its own.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from client.learners.ssganvit.encoder import Encoded
from client.learners.ssganvit.options import Options
from client.learners.ssganvit.views import SEGMENTS, WAYS, WINDOWS


class Pretext(nn.Module):
    """Heads of the tasks that are on."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        width = options.width
        self.bins = options.bins
        self.rotation = nn.Linear(width, WAYS) if options.rotation else None
        self.colour = nn.Linear(width, SEGMENTS * len(WINDOWS)) if options.colour else None
        self.masked = nn.Linear(width, SEGMENTS * options.bins) if options.masked else None
        compared = options.triplet > 0 or options.nt_xent > 0
        self.projector = _perceptron(width, width, options.projection) if compared else None

    def tell_rotation(self, encoded: Encoded, quarters: Tensor) -> Tensor:
        """Return the cross-entropy (B,) of the quarter turns (B,)."""
        assert self.rotation is not None  # noqa: S101 - the phase asks only for what is on
        return _cross_entropy(self.rotation(encoded.mean), quarters)

    def tell_colour(self, encoded: Encoded, colours: Tensor) -> Tensor:
        """Return the squared error (B,) of the pseudo-colours (B, N, 12)."""
        assert self.colour is not None  # noqa: S101
        told = torch.sigmoid(self.colour(encoded.tokens))
        return (told - colours).square().sum(dim=2).mean(dim=1)

    def tell_masked(self, encoded: Encoded, hidden: Tensor, bins: Tensor) -> Tensor:
        """Return the cross-entropy (B,) of the bins (B, M, 4) of the hidden cells (B, M)."""
        assert self.masked is not None  # noqa: S101
        where = hidden.unsqueeze(2).expand(-1, -1, encoded.tokens.shape[2])
        told = self.masked(torch.gather(encoded.tokens, 1, where))  # (B, M, 4 bins)
        return _cross_entropy(told.unflatten(2, (SEGMENTS, self.bins)), bins).mean(dim=(1, 2))

    def compare(self, encoded: Encoded) -> Tensor:
        """Return the unit vectors (B, P) that views are compared by."""
        assert self.projector is not None  # noqa: S101
        return functional.normalize(self.projector(encoded.mean), dim=1)


def triplet(anchor: Tensor, positive: Tensor, negatives: Tensor, margin: float) -> Tensor:
    """Return the mean hinge (B,) of the positive's squared distance over each negative's.

    Args:
        anchor: (B, P) unit vectors.
        positive: (B, P) unit vectors, of the same images.
        negatives: (B, K, P) unit vectors.
        margin: by which a negative is to be farther.
    """
    near = (anchor - positive).square().sum(dim=1, keepdim=True)
    far = (anchor.unsqueeze(1) - negatives).square().sum(dim=2)
    return functional.relu(near - far + margin).mean(dim=1)


def nt_xent(anchor: Tensor, positive: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy (B,) of finding the positive among the negatives; as ``triplet``."""
    near = (anchor * positive).sum(dim=1, keepdim=True)
    far = (anchor.unsqueeze(1) * negatives).sum(dim=2)
    return -functional.log_softmax(torch.cat([near, far], dim=1) / temperature, dim=1)[:, 0]


def _cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy over the last dimension, nothing averaged: (..., C), (...) -> (...)."""
    spread = functional.log_softmax(logits, dim=-1)
    return -torch.gather(spread, -1, truth.unsqueeze(-1)).squeeze(-1)


def _perceptron(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.GELU()]
    return nn.Sequential(*layers[:-1])
