"""Preprocessed pixels on disk: built once, memory-mapped ever after.

    CACHE/<key>/pixels.npy     (N, 1, size, size) uint8, NumPy's own format
    CACHE/<key>/about.json     shape, digests of cohort, configuration and image files
    CACHE/<key>.lock           held by the one process that builds

The key digests the cohort, the preprocessing configuration and the name, length and time of
change of every image file, so an edited image or another setting is another entry. An entry is
built in a folder of its own and renamed when it is whole: after a crash there is an entry or
there is none, and a second process waits, then reads.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from client.data.records import Cohort
from ledger.canonical import canonical_json, parse_json, tagged_digest
from ledger.errors import CodecError, DataError, LedgerError, OutputError, StoreError
from ledger.files import atomic_write, read_bounded, sync_folder

Fill = Callable[[NDArray[np.uint8]], bytes]
"""Fills the array it is given, and returns the 32-byte digest of the image files it read."""

_MAX_ABOUT = 1 << 16


def cache_key(cohort: Cohort, config: dict[str, object]) -> str:
    """Return the entry's name, 64 hexadecimal digits.

    Raises:
        DataError: an image file is missing.
    """
    state = hashlib.sha256()
    for record in cohort.records:
        try:
            stat = record.image.stat()
        except OSError as error:
            raise DataError(f"image {record.image_id} cannot be read ({error.strerror})") from None
        state.update(f"{stat.st_size}:{stat.st_mtime_ns};".encode())
    return tagged_digest(
        "thoracle/pixel-cache/v1", cohort.digest(), canonical_json(config), state.digest()
    ).hex()


def cached(
    folder: Path, cohort: Cohort, config: dict[str, object], side: int, fill: Fill
) -> NDArray[np.uint8]:
    """Return the cohort's pixels, building the entry with ``fill`` where there is none.

    Args:
        folder: the cache; made if missing.
        cohort: whose images the entry holds.
        config: the preprocessing configuration (JSON values).
        side: pixels a side.
        fill: reads and preprocesses every image into an (N, 1, side, side) array.

    Returns:
        (N, 1, side, side) uint8, mapped copy-on-write: writing to it never changes the file.

    Raises:
        DataError: an image is missing or unreadable.
        OutputError: the cache cannot be written.
    """
    shape = (len(cohort), 1, side, side)
    entry = folder / cache_key(cohort, config)
    found = _open(entry, shape)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(entry.with_suffix(".lock")):
            found = _open(entry, shape)  # another process may have built it while we waited
            if found is None:
                _build(entry, cohort, config, shape, fill)
                found = _open(entry, shape)
    except OSError as error:
        raise OutputError(f"the cache {folder} cannot be written ({error})") from None
    if found is None:
        raise OutputError(f"the cache entry {entry} cannot be read back")
    return found


def describe(folder: Path, cohort: Cohort, config: dict[str, object]) -> dict[str, object]:
    """Return what an entry's about.json says (its digests and shape).

    Raises:
        DataError: there is no such entry, or its description is damaged.
    """
    entry = folder / cache_key(cohort, config)
    try:
        value = parse_json(read_bounded(entry / "about.json", _MAX_ABOUT), _MAX_ABOUT)
    except (CodecError, StoreError, LedgerError) as error:
        raise DataError(f"the cache has no such entry ({error})") from None
    if not isinstance(value, dict):
        raise DataError(f"{entry / 'about.json'} is damaged")
    return value


def _open(entry: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """Map an entry, or return None where there is none or it is not what it should be."""
    try:
        if 0 in shape:
            return np.empty(shape, dtype=np.uint8)
        pixels = np.load(entry / "pixels.npy", mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError):
        return None
    return pixels if pixels.shape == shape and pixels.dtype == np.uint8 else None


def _build(
    entry: Path,
    cohort: Cohort,
    config: dict[str, object],
    shape: tuple[int, ...],
    fill: Fill,
) -> None:
    for stale in entry.parent.glob(f".{entry.name}-*"):  # the lock is ours: its maker died
        shutil.rmtree(stale, ignore_errors=True)
    shutil.rmtree(entry, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=entry.parent))
    try:
        pixels = np.lib.format.open_memmap(
            draft / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape
        )
        files = fill(pixels)
        pixels.flush()
        del pixels
        _sync(draft / "pixels.npy")
        about = {
            "format": "thoracle/pixel-cache/v1",
            "shape": list(shape),
            "config": config,
            "cohort_digest": cohort.digest().hex(),
            "files_digest": files.hex(),
        }
        atomic_write(draft / "about.json", canonical_json(about) + b"\n")
        draft.replace(entry)
        sync_folder(entry.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
