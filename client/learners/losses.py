"""Losses for findings of which some are unknown: one value per example, never coupled.

Each function maps logits (B, L) and labels (B, L) of 1 (present), 0 (absent), -1 (unknown) or -2
(uncertain; unknown to all losses but ``multiclass``) to (B,) losses. An example's loss depends on
that example alone, so a mean over a batch keeps per-sample gradients meaningful (differential
privacy, membership tests). Unknown labels give no gradient. The sum over the known labels is
divided by L, not by their number: a hospital that labels few findings then does not weigh more
per finding than one that labels all.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class LossFunction(Protocol):
    """From logits, labels and perhaps class weights (2, L; absent, present) to (B,) losses."""

    def __call__(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None, /) -> Tensor:
        """Return one loss per example."""


def masked_bce(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy over the known labels; (B, L), (B, L) -> (B,)."""
    return _sum_of_known(_cross_entropy(logits, labels), labels, weights)


def focal(
    logits: Tensor, labels: Tensor, weights: Tensor | None = None, *, gamma: float = 2.0
) -> Tensor:
    """Focal loss (Lin et al., ICCV 2017) over the known labels; (B, L), (B, L) -> (B,)."""
    missed = torch.sigmoid(torch.where(labels > 0, -logits, logits))  # 1 - p(true class)
    return _sum_of_known(_cross_entropy(logits, labels) * missed.pow(gamma), labels, weights)


def asymmetric(
    logits: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    gamma_absent: float = 4.0,
    gamma_present: float = 0.0,
    margin: float = 0.05,
) -> Tensor:
    """Asymmetric loss (Ridnik et al., ICCV 2021) over the known labels; (B, L), (B, L) -> (B,).

    ``-(1 - p)^gamma_present log p`` for present and ``-m^gamma_absent log(1 - m)`` for absent,
    where m = max(p - margin, 0): absent findings that are already said to be unlikely give no
    gradient at all. Its probabilities are not calibrated, by design. Defaults are the paper's.
    """
    said = torch.sigmoid(logits)
    shifted = (said - margin).clamp(min=0)
    present = -functional.logsigmoid(logits) * (1 - said).pow(gamma_present)
    absent = -torch.log1p(-shifted) * shifted.pow(gamma_absent)  # shifted <= 1 - margin: finite
    return _sum_of_known(torch.where(labels > 0, present, absent), labels, weights)


def balance_weights(prior: Sequence[float], balance: float) -> Tensor:
    """Return (2, L) weights of absent and present: ``(1/2 / share)**balance`` of each class.

    With balance 1 both classes of every label weigh the same in all; with 0 nothing changes. The
    odds that such a loss learns are those of a world where the classes are that balanced, so
    ``balance * logit(prior)`` added to a logit gives back the odds of this one (prior correction:
    Saerens et al. 2002). Adding a constant to the logit during training instead (logit adjustment,
    Menon et al., ICLR 2021) is, for one sigmoid a label, what starting the output bias at the
    prior does; only where hospitals add constants of their own is it more (``label_odds``).
    """
    shares = torch.tensor(prior, dtype=torch.float64)
    classes = torch.stack([1 - shares, shares])
    return (0.5 / classes).pow(balance).to(torch.float32)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    targets = labels.clamp(min=0).to(logits.dtype)
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def _sum_of_known(each: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    known = (labels >= 0).to(each.dtype)
    if weights is not None:
        known = known * torch.where(labels > 0, weights[1], weights[0])
    return (each * known).sum(dim=1) / each.shape[1]


MULTICLASS = "multiclass"
CLASSES = 3
"""Absent, present, uncertain, in this order: logit 3 l + c is class c of finding l."""
_UNCERTAIN = -2


def multiclass(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:  # noqa: ARG001 - balanced classes are not defined for three
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
    {"asymmetric": asymmetric, "bce": masked_bce, "focal": focal, MULTICLASS: multiclass},
)
"""Losses a learner's ``objective`` option may name."""
