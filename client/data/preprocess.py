"""From image files to the (N, 1, size, size) bytes a learner reads, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.data.cache import cached
from client.data.check import Progress
from client.data.images import Grey, place, read_bytes
from client.data.pipeline import Preprocessing, process
from client.data.records import Cohort
from ledger.errors import ConfigError

WORKERS = 2
_BLOCK = 256
"""Images in flight at once: bounds memory whatever the cohort's size."""


def load_pixels(
    cohort: Cohort,
    size: int,
    cache: Path | None = None,
    progress: Progress | None = None,
    *,
    plan: Preprocessing | None = None,
) -> NDArray[np.uint8]:
    """Return (N, 1, size, size) uint8, image ``i`` being record ``i``.

    Args:
        cohort: whose images to read.
        size: side in pixels, 8 to 2048.
        cache: folder of memory-mapped results; None reads every image into memory.
        progress: called with (done, total).
        plan: other preprocessing than the default; its own size must be ``size``.

    Raises:
        ConfigError: the size is out of range, or not the plan's.
        DataError: an image is missing or unreadable (named); nothing is dropped.
    """
    plan = Preprocessing(size=size) if plan is None else plan
    if plan.size != size:
        raise ConfigError(f"the preprocessing plan is for {plan.size} pixels, not {size}")

    def fill(out: NDArray[np.uint8]) -> bytes:
        files = sha256()
        for index, (film, digest) in enumerate(process_all(cohort, plan, progress)):
            out[index, 0] = film
            files.update(digest)
        return files.digest()

    if cache is not None:
        return cached(cache, cohort, plan.config(), size, fill)
    pixels = np.empty((len(cohort), 1, size, size), dtype=np.uint8)
    fill(pixels)
    return pixels


def process_all(
    cohort: Cohort, plan: Preprocessing, progress: Progress | None = None
) -> Iterator[tuple[Grey, bytes]]:
    """Yield (film, SHA-256 of its file) of every record in order, decoding in parallel.

    Raises:
        DataError: an image is missing or unreadable (named).
    """
    paths = [record.image for record in cohort.records]

    def one(path: Path) -> tuple[Grey, bytes]:
        data = read_bytes(path)
        return process(data, place(path), plan), sha256(data).digest()

    with ThreadPoolExecutor(WORKERS) as pool:
        for start in range(0, len(paths), _BLOCK):
            block = paths[start : start + _BLOCK]
            yield from pool.map(one, block)
            if progress is not None:
                progress(start + len(block), len(paths))


def normalise(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Give each image zero mean and unit variance (a blank image becomes zeros).

    Args:
        pixels: (..., H, W) uint8.

    Returns:
        the same shape, float32.
    """
    wide = pixels.astype(np.float32)
    wide -= wide.mean(axis=(-2, -1), keepdims=True)
    spread = wide.std(axis=(-2, -1), keepdims=True)
    return np.asarray(wide / np.maximum(spread, 1e-6), dtype=np.float32)
