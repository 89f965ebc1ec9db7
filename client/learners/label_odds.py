"""A hospital's own label odds, taken out of what it teaches (logit adjustment).

Where findings are rare at one hospital and frequent at another, each teaches the network odds of
its own, and the average is of models that pull apart: most of the difference is how often, not
what. Here each finding's logit z is trained as ``z + weight * (logit(own share) - logit(prior))``,
so that z itself are the odds under the prior, the same wherever an image comes from (Menon et al.,
ICLR 2021; in federations: Zhang et al., ICML 2022). Nothing is added when a model is used. That
holds for cross-entropy, whose best logits are the odds: under a focal or an asymmetric loss they
are flatter, and taking the whole odds out would turn the difference round.

The shares are counts over a hospital's private labels. They stay in its process, but what it sends
depends on them outside of any patient's clipped term, so private rounds refuse this.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.learners.interface import Learner
from client.learners.phase import Phase
from ledger.errors import ConfigError

_LOSS: Final = "bce"
_PSEUDO: Final = 2.0
"""Images, of the prior's shares, that each hospital's count begins with: a finding that it has
never seen then has low odds instead of none."""


def own_odds(labels: NDArray[np.int8], prior: tuple[float, ...], weight: float) -> Tensor:
    """Return what is added to the logits while training on these labels, (L,) float32.

    Args:
        labels: (N, L) of 1, 0, -1 and -2; the last two are not counted.
        prior: share of positives of each label that the scores are to be of, within (0, 1).
        weight: how much of the difference is taken out, [0, 1].
    """
    shares = np.asarray(prior, dtype=np.float64)
    present = (labels == 1).sum(axis=0) + _PSEUDO * shares
    absent = (labels == 0).sum(axis=0) + _PSEUDO * (1 - shares)
    shift = np.log(present / absent) - np.log(shares / (1 - shares))
    return torch.from_numpy((weight * shift).astype(np.float32))


def odds_for(
    learner: Learner, phase: Phase, labels: NDArray[np.int8], weight: float
) -> Tensor | None:
    """Return what a phase adds to the logits of these labels' images; None where it adds nothing.

    Raises:
        ConfigError: see ``check_adjustable``.
    """
    if not weight:
        return None
    check_adjustable(learner, phase)
    return own_odds(labels, learner.prior, weight) if phase.adjusted else None


def check_adjustable(learner: Learner, phase: Phase) -> None:
    """Refuse to adjust the logits of what does not know of it.

    Raises:
        ConfigError: the learner has no prior or another loss than cross-entropy, or the phase tells
            findings by a loss of its own that takes no odds.
    """
    if not learner.prior:
        raise ConfigError(
            f"learner {learner.name}: logit_adjustment needs the prior of its"
            f" {learner.labels} labels"
        )
    if learner.objective != _LOSS:
        raise ConfigError(
            f"learner {learner.name}: logit_adjustment is for the objective {_LOSS}, whose logits"
            f" are odds, not for {learner.objective}"
        )
    if phase.scored and not phase.adjusted:
        raise ConfigError(f"learner {learner.name}: its phase {phase.name} adjusts no logits")
