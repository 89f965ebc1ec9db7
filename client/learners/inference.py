"""Scores of a module over many images, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from client.learners.determinism import deterministic
from client.learners.device import ahead, choose, exact, pinned, placed
from client.learners.inputs import standardise
from client.learners.interface import Learner
from ledger.errors import DataError

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


def predict_logits(
    module: nn.Module,
    pixels: NDArray[np.uint8],
    *,
    batch_size: int = 256,
    threads: int = 1,
    progress: Progress | None = None,
    device: torch.device | None = None,
) -> NDArray[np.float32]:
    """Return the network's outputs (N, L), or (N, 3 L) of three classes, for (N, 1, S, S) images.

    The module's training mode is restored. On a GPU (``device``; None: ``device.choose``'s) the
    arithmetic is float32 too, but its last bits are not the processor's.

    Raises:
        DataError: no images, or not 8-bit ones of one channel.
    """
    if len(pixels) == 0 or pixels.dtype != np.uint8 or pixels.ndim != 4:
        raise DataError("scoring takes at least one image, as uint8 (N, 1, S, S)")
    where = device or choose()
    was_training = module.training
    module.eval()
    batches: list[NDArray[np.float32]] = []

    def fetch(start: int) -> Tensor:
        # A copy: maps may be read-only.
        return pinned(torch.from_numpy(np.array(pixels[start : start + batch_size])), where)

    try:
        seeded = deterministic(seed=0, threads=threads, device=where)
        with seeded, placed(module, where), exact(where), torch.inference_mode():
            for chunk in ahead(range(0, len(pixels), batch_size), fetch, where):
                images = standardise(chunk.to(where, non_blocking=True))
                images = images.contiguous(memory_format=torch.channels_last)
                batches.append(module(images).float().cpu().numpy())
                if progress is not None:
                    progress(min(len(batches) * batch_size, len(pixels)), len(pixels))
    finally:
        module.train(was_training)
    return np.concatenate(batches)


def predict(
    module: nn.Module,
    learner: Learner,
    pixels: NDArray[np.uint8],
    *,
    batch_size: int = 256,
    threads: int = 1,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Return probabilities (N, L) in [0, 1] for images (N, 1, S, S).

    A probability is a label's own: findings may coincide.

    Args:
        module: of this learner.
        learner: knows what the module's outputs mean.
        pixels: uint8.
        batch_size: images at once.
        threads: torch threads.
        progress: called with (done, total).

    Raises:
        DataError: as ``predict_logits``.
    """
    logits = predict_logits(
        module, pixels, batch_size=batch_size, threads=threads, progress=progress
    )
    return to_probabilities(learner, logits)


def to_probabilities(learner: Learner, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (N, L) probabilities from a learner's outputs: the sigmoid of its ``scores``."""
    scores = learner.scores(torch.from_numpy(logits))
    return np.asarray(torch.sigmoid(scores).numpy(), dtype=np.float32)
