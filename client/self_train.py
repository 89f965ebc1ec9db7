"""U-SelfTrained: a hospital replaces its own uncertain labels by what its own model makes of them.

Irvin et al. 2019, section 3: a model is trained by U-Ignore, and its probabilities take the place
of the uncertain labels. Here the model is trained on this hospital's images alone, in its own
process; neither the model nor a label leaves. A probability becomes one draw (see
``client.data.uncertainty.harden``), because learners take hard labels.

A patient's new label depends on the other patients of the hospital. Differential privacy by
patients does not cover that, so private rounds must not be trained on such labels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from client.data.records import UNCERTAIN, UNKNOWN
from client.data.uncertainty import Policy, harden, soft_labels
from client.learners.inference import predict
from client.learners.interface import Learner
from client.train import Progress, TrainPlan, train
from ledger.errors import ConfigError


def self_train(
    learner: Learner,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int8],
    plan: TrainPlan,
    *,
    seed: int,
    progress: Progress | None = None,
) -> NDArray[np.int8]:
    """Return the labels with every uncertain one drawn from the hospital's own model.

    Args:
        learner: the family to train; its objective must be binary.
        pixels: (N, 1, S, S) of this hospital.
        labels: (N, L) of 1, 0, -1 and -2.
        plan: how long to train.
        seed: of the initial weights, the training and the draws.
        progress: told about every step.

    Raises:
        ConfigError: the learner has a class of its own for uncertain labels.
        DataError: there are no images, or they do not fit the learner.
    """
    if learner.outputs != learner.labels:
        raise ConfigError("selftrained labels need a learner without a class for uncertain ones")
    uncertain = labels == UNCERTAIN
    if not uncertain.any():
        return labels
    module = learner.build(seed)
    certain = np.where(uncertain, UNKNOWN, labels).astype(np.int8)
    train(module, learner, pixels, certain, plan, seed=seed, progress=progress)
    rows = np.flatnonzero(uncertain.any(axis=1))
    probabilities = np.zeros(labels.shape, dtype=np.float32)
    probabilities[rows] = predict(module, learner, pixels[rows], threads=plan.threads)
    soft = soft_labels(labels, Policy.SELFTRAINED, probabilities=probabilities)
    return harden(soft, seed)


def local_plan(plan: TrainPlan, epochs: int) -> TrainPlan:
    """Return the federation's plan as one training of its own, of so many epochs.

    Its probabilities are to be those of this hospital, so its label odds stay in.
    """
    return replace(plan, epochs=epochs, parts=1, logit_adjustment=0.0, span=(0.0, 1.0), turn=0)
