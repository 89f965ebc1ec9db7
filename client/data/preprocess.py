"""From image files to the (N, 1, size, size) bytes a learner reads.

Shrinking averages pixels (OpenCV's INTER_AREA), enlarging interpolates: the square is filled
whatever the image's own proportions, as the NIH release itself was made.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from client.data.cache import cached
from client.data.check import Progress
from client.data.decode import decode
from client.data.images import Grey, read_bytes
from client.data.records import Cohort
from ledger.errors import ConfigError

MIN_SIZE, MAX_SIZE = 8, 2048
_BLOCK = 256
"""Images in flight at once: bounds memory whatever the cohort's size."""


def resize(pixels: Grey, size: int) -> Grey:
    """Return (size, size) uint8 from (H, W) uint8."""
    if pixels.shape == (size, size):
        return pixels
    shrinks = min(pixels.shape) >= size
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (size, size), interpolation=how), dtype=np.uint8)


def load_pixels(
    cohort: Cohort,
    size: int,
    cache: Path | None = None,
    progress: Progress | None = None,
    workers: int = 2,
) -> NDArray[np.uint8]:
    """Return (N, 1, size, size) uint8, image ``i`` being record ``i``.

    Args:
        cohort: whose images to read.
        size: side in pixels, 8 to 2048.
        cache: folder of memory-mapped results; None reads every image into memory.
        progress: called with (done, total).
        workers: decoding threads.

    Raises:
        ConfigError: the size is out of range.
        DataError: an image is missing or unreadable (named); nothing is dropped.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ConfigError(f"the image size must be {MIN_SIZE} to {MAX_SIZE}, not {size}")

    def fill(out: NDArray[np.uint8]) -> bytes:
        return fill_pixels(cohort, out, progress, workers)

    if cache is not None:
        return cached(cache, cohort, {"size": size}, size, fill)
    pixels = np.empty((len(cohort), 1, size, size), dtype=np.uint8)
    fill(pixels)
    return pixels


def fill_pixels(
    cohort: Cohort, out: NDArray[np.uint8], progress: Progress | None, workers: int
) -> bytes:
    """Read every image of the cohort into ``out`` (N, 1, size, size), in blocks.

    Returns:
        the 32-byte digest over the SHA-256 of every image file, in the cohort's order.
    """
    size = out.shape[-1]
    paths = [record.image for record in cohort.records]
    files = sha256()

    def one(index: int) -> bytes:
        data = read_bytes(paths[index])
        out[index, 0] = resize(decode(data, paths[index].name), size)
        return sha256(data).digest()

    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(paths), _BLOCK):
            stop = min(start + _BLOCK, len(paths))
            for digest in pool.map(one, range(start, stop)):
                files.update(digest)
            if progress is not None:
                progress(stop, len(paths))
    return files.digest()


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
