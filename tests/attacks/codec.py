"""Rows of the codec: what a hospital seals is decoded before anything is allocated or believed."""

from __future__ import annotations

import json
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from client.roles import TrainedUpdate
from ledger.errors import (
    CodecError,
    MalformedUpdate,
    NonCanonicalUpdate,
    NonFiniteUpdate,
    OversizeUpdate,
    SpecMismatch,
)
from ledger.manifest import Manifest, encode_tensors
from ledger.tensors import TensorSpec
from tests.attacks.case import FILES, REFUSED, Case, Scene
from tests.attacks.forge import ROGUE, Forgery, retensor

Tamper = Callable[[Scene, bytes], bytes]


def _case(name: str, tampers: str, error: type[CodecError], tamper: Tamper) -> Case:
    """Return a row whose update file is tampered with before it is sealed and committed."""

    def play(scene: Scene) -> None:
        Forgery(scene.world, update=lambda data: tamper(scene, data)).submit()
        scene.finish()
        scene.refused(ROGUE)

    return Case(
        name=name,
        room="codec",
        tampers=tampers,
        caught="coordinator",
        error=error,
        stage="two",
        play=play,
        records=REFUSED,
        files=FILES,
    )


class _SideEffect:
    """Unpickling this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.write_bytes, (self.path, b"run")


def _pickle(scene: Scene, _: bytes) -> bytes:
    return pickle.dumps(_SideEffect(scene.folder / "side-effect"))


def _pickle_play(scene: Scene) -> None:
    Forgery(scene.world, update=lambda data: _pickle(scene, data)).submit()
    scene.finish()
    scene.refused(ROGUE)
    assert not (scene.folder / "side-effect").exists(), "the pickle ran"


def _header(data: bytes, change: Callable[[str], str]) -> bytes:
    length = int.from_bytes(data[:8], "little")
    head = change(data[8 : 8 + length].decode()).encode()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + data[8 + length :]


def _duplicate_key(text: str) -> str:
    entries = json.loads(text)
    name = next(iter(entries))
    return text.rstrip()[:-1] + f",{json.dumps(name)}:{json.dumps(entries[name])}}}"


def _other_tensors(scene: Scene, *, drop: bool) -> bytes:
    specs = scene.world.manifest.tensors
    other = specs[:-1] if drop else (*specs, TensorSpec(name="zz", shape=(1,)))
    manifest = Manifest(tuple(other))
    return encode_tensors(manifest, np.ones(manifest.size, dtype=np.int16))


def _wrong_dtype(scene: Scene, _: bytes) -> bytes:
    return encode_tensors(
        scene.world.manifest, np.ones(scene.world.manifest.size, dtype=np.float32)
    )


def _bad_delta(name: str, value: float) -> Case:
    """Return a row whose training ends in a number that is not finite."""

    def trainer(base: dict[str, np.ndarray], _config: object, _seed: int, /) -> TrainedUpdate:
        model = {tensor: array.copy() for tensor, array in base.items()}
        next(iter(model.values())).flat[0] = value
        return TrainedUpdate(model=model)

    def play(scene: Scene) -> None:
        hospital = scene.world.make_hospital(ROGUE, trainer=trainer)
        with scene.caught_by("hospital"):
            hospital.train(scene.world.coordinator.order())

    return Case(
        name=name,
        room="codec",
        tampers=f"one parameter of a trained model is {value}",
        caught="hospital",
        error=NonFiniteUpdate,
        stage="two",
        play=play,
    )


CASES = (
    _case("truncated_update", "the update's last byte", MalformedUpdate, lambda _, data: data[:-1]),
    _case(
        "trailing_bytes",
        "bytes after the last tensor",
        MalformedUpdate,
        lambda _, data: data + bytes(8),
    ),
    Case(
        name="pickle_payload",
        room="codec",
        tampers="the update is a pickle that would write a file",
        caught="coordinator",
        error=MalformedUpdate,
        stage="two",
        play=_pickle_play,
        records=REFUSED,
        files=FILES,
    ),
    _case(
        "huge_header",
        "the header's length says 2^62 bytes",
        OversizeUpdate,
        lambda _, data: (1 << 62).to_bytes(8, "little") + data[8:],
    ),
    _case(
        "zip_bomb",
        "compressed zeros in place of the update",
        OversizeUpdate,
        lambda *_: zlib.compress(bytes(1 << 20), 9) * 8,
    ),
    _case(
        "missing_tensor",
        "the last tensor is left out",
        SpecMismatch,
        lambda scene, _: _other_tensors(scene, drop=True),
    ),
    _case(
        "extra_tensor",
        "a tensor nobody asked for",
        SpecMismatch,
        lambda scene, _: _other_tensors(scene, drop=False),
    ),
    _case(
        "transposed_shape",
        "a matrix is sent transposed",
        SpecMismatch,
        lambda scene, _: retensor(scene.world, name="conv.weight", shape=(12, 16)),
    ),
    _case("wrong_dtype", "float32 in place of int16", SpecMismatch, _wrong_dtype),
    _case(
        "duplicate_header_key",
        "the header names a tensor twice",
        NonCanonicalUpdate,
        lambda _, data: _header(data, _duplicate_key),
    ),
    _case(
        "header_whitespace",
        "one space inside the header",
        NonCanonicalUpdate,
        lambda _, data: _header(data, lambda text: text.replace(":", ": ", 1)),
    ),
    _bad_delta("nan_delta", float("nan")),
    _bad_delta("inf_delta", float("inf")),
)
