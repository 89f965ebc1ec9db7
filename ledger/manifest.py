"""What a model consists of: the ordered names, shapes and dtypes that every party agrees on.

Tensors are ordered by the bytes of their names. A model is a dict of float32 arrays in that order,
a flat vector is their concatenation in C order; updates (int16) and sums (int64) are such vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from ledger import tensors
from ledger.canonical import canonical_json, sha256, tagged_digest
from ledger.errors import NonFiniteUpdate, SpecMismatch
from ledger.tensors import MAX_SIZE, MAX_TENSORS, Dtype, TensorSpec, Vector

__all__ = [
    "Manifest",
    "Model",
    "TensorSpec",
    "decode_model",
    "decode_tensors",
    "encode_model",
    "encode_tensors",
    "model_digest",
]

Model = dict[str, NDArray[np.float32]]

_KINDS: dict[str, Dtype] = {"f4": "F32", "i2": "I16", "i8": "I64"}


@dataclass(frozen=True)
class Manifest:
    """The tensors of a model, by strictly ascending name.

    Raises:
        SpecMismatch: no tensors or too many, a name out of order or listed twice, or too large.
    """

    tensors: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        """Check order and bounds."""
        if not 1 <= len(self.tensors) <= MAX_TENSORS:
            raise SpecMismatch(f"a model has between 1 and {MAX_TENSORS} tensors")
        names = [spec.name for spec in self.tensors]
        if any(a >= b for a, b in pairwise(names)):
            raise SpecMismatch("the tensors of a manifest are not in strictly ascending order")
        if self.size > MAX_SIZE:
            raise SpecMismatch(f"a model has at most {MAX_SIZE} coordinates, not {self.size}")

    @property
    def size(self) -> int:
        """Number of coordinates d of a flat vector."""
        return sum(spec.size for spec in self.tensors)

    def digest(self) -> bytes:
        """Return the domain-separated digest of the manifest (32 bytes)."""
        return tagged_digest("thoracle/manifest/v1", canonical_json(self.to_json()))

    @classmethod
    def of_model(cls, model: Mapping[str, NDArray[Any]]) -> Manifest:
        """Return the manifest of a model, whatever the order of its dict.

        Raises:
            SpecMismatch: an array is not float32, or its name or shape is not allowed.
        """
        for name, array in model.items():
            if array.dtype != np.float32:
                raise SpecMismatch(f"tensor {name[:80]!r} is {array.dtype}, not float32")
        return cls(tuple(TensorSpec(name=n, shape=tuple(model[n].shape)) for n in sorted(model)))

    def flatten(self, model: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the model as one float32 vector of length ``size`` (a copy).

        Raises:
            SpecMismatch: the model is not of this manifest.
        """
        if Manifest.of_model(model) != self:
            raise SpecMismatch("the model's tensors are not those of the manifest")
        return np.concatenate([model[s.name].ravel(order="C") for s in self.tensors])

    def unflatten(self, vector: NDArray[np.float32]) -> Model:
        """Return the model whose arrays are views of ``vector``, in manifest order.

        Raises:
            SpecMismatch: not a float32 vector of length ``size``.
        """
        if vector.shape != (self.size,) or vector.dtype != np.float32:
            raise SpecMismatch(f"not a float32 vector of {self.size} coordinates")
        vector = np.ascontiguousarray(vector)
        model: Model = {}
        begin = 0
        for spec in self.tensors:
            model[spec.name] = vector[begin : begin + spec.size].reshape(spec.shape)
            begin += spec.size
        return model

    def to_json(self) -> list[object]:
        """Return the JSON form: a list of ``[name, dtype, [lengths]]``."""
        return [[spec.name, spec.dtype, list(spec.shape)] for spec in self.tensors]

    @classmethod
    def from_json(cls, value: object) -> Manifest:
        """Return the manifest of its JSON form, which may come from an untrusted party.

        Raises:
            SpecMismatch: not a manifest's form.
        """
        if not isinstance(value, list) or len(value) > MAX_TENSORS:
            raise SpecMismatch(f"a manifest is a list of at most {MAX_TENSORS} tensors")
        specs = []
        for item in value:
            match item:
                case [str(name), str(dtype), list(shape)]:
                    # TensorSpec checks every one of them, the dtype too.
                    kind: Any = dtype
                    specs.append(TensorSpec(name=name, shape=tuple(shape), dtype=kind))
                case _:
                    raise SpecMismatch("a manifest lists [name, dtype, [lengths]] for each tensor")
        return cls(tuple(specs))


def encode_tensors(manifest: Manifest, vector: Vector) -> bytes:
    """Return the canonical file of a flat vector: F32, I16 or I64 by the vector's own dtype.

    Raises:
        SpecMismatch: another length or dtype.
    """
    dtype = _KINDS.get(vector.dtype.str[1:])
    if dtype is None or vector.shape != (manifest.size,):
        raise SpecMismatch(
            f"a vector of {manifest.size} float32, int16 or int64 is expected, "
            f"not {vector.dtype}{list(vector.shape)}"
        )
    return tensors.encode(manifest.tensors, vector, dtype)


@overload
def decode_tensors(
    data: bytes, manifest: Manifest, dtype: Literal["F32"]
) -> NDArray[np.float32]: ...
@overload
def decode_tensors(data: bytes, manifest: Manifest, dtype: Literal["I16"]) -> NDArray[np.int16]: ...
@overload
def decode_tensors(data: bytes, manifest: Manifest, dtype: Literal["I64"]) -> NDArray[np.int64]: ...
def decode_tensors(data: bytes, manifest: Manifest, dtype: Dtype) -> Vector:
    """Return the flat vector of a canonical file of this manifest and dtype.

    The array is fresh, native and writable.

    Raises:
        OversizeUpdate: the file or its header is over its bound (checked first).
        MalformedUpdate: truncated, trailing bytes, a pickle, or not in the format at all.
        SpecMismatch: tensor names, shapes or dtype differ from the manifest.
        NonCanonicalUpdate: decodable, but not the one encoding; or -32768 in an I16 file.
        NonFiniteUpdate: NaN or infinity in an F32 file.
    """
    return tensors.decode(data, manifest.tensors, dtype)


def encode_model(model: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the canonical file of a model; its SHA-256 is the model's digest on the chain.

    Raises:
        SpecMismatch: an array is not float32, or its name or shape is not allowed.
        NonFiniteUpdate: a parameter is NaN or infinite.
    """
    manifest = Manifest.of_model(model)
    vector = manifest.flatten(model)
    if not np.isfinite(vector).all():
        raise NonFiniteUpdate("a parameter of the model is not a finite number")
    return encode_tensors(manifest, vector)


def decode_model(data: bytes, manifest: Manifest) -> Model:
    """Return the model of a canonical file, in manifest order; raises as ``decode_tensors``."""
    return manifest.unflatten(decode_tensors(data, manifest, "F32"))


def model_digest(data: bytes) -> bytes:
    """Return the digest of a model file: SHA-256 of its bytes (32 bytes)."""
    return sha256(data)
