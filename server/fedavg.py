"""The weighted sum of quantised updates, in exact integers (McMahan et al. 2017, AISTATS).

Flower's own FedAvg averages in float32 in the order replies arrive, so the same updates give
different models. Here ``S = sum_i w_i q_i`` is exact in int64, so order cannot matter; the one
rounding happens afterwards, in ``ledger.quantise.apply_sum``, identically at every hospital.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ledger.errors import WeightOverflow
from ledger.quantise import MAX_TOTAL_WEIGHT

CHUNK = 1 << 18
"""Coordinates widened to int64 at a time: 2 MiB of extra memory whatever the model's size."""


def weighted_sum(
    updates: Iterable[tuple[int, NDArray[np.int16]]], size: int
) -> tuple[NDArray[np.int64], int]:
    """Return ``(S, W)``: the exact weighted sum and the total weight.

    Args:
        updates: pairs of a hospital's effective weight (1 to 2^24 - 1) and its update, an int16
            vector of length ``size``; consumed one at a time, so the caller may stream them.
        size: the model's number of coordinates, d.

    Returns:
        S, an int64 vector of length d (|S_c| <= 32767 W, so int64 cannot overflow while W is
        within ``MAX_TOTAL_WEIGHT``), and W. Nothing to add gives zeros and 0.

    Raises:
        WeightOverflow: a weight is not positive, or the total is over ``MAX_TOTAL_WEIGHT``.
        ValueError: an update is not an int16 vector of length d (a caller's mistake: admission
            has already checked what hospitals sent).
    """
    total = np.zeros(size, dtype=np.int64)
    weights = 0
    for weight, update in updates:
        if update.dtype != np.int16 or update.shape != (size,):
            raise ValueError(f"an update must be int16 of length {size}, not {update.dtype}")
        weights += weight
        if weight <= 0 or weights > MAX_TOTAL_WEIGHT:
            raise WeightOverflow(
                f"a weight of {weight} takes the total to {weights}, over {MAX_TOTAL_WEIGHT}",
                weight=weights,
                max=MAX_TOTAL_WEIGHT,
            )
        for start in range(0, size, CHUNK):
            part = update[start : start + CHUNK].astype(np.int64)
            total[start : start + CHUNK] += part * weight
    return total, weights
