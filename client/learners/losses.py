"""Losses for findings of which some are unknown: one value per example, never coupled.

Each function maps logits (B, L) and labels (B, L) of 1 (present), 0 (absent), -1 (unknown) or -2
(uncertain; unknown to all losses but ``multiclass``) to (B,) losses. An example's loss depends on
that example alone, so a mean over a batch keeps per-sample gradients meaningful (differential
privacy, membership tests). Unknown labels give no gradient. The sum over the known labels is
divided by L, not by their number: a hospital that labels few findings then does not weigh more
per finding than one that labels all.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

LossFunction = Callable[[Tensor, Tensor], Tensor]


def masked_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy over the known labels; (B, L), (B, L) -> (B,)."""
    known = (labels >= 0).to(logits.dtype)
    targets = labels.clamp(min=0).to(logits.dtype)
    each = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (each * known).sum(dim=1) / logits.shape[1]


def focal(logits: Tensor, labels: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al., ICCV 2017) over the known labels; (B, L), (B, L) -> (B,)."""
    known = (labels >= 0).to(logits.dtype)
    targets = labels.clamp(min=0).to(logits.dtype)
    each = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    missed = torch.sigmoid(torch.where(targets > 0, -logits, logits))  # 1 - p(true class)
    return (each * missed.pow(gamma) * known).sum(dim=1) / logits.shape[1]


MULTICLASS = "multiclass"
CLASSES = 3
"""Absent, present, uncertain, in this order: logit 3 l + c is class c of finding l."""
_UNCERTAIN = -2


def multiclass(logits: Tensor, labels: Tensor) -> Tensor:
    """U-MultiClass (Irvin et al. 2019): three classes a finding; (B, 3 L), (B, L) -> (B,).

    The cross-entropy of a softmax over absent, present and uncertain. Only unknown is masked.
    """
    each = logits.reshape(len(logits), -1, CLASSES)
    known = (labels != -1).to(logits.dtype)
    truth = torch.where(labels == _UNCERTAIN, CLASSES - 1, labels.clamp(min=0)).to(torch.int64)
    chosen = functional.log_softmax(each, dim=2).gather(2, truth.unsqueeze(2)).squeeze(2)
    return -(chosen * known).sum(dim=1) / labels.shape[1]


def positive_logits(logits: Tensor) -> Tensor:
    """Return (B, L) from (B, 3 L): the logit of present against absent, uncertain left out.

    Its sigmoid is the softmax over absent and present alone, as the paper does to evaluate.
    """
    each = logits.reshape(len(logits), -1, CLASSES)
    return each[:, :, 1] - each[:, :, 0]


LOSSES: MappingProxyType[str, LossFunction] = MappingProxyType(
    {"bce": masked_bce, "focal": focal, MULTICLASS: multiclass},
)
"""Losses a learner's ``objective`` option may name."""
