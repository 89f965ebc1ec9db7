"""What an uncertain label becomes: the policies of the CheXpert paper, and label smoothing.

    ignore       U-Ignore: masked out of loss and metrics                     (hard labels)
    zeros, ones  U-Zeros, U-Ones: taken as absent, as present                 (hard labels)
    multiclass   U-MultiClass: a class of its own beside absent and present   (classes)
    selftrained  U-SelfTrained: the probability of a model trained by U-Ignore (soft labels)
    smooth-ones, smooth-zeros   U-Ones + LSR, U-Zeros + LSR: a random soft label near one side
                 (Pham et al. 2019, arXiv:1911.06475)                         (soft labels)

Sources: Irvin et al., AAAI 2019, arXiv:1901.07031, section 3.

Learners take hard labels. A soft label t becomes one by a draw of Bernoulli(t) (``harden``): the
binary cross-entropy is linear in its target, so the draw's expected loss and gradient are those
of t itself. ``resolve`` does so for the smoothing policies. U-SelfTrained needs a model's
probabilities first (``relabel``), and U-MultiClass a learner with three classes a finding
(``classes``); until then both leave UNCERTAIN in the cohort, which losses mask.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from client.data.records import ABSENT, PRESENT, UNCERTAIN, UNKNOWN, Cohort
from ledger.errors import ConfigError


class Policy(StrEnum):
    """The name of a policy, as configurations write it."""

    IGNORE = "ignore"
    ZEROS = "zeros"
    ONES = "ones"
    MULTICLASS = "multiclass"
    SELFTRAINED = "selftrained"
    SMOOTH_ONES = "smooth-ones"
    SMOOTH_ZEROS = "smooth-zeros"

    @classmethod
    def _missing_(cls, value: object) -> Policy:
        raise ConfigError(f"unknown uncertainty policy {value!r}: use {', '.join(cls)}")


_HARD = {Policy.IGNORE: UNKNOWN, Policy.ZEROS: ABSENT, Policy.ONES: PRESENT}
_SMOOTH = {Policy.SMOOTH_ONES: (0.55, 0.85), Policy.SMOOTH_ZEROS: (0.0, 0.30)}
"""Ranges of the uniform draw, as Pham et al. chose them."""

UNCERTAIN_CLASS = 2


@dataclass(frozen=True)
class SoftLabels:
    """Targets for a loss that takes probabilities.

    Attributes:
        targets: (N, L) float32 in [0, 1]; meaningless where ``known`` is False.
        known: (N, L) bool; False is masked.
    """

    targets: NDArray[np.float32]
    known: NDArray[np.bool_]


def resolve(cohort: Cohort, policy: Policy, seed: int = 0) -> Cohort:
    """Replace UNCERTAIN by the policy's hard label; MULTICLASS and SELFTRAINED leave it.

    Args:
        cohort: the records.
        policy: the policy.
        seed: fixes the draws of the smoothing policies.
    """
    if policy in _SMOOTH:
        labels = cohort.label_matrix()
        return _with_labels(cohort, harden(soft_labels(labels, policy, seed=seed), seed))
    if policy not in _HARD:
        return cohort
    value = _HARD[policy]
    records = tuple(
        replace(r, labels=tuple(value if label == UNCERTAIN else label for label in r.labels))
        if UNCERTAIN in r.labels
        else r
        for r in cohort.records
    )
    return replace(cohort, records=records)


def soft_labels(
    labels: NDArray[np.int8],
    policy: Policy,
    *,
    seed: int = 0,
    probabilities: NDArray[np.floating] | None = None,
) -> SoftLabels:
    """Return the targets and mask of a policy.

    Args:
        labels: (N, L) in {1, 0, -1, -2}.
        policy: any but MULTICLASS.
        seed: fixes the draws of the smoothing policies.
        probabilities: (N, L) of a model trained by U-Ignore; SELFTRAINED needs them.

    Raises:
        ConfigError: MULTICLASS has classes, not soft labels, or SELFTRAINED has no (N, L)
            probabilities in [0, 1].
    """
    if policy is Policy.MULTICLASS:
        raise ConfigError("the policy multiclass has three classes; use classes()")
    targets = (labels == PRESENT).astype(np.float32)
    uncertain = labels == UNCERTAIN
    known = labels != UNKNOWN
    if policy is Policy.IGNORE:
        known = known & ~uncertain
    elif policy in _SMOOTH:
        low, high = _SMOOTH[policy]
        drawn = np.random.default_rng(seed).uniform(low, high, labels.shape)
        targets[uncertain] = drawn[uncertain]
    elif policy is Policy.SELFTRAINED:
        if probabilities is None or probabilities.shape != labels.shape:
            raise ConfigError("the policy selftrained needs a model's probabilities, (N, L)")
        if not np.all((probabilities >= 0) & (probabilities <= 1)):
            raise ConfigError("the policy selftrained needs probabilities within 0 and 1")
        targets[uncertain] = probabilities[uncertain]
    else:
        targets[uncertain] = float(_HARD[policy])
    return SoftLabels(targets=targets, known=known)


def harden(soft: SoftLabels, seed: int) -> NDArray[np.int8]:
    """Return (N, L) hard labels drawn from soft ones, -1 where masked.

    A target of 0 or 1 is kept as it is; in between, each label is one draw.
    """
    drawn = np.random.default_rng([seed, 1]).random(soft.targets.shape) < soft.targets
    labels = np.where(drawn, PRESENT, ABSENT)
    return np.where(soft.known, labels, UNKNOWN).astype(np.int8)


def relabel(cohort: Cohort, probabilities: NDArray[np.floating], seed: int = 0) -> Cohort:
    """Return the cohort of U-SelfTrained: uncertain labels drawn from a model's probabilities.

    Args:
        cohort: loaded with the policy "selftrained".
        probabilities: (N, L) of a model trained by U-Ignore, in the cohort's order.
        seed: fixes the draws.

    Raises:
        ConfigError: the probabilities are not (N, L) within 0 and 1.
    """
    soft = soft_labels(cohort.label_matrix(), Policy.SELFTRAINED, probabilities=probabilities)
    return _with_labels(cohort, harden(soft, seed))


def _with_labels(cohort: Cohort, labels: NDArray[np.int8]) -> Cohort:
    rows = (tuple(int(label) for label in row) for row in labels)
    records = tuple(
        replace(record, labels=row) for record, row in zip(cohort.records, rows, strict=True)
    )
    return replace(cohort, records=records)


def classes(labels: NDArray[np.int8]) -> NDArray[np.int64]:
    """Return (N, L) classes of U-MultiClass: 0 absent, 1 present, 2 uncertain, -1 masked."""
    out = labels.astype(np.int64)
    out[labels == UNCERTAIN] = UNCERTAIN_CLASS
    return out


def positive_probability(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (N, L) P(present) of (N, L, 3) class logits of U-MultiClass.

    The softmax is over absent and present only, as the paper does for evaluation.
    """
    gap = logits[..., PRESENT].astype(np.float64) - logits[..., ABSENT].astype(np.float64)
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(gap, -500, 500))))
