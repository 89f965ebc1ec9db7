"""One hospital's prepared data: pixels and labels to train on and to hold back, in one file.

An uncompressed ``.npz`` of plain arrays, read without pickle and checked against each other. It
holds radiographs, so it lies in the hospital's home, mode 0600, and never leaves. How they were
prepared lies in the same file, so that the two cannot come apart.
"""

from __future__ import annotations

import math
import struct
import zipfile
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client.data_terms import DataTerms
from ledger.errors import DataError
from ledger.files import atomic_stream

PIXELS: Final = ("train_pixels", "held_pixels")
"""The arrays that stay in the file: a hospital's films may be larger than its memory."""
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Arrays of one hospital; patients of ``train_*`` and ``held_*`` are disjoint.

    Attributes:
        train_pixels: (N, 1, S, S) uint8.
        train_labels: (N, L) int8 of 1, 0, -1 (unknown) and -2 (uncertain).
        train_patients: (N,) int64: images of one number are of one patient.
        held_pixels: (M, 1, S, S) uint8.
        held_labels: (M, L) int8.
        held_patients: (M,) int64.
        terms: how they were prepared and what the L labels are; None if that is not known.

    Raises:
        DataError: a dtype, shape or value is wrong, a patient is on both sides, or the arrays
            are not what the terms say.
    """

    train_pixels: NDArray[np.uint8] = field(repr=False)
    train_labels: NDArray[np.int8] = field(repr=False)
    train_patients: NDArray[np.int64] = field(repr=False)
    held_pixels: NDArray[np.uint8] = field(repr=False)
    held_labels: NDArray[np.int8] = field(repr=False)
    held_patients: NDArray[np.int64] = field(repr=False)
    terms: DataTerms | None = None

    def __post_init__(self) -> None:
        """Check the arrays against each other."""
        for side in ("train", "held"):
            pixels, labels, patients = (
                getattr(self, f"{side}_{name}") for name in ("pixels", "labels", "patients")
            )
            if (pixels.dtype, labels.dtype, patients.dtype) != (np.uint8, np.int8, np.int64):
                raise DataError(f"the {side} arrays are not uint8, int8 and int64")
            if pixels.ndim != 4 or labels.ndim != 2 or patients.ndim != 1:
                raise DataError(f"the {side} arrays have the wrong number of dimensions")
            if not len(pixels) == len(labels) == len(patients):
                raise DataError(f"the {side} arrays differ in length")
            if not np.isin(labels, (-2, -1, 0, 1)).all():
                raise DataError(f"a {side} label is not 1, 0, -1 or -2")
            if self.terms is not None and labels.shape[1] != len(self.terms.findings):
                raise DataError(f"the {side} labels are not of {len(self.terms.findings)} findings")
        if not len(self.train_pixels):
            raise DataError("a hospital has nothing to train on")
        if np.intersect1d(self.train_patients, self.held_patients).size:
            raise DataError("a patient is both trained on and held back")


def write_shard(path: Path, shard: Shard) -> None:
    """Write a shard durably, readable by its owner only.

    Raises:
        OutputError: it cannot be written.
    """
    arrays: dict[str, Any] = {item.name: getattr(shard, item.name) for item in fields(Shard)}
    said = b"" if shard.terms is None else shard.terms.to_bytes()
    with atomic_stream(path, mode=0o600) as stream:
        np.savez(stream, **{**arrays, "terms": np.frombuffer(said, dtype=np.uint8)})


def read_shard(path: Path) -> Shard:
    """Read a shard back; its pixels stay in the file, mapped, and are read as they are used.

    Raises:
        DataError: it is missing, cannot be read, or its arrays do not fit together.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            names = [item.name for item in fields(Shard)]
            if set(found.files) != set(names):
                raise DataError(f"{path.name} does not hold the arrays of a hospital")
            small = [name for name in names if name not in (*PIXELS, "terms")]
            arrays = {name: found[name] for name in small}
            terms = DataTerms.from_bytes(found["terms"].tobytes())
        arrays |= {name: _mapped(path, name) for name in PIXELS}
        return Shard(**arrays, terms=terms)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"the hospital's data {path.name} cannot be read: {error}") from None


def _mapped(path: Path, name: str) -> NDArray[np.uint8]:
    """Map an array that lies uncompressed in an ``.npz``, once its checksum has been found right.

    Mapped copy-on-write: what is written to it never reaches the file.

    Raises:
        ValueError, BadZipFile: it is compressed, damaged, holds objects, or is no array.
    """
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{name}.npy")
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed")
        with archive.open(info) as member:
            while member.read(_CHUNK):  # reading to the end compares the checksum
                pass
    with path.open("rb") as stream:
        stream.seek(info.header_offset + 26)  # the local header's two lengths, at bytes 26 and 28
        lengths = struct.unpack("<HH", stream.read(4))
        stream.seek(info.header_offset + 30 + sum(lengths))
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError(f"{name} is not a plain array")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        offset = stream.tell()
    if fortran or dtype != np.uint8:
        raise ValueError(f"{name} is not uint8 in C order")
    if not math.prod(shape):
        return np.empty(shape, dtype=np.uint8)
    return np.asarray(np.memmap(path, dtype=dtype, mode="c", offset=offset, shape=shape))
