"""Scores of a module over many images, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from client.learners.determinism import deterministic
from client.learners.inputs import standardise

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


def predict(
    module: nn.Module,
    pixels: NDArray[np.uint8],
    *,
    batch_size: int = 256,
    threads: int = 1,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Return probabilities (N, L) in [0, 1] for images (N, 1, S, S).

    The module's training mode is restored. A probability is a label's own (sigmoid), findings
    may coincide.
    """
    was_training = module.training
    module.eval()
    batches: list[NDArray[np.float32]] = []
    try:
        with deterministic(seed=0, threads=threads), torch.inference_mode():
            for start in range(0, len(pixels), batch_size):
                chunk = torch.from_numpy(np.ascontiguousarray(pixels[start : start + batch_size]))
                batches.append(torch.sigmoid(module(standardise(chunk))).numpy())
                if progress is not None:
                    progress(min(start + batch_size, len(pixels)), len(pixels))
    finally:
        module.train(was_training)
    if not batches:
        return np.zeros((0, 0), dtype=np.float32)
    return np.concatenate(batches)
