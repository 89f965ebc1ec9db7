"""Bit-for-bit repeatable arithmetic, for as long as a block runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def deterministic(
    *, seed: int, threads: int = 1, device: torch.device | None = None
) -> Iterator[None]:
    """Pin threads, algorithms and torch's default generators; restore them all afterwards.

    Sums over several threads depend on how many there are, so results are equal only for equal
    ``threads`` (and the same machine and torch build).

    Args:
        seed: of the default generators.
        threads: of the processor.
        device: where the block computes; None is the processor. On a GPU only the seed is fixed,
            not the order of sums: the same bits are not promised there.
    """
    on_gpu = device is not None and device.type == "cuda"
    algorithms = torch.get_deterministic_debug_mode()
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        try:
            torch.set_num_threads(threads)
            # As use_deterministic_algorithms, which brings the whole compiler along (seconds).
            torch.set_deterministic_debug_mode("default" if on_gpu else "error")
            torch.manual_seed(seed)
            yield
        finally:
            torch.set_deterministic_debug_mode(algorithms)
            torch.set_num_threads(before)
