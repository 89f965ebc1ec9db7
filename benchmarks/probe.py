"""Measure probing against the plain work it cannot avoid, in one run on one core.

    python benchmarks/probe.py [--millions 5.4] [--repeats 5] [--json]

The yardstick is 16 plain NumPy int64 dot products over vectors that are already there. Probing also
makes those 16 vectors (AES-256-CTR) and stays in constant memory, so the ratio says what that
costs; the seconds are this machine's alone.
"""

from __future__ import annotations

import os

# Before NumPy loads its BLAS: one thread, whatever the machine has.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ledger.probe import probe_sum, probe_update
from ledger.statement import PROBES, QMAX

BEACON = bytes(range(32))


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median seconds of ``repeats`` runs, after one that is not counted."""
    work()
    found = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return statistics.median(found)


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the largest extra memory of one run, in bytes, as Python's allocators see it."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def measure(size: int, repeats: int) -> dict[str, float]:
    """Return every figure for vectors of ``size`` coordinates."""
    rng = np.random.default_rng(0)
    q = rng.integers(-QMAX, QMAX + 1, size).astype(np.int16)
    total = rng.integers(-(2**45), 2**45, size)
    wide, other = q.astype(np.int64), rng.integers(-32768, 32768, size)
    dots = PROBES * seconds(lambda: np.dot(wide, other), repeats)
    update = seconds(lambda: probe_update(BEACON, q), repeats)
    whole = seconds(lambda: probe_sum(BEACON, total), repeats)
    millions = size / 1e6
    return {
        "parameters": size,
        "int64_dots_s": dots,
        "probe_update_s": update,
        "probe_sum_s": whole,
        "probe_update_ratio": update / dots,
        "probe_sum_ratio": whole / dots,
        "probe_update_ms_per_million": 1e3 * update / millions,
        "probe_sum_ms_per_million": 1e3 * whole / millions,
        "probe_update_peak_mib": peak_bytes(lambda: probe_update(BEACON, q)) / 2**20,
        "probe_sum_peak_mib": peak_bytes(lambda: probe_sum(BEACON, total)) / 2**20,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--millions", type=float, default=5.4, help="coordinates, in millions")
    parser.add_argument("--repeats", type=int, default=5, help="runs whose median is taken")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    found = measure(round(options.millions * 1e6), options.repeats)
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    for name, value in found.items():
        sys.stdout.write(f"{name:<28} {value:>12,.3f}\n")


if __name__ == "__main__":
    main()
