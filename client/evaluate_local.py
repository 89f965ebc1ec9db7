"""A hospital scores a model on its own held-back patients; only plain numbers come out.

These numbers are a release about those patients. In a private run they do not leave (the round's
allow-list of metrics is then empty) unless they are noised and charged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from client.learners.exchange import load_model
from client.learners.inference import predict_logits, to_probabilities
from client.learners.interface import Learner
from client.learners.metrics import score
from client.learners.registry import from_description
from client.local_tensors import LocalTensors
from ledger.errors import DataError, PolicyViolation
from ledger.manifest import Model

LOCAL_METRICS = ("auc", "average_precision", "images", "labels_scored", "loss")
"""Every name that ``score_held_back`` may give; a round's allow-list picks from them."""


def score_held_back(
    model: Model,
    learner: Learner,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int8],
    *,
    threads: int = 1,
    complete: Callable[[nn.Module], object] | None = None,
) -> dict[str, float]:
    """Score a model; what is not defined (no label with both classes) is left out.

    Args:
        model: exactly what the learner shares.
        learner: its family.
        pixels: (N, 1, S, S) of the held-back patients.
        labels: (N, L) of 1, 0, -1 and -2 (which counts for nothing).
        threads: torch threads, part of what a result depends on.
        complete: puts into the module what this hospital keeps of the model for itself.

    Returns:
        finite floats, named in ``LOCAL_METRICS``: macro AUC and average precision over
        ``labels_scored`` labels, mean loss, and the number of images.

    Raises:
        DataError: no images, or arrays that do not fit the learner.
        SpecMismatch: the model is not this learner's.
    """
    if len(pixels) == 0:
        raise DataError("there is nothing to score on: no held-back images")
    module = learner.build(0)
    load_model(module, model, learner.shared(module))
    if complete is not None:
        complete(module)
    logits = predict_logits(module, pixels, threads=threads)
    scores = score(
        to_probabilities(learner, logits), labels, [str(n) for n in range(learner.labels)]
    )
    loss = learner.loss(torch.from_numpy(logits), torch.from_numpy(labels)).mean()
    found = {
        "auc": scores.macro_auc,
        "average_precision": scores.macro_average_precision,
        "images": float(scores.images),
        "labels_scored": float(scores.scored),
        "loss": float(loss),
    }
    return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class LocalEvaluator:
    """The evaluator that a hospital injects into its agent: its held-back patients, as arrays.

    Args:
        pixels: (N, 1, S, S) uint8.
        labels: (N, L) int8 of 1, 0 and -1.
        threads: torch threads.
        local: where tensors that stay here are kept.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    labels: NDArray[np.int8] = field(repr=False)
    threads: int = 1
    local: LocalTensors | None = None

    def __call__(self, model: Model, config: dict[str, object], /) -> dict[str, float]:
        """Score under the learner that the round's configuration names.

        Nothing is scored where the round asks for none of it: in a private run, and in a phase
        after which the findings mean nothing yet.

        Raises:
            PolicyViolation: the configuration names no learner.
            ConfigError: the learner is unknown or an option is out of range.
            DataError: the held-back images do not fit it.
            SpecMismatch: the model is not that learner's.
        """
        asked = config.get("metrics")
        if isinstance(asked, list) and not set(asked) & set(LOCAL_METRICS):
            return {}
        description = config.get("learner")
        if not isinstance(description, dict):
            raise PolicyViolation("the round's configuration names no learner")
        learner = from_description(description)
        complete = None
        if self.local is not None and learner.local:
            number = int(str(config.get("round", 0)))
            complete = partial(_restore, self.local, learner, number)
        return score_held_back(
            model, learner, self.pixels, self.labels, threads=self.threads, complete=complete
        )


def _restore(local: LocalTensors, learner: Learner, number: int, module: nn.Module) -> None:
    local.restore(learner, module, number)
