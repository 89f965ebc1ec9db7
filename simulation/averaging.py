"""The mean of a run's last models, which may rank better than the last alone, and its proof.

Where hospitals differ, every round's model leans towards whoever moved it most; the mean of the
last rounds' leans less (Polyak and Juditsky 1992; for networks Izmailov et al., UAI 2018). It is
computed from models that the ledger names, so it costs no privacy and proves itself: its record
names them, and whoever has them computes the same bytes. Normative: for each tensor the models are
added in the order of their rounds in binary64, divided by their number, and rounded to float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ledger.canonical import canonical_json, parse_json, sha256
from ledger.errors import CodecError, EvidenceMismatch
from ledger.files import ObjectStore, atomic_write, read_bounded
from ledger.manifest import Manifest, encode_model
from server.evaluate import MAX_MODEL_BYTES, MODEL_SUFFIX, read_model

FORMAT: Final = "thoracle/average/v1"
FOLDER: Final = "averages"
MAX_RECORD: Final = 1 << 16
_MOST = 512


@dataclass(frozen=True, kw_only=True)
class Average:
    """Which models a mean is of.

    Args:
        of: digests (32 bytes each) of two models or more, in the order of their rounds.
    """

    of: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return the record's canonical JSON."""
        return canonical_json({"format": FORMAT, "of": [digest.hex() for digest in self.of]})

    @classmethod
    def decode(cls, data: bytes) -> Average:
        """Return the average of a record.

        Raises:
            CodecError: it is none.
        """
        record = parse_json(data, MAX_RECORD)
        if not isinstance(record, dict) or record.keys() != {"format", "of"}:
            raise CodecError("an average's record holds its format and what it is of")
        named = record["of"]
        if record["format"] != FORMAT or not isinstance(named, list):
            raise CodecError(f"an average's record is {FORMAT}, of a list of models")
        if not 2 <= len(named) <= _MOST:
            raise CodecError(f"an average is of 2 to {_MOST} models")
        try:
            of = tuple(bytes.fromhex(digest) for digest in named)
        except (TypeError, ValueError):
            raise CodecError("an average's record names models by hexadecimal digests") from None
        if any(len(digest) != 32 for digest in of):
            raise CodecError("a digest has 32 bytes")
        return cls(of=of)


def read_average(run: Path, digest: bytes) -> Average | None:
    """Return what a model of the run is the mean of, or None where it is not known as one.

    Raises:
        CodecError: the record is damaged.
    """
    path = _record(run, digest)
    return Average.decode(read_bounded(path, MAX_RECORD)) if path.is_file() else None


def check_average(run: Path, digest: bytes, average: Average, manifest: Manifest) -> None:
    """Compute the mean again.

    Raises:
        EvidenceMissing, EvidenceMismatch: a model is missing or damaged, or the mean is another.
    """
    if sha256(_encoded(run, average, manifest)) != digest:
        raise EvidenceMismatch(
            f"model {digest.hex()[:16]}… is not the mean that its record says it is"
        )


def write_average(run: Path, average: Average, manifest: Manifest) -> Path:
    """Compute the mean, keep it beside the run's models with its record, and return its path.

    Raises:
        EvidenceMissing, EvidenceMismatch: a model is missing or damaged.
        OutputError: the run's folder cannot be written.
    """
    data = _encoded(run, average, manifest)
    # The record first: without it everything that reads the model would refuse it.
    atomic_write(_record(run, sha256(data)), average.encode())
    store = _models(run)
    return store.path(store.put(data))


def _encoded(run: Path, average: Average, manifest: Manifest) -> bytes:
    total: dict[str, NDArray[np.float64]] = {}
    for digest in average.of:
        model = read_model(_models(run).path(digest), manifest)
        for name, tensor in model.items():
            wide = tensor.astype(np.float64)
            total[name] = total[name] + wide if name in total else wide
    return encode_model(
        {name: (tensor / len(average.of)).astype(np.float32) for name, tensor in total.items()}
    )


def _models(run: Path) -> ObjectStore:
    return ObjectStore(run / "models", MODEL_SUFFIX, limit=MAX_MODEL_BYTES)


def _record(run: Path, digest: bytes) -> Path:
    return run / FOLDER / f"{digest.hex()}.json"
