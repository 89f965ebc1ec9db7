"""The tensor file: one canonical subset of safetensors, decoded against what is expected.

A reader knows the manifest, so it knows every byte of the header it must find; anything else is
refused, and only then is the header parsed, to name what is wrong. No length that a file declares
is ever allocated. There is no pickle and no compression. Format: https://github.com/huggingface/
safetensors; the canonical subset is byte for byte what that library writes (``docs/wire.md``).
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ledger.canonical import parse_json
from ledger.errors import (
    MalformedUpdate,
    NonCanonicalUpdate,
    NonFiniteUpdate,
    OversizeUpdate,
    SpecMismatch,
)

Dtype = Literal["F32", "I16", "I64"]
Vector = NDArray[np.float32] | NDArray[np.int16] | NDArray[np.int64]

DTYPES: dict[str, np.dtype[np.float32] | np.dtype[np.int16] | np.dtype[np.int64]] = {
    "F32": np.dtype("<f4"),
    "I16": np.dtype("<i2"),
    "I64": np.dtype("<i8"),
}
MAX_TENSORS = 4096
MAX_DIMENSIONS = 8
MAX_SIZE = 1 << 28
"""Coordinates of a model: keeps every probe an int64 with room to spare."""

# safetensors keeps "__metadata__" for itself; no tensor may be called so.
_NAME = re.compile(r"(?!__metadata__$)[A-Za-z0-9_.\-/]{1,200}")
_PICKLE = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """Name, shape and dtype of one tensor.

    Raises:
        SpecMismatch: a name or shape that the format does not allow.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Dtype = "F32"

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise SpecMismatch(f"{str(self.name)[:80]!r} cannot name a tensor")
        if self.dtype not in DTYPES:
            raise SpecMismatch(f"tensor {self.name} has the unknown dtype {str(self.dtype)[:20]!r}")
        if not isinstance(self.shape, tuple) or len(self.shape) > MAX_DIMENSIONS:
            raise SpecMismatch(f"tensor {self.name} has more than {MAX_DIMENSIONS} dimensions")
        for length in self.shape:
            if isinstance(length, bool) or not isinstance(length, int) or length < 1:
                raise SpecMismatch(f"tensor {self.name} has a dimension of {str(length)[:20]}")
        if self.size > MAX_SIZE:
            raise SpecMismatch(f"tensor {self.name} has over {MAX_SIZE} coordinates")

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return math.prod(self.shape)


def header(specs: tuple[TensorSpec, ...], dtype: Dtype) -> bytes:
    """Return the canonical JSON header, padded by spaces to a multiple of 8 bytes."""
    width, begin = DTYPES[dtype].itemsize, 0
    entries: dict[str, object] = {}
    for spec in specs:
        end = begin + spec.size * width
        entries[spec.name] = {
            "dtype": dtype,
            "shape": list(spec.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(entries, separators=(",", ":")).encode("ascii")
    # safetensors aligns the data to 8 bytes this way; it is the only whitespace there is.
    return text + b" " * (-len(text) % 8)


def encode(specs: tuple[TensorSpec, ...], vector: Vector, dtype: Dtype) -> bytes:
    """Return the canonical file: header length (8 bytes, little-endian), header, data."""
    head = header(specs, dtype)
    data = np.ascontiguousarray(vector, dtype=DTYPES[dtype]).tobytes()
    return b"".join((len(head).to_bytes(8, "little"), head, data))


def _bounds(expected: bytes, body: int) -> tuple[int, int]:
    """Return the largest header and the largest file that are looked at, in bytes.

    The slack is only there to tell a wrong dtype or one tensor too many (SpecMismatch) from a
    flood (OversizeUpdate): nothing is allocated from either.
    """
    largest = 2 * len(expected) + 4096
    return largest, 8 + largest + 4 * body + 65536


def _split(data: bytes, expected: bytes, body: int) -> tuple[bytes, int]:
    """Return the header and where the data begins, lengths checked."""
    largest, total = _bounds(expected, body)
    if len(data) > total:
        raise OversizeUpdate(f"a file of {len(data)} bytes is over the bound of {total}")
    if len(data) < 8:
        raise MalformedUpdate(f"a file of {len(data)} bytes ends before its header")
    length = int.from_bytes(data[:8], "little")
    if length > largest:
        if data.startswith(_PICKLE):
            raise MalformedUpdate("this is a pickle, which is never read")
        raise OversizeUpdate(f"a header of {length} bytes is over the bound of {largest}")
    if length > len(data) - 8:
        raise MalformedUpdate("the file ends inside its header")
    return data[8 : 8 + length], 8 + length


def _entry(name: str, entry: object) -> tuple[object, object]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise MalformedUpdate(f"the header entry of {name[:80]!r} is not a tensor's")
    return entry["dtype"], entry["shape"]


def _explain(found: bytes, specs: tuple[TensorSpec, ...], dtype: Dtype) -> None:
    """Raise what is wrong with a header that is not the expected one."""
    entries = parse_json(found, len(found))
    if not isinstance(entries, dict):
        raise MalformedUpdate("the header is not a JSON object")
    names = {name for name in entries if name != "__metadata__"}
    wanted = {spec.name for spec in specs}
    for problem, rest in (("lacks", wanted - names), ("has an unknown", names - wanted)):
        if rest:
            raise SpecMismatch(f"the file {problem} tensor {min(rest)[:80]!r}")
    for spec in specs:
        kind, shape = _entry(spec.name, entries[spec.name])
        if kind != dtype:
            raise SpecMismatch(f"{spec.name} is {str(kind)[:20]}, where {dtype} is expected")
        if shape != list(spec.shape):
            raise SpecMismatch(f"{spec.name} is {str(shape)[:80]}, not {list(spec.shape)}")
    raise NonCanonicalUpdate("the header is not the one canonical encoding of its tensors")


def _check_values(vector: Vector, dtype: Dtype) -> None:
    if dtype == "I16" and vector.min() == -32768:
        raise NonCanonicalUpdate("a coordinate is -32768, which is never valid")
    if dtype == "F32" and not np.isfinite(vector).all():
        raise NonFiniteUpdate("a coordinate is not a finite number")


def decode(data: bytes, specs: tuple[TensorSpec, ...], dtype: Dtype) -> Vector:
    """Return the flat vector of a canonical file: a fresh, native, writable array.

    Raises:
        OversizeUpdate: the file or its header is over its bound.
        MalformedUpdate: truncated, trailing bytes, a pickle, or not in the format.
        SpecMismatch: tensor names, shapes or dtype differ from ``specs``.
        NonCanonicalUpdate: a duplicate key, whitespace, order, offsets, metadata, or -32768.
        NonFiniteUpdate: a float is NaN or infinite.
    """
    expected = header(specs, dtype)
    kind: np.dtype[Any] = DTYPES[dtype]
    size = sum(spec.size for spec in specs)
    found, begin = _split(data, expected, size * kind.itemsize)
    if found != expected:
        _explain(found, specs, dtype)
    spare = len(data) - begin - size * kind.itemsize
    if spare:
        what = f"has {spare} trailing" if spare > 0 else f"lacks {-spare}"
        raise MalformedUpdate(f"the file {what} bytes")
    vector: Vector = np.frombuffer(data, kind, size, begin).astype(kind.newbyteorder("="))
    _check_values(vector, dtype)
    return vector
