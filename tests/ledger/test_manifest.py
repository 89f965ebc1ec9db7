"""Manifest and tensor file: exactly one encoding, and a name for everything else."""

import pickle
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from ledger.canonical import canonical_json, parse_json, sha256
from ledger.errors import (
    CodecError,
    MalformedUpdate,
    NonFiniteUpdate,
    SpecMismatch,
)
from ledger.manifest import (
    Manifest,
    TensorSpec,
    decode_model,
    decode_tensors,
    encode_model,
    encode_tensors,
    model_digest,
)
from tests.ledger.rows import GOOD, ROWS, rebuild
from tests.ledger.samples import MANIFEST, manifests, quick, update

DTYPES = {"F32": np.float32, "I16": np.int16, "I64": np.int64}


def vector_of(manifest: Manifest, dtype: str, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    if dtype == "F32":
        return rng.normal(size=manifest.size).astype(np.float32)
    top = 32768 if dtype == "I16" else 2**62
    return rng.integers(1 - top, top, manifest.size).astype(DTYPES[dtype])


def tensors_of(manifest: Manifest, vector: Any) -> dict[str, Any]:
    found, begin = {}, 0
    for spec in manifest.tensors:
        found[spec.name] = vector[begin : begin + spec.size].reshape(spec.shape)
        begin += spec.size
    return found


@quick
@given(manifests(), st.sampled_from(["F32", "I16", "I64"]), st.integers(0, 99))
def test_bytes_equal_the_safetensors_library(manifest: Manifest, dtype: Any, seed: int) -> None:
    vector = vector_of(manifest, dtype, seed)
    data = encode_tensors(manifest, vector)
    tensors = tensors_of(manifest, vector)
    assert data == safetensors.numpy.save(tensors)
    read = safetensors.numpy.load(data)
    assert all(np.array_equal(read[name], tensors[name]) for name in tensors)
    decoded = decode_tensors(data, manifest, dtype)
    assert decoded.dtype == DTYPES[dtype]
    assert np.array_equal(decoded, vector)
    assert decoded.flags.writeable


@quick
@given(manifests(), st.integers(0, 99))
def test_models_round_trip_whatever_the_order(manifest: Manifest, seed: int) -> None:
    model = tensors_of(manifest, vector_of(manifest, "F32", seed))
    shuffled = dict(reversed(model.items()))
    data = encode_model(shuffled)
    assert data == encode_model(model)
    assert model_digest(data) == sha256(data)
    decoded = decode_model(data, manifest)
    assert list(decoded) == [spec.name for spec in manifest.tensors]
    assert all(np.array_equal(decoded[n], model[n]) for n in model)
    assert all(decoded[n].shape == model[n].shape for n in model)
    assert Manifest.of_model(shuffled) == manifest
    assert np.array_equal(manifest.flatten(decoded), manifest.flatten(model))


@quick
@given(manifests())
def test_manifest_json_round_trips(manifest: Manifest) -> None:
    data = canonical_json(manifest.to_json())
    again = Manifest.from_json(parse_json(data, len(data)))
    assert again == manifest
    assert again.digest() == manifest.digest()


def test_a_transposed_array_is_written_in_c_order() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    data = encode_model({"a": array.T})
    assert np.array_equal(safetensors.numpy.load(data)["a"], array.T)


def test_manifest_digest_binds_names_shapes_and_dtypes() -> None:
    specs = [
        (TensorSpec(name="a", shape=(6,)),),
        (TensorSpec(name="b", shape=(6,)),),
        (TensorSpec(name="a", shape=(2, 3)),),
        (TensorSpec(name="a", shape=(3, 2)),),
        (TensorSpec(name="a", shape=(6,), dtype="I16"),),
        (TensorSpec(name="a", shape=(3,)), TensorSpec(name="b", shape=(3,))),
    ]
    assert len({Manifest(s).digest() for s in specs}) == len(specs)


# ---- the codec rows of the attack catalogue ----


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("row", ROWS)
def test_codec_row(row: str) -> None:
    data, error = ROWS[row]
    with pytest.raises(CodecError) as caught:
        decode_tensors(data, MANIFEST, "I16")
    assert type(caught.value) is error
    assert str(caught.value)
    assert np.array_equal(decode_tensors(GOOD, MANIFEST, "I16"), update(MANIFEST.size))


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_is_refused_and_never_run(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "side-effect"
    data = pickle.dumps(Bomb(path), protocol=protocol)
    with pytest.raises(MalformedUpdate):
        decode_tensors(data, MANIFEST, "I16")
    assert not path.exists()


@pytest.mark.parametrize("protocol", [0, 1])
def test_an_ancient_pickle_is_refused_too(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "side-effect"
    with pytest.raises(CodecError):
        decode_tensors(pickle.dumps(Bomb(path), protocol=protocol), MANIFEST, "I16")
    assert not path.exists()


def test_declared_lengths_are_never_allocated() -> None:
    claims = rebuild(text='{"a":{"dtype":"I16","shape":[999999999999],"data_offsets":[0,2]}}')
    tracemalloc.start()
    for data in (claims, struct.pack("<Q", 2**62) + bytes(100), ROWS["flood"][0]):
        with pytest.raises(CodecError):
            decode_tensors(data, MANIFEST, "I16")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@quick
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_raises_or_changes_the_values(at: int, flip: int) -> None:
    data = bytearray(GOOD)
    data[at] ^= flip
    try:
        vector = decode_tensors(bytes(data), MANIFEST, "I16")
    except CodecError:
        return
    assert at >= len(GOOD) - 20  # only in the data, and then it is another update, canonically
    assert encode_tensors(MANIFEST, vector) == bytes(data)


@quick
@given(st.integers(0, len(GOOD) - 1))
def test_every_prefix_is_refused(length: int) -> None:
    with pytest.raises(CodecError):
        decode_tensors(GOOD[:length], MANIFEST, "I16")


@quick
@given(st.integers(0, len(GOOD)), st.binary(min_size=1, max_size=20))
def test_inserted_bytes_are_refused(at: int, extra: bytes) -> None:
    with pytest.raises(CodecError):
        decode_tensors(GOOD[:at] + extra + GOOD[at:], MANIFEST, "I16")


@quick
@given(st.binary(max_size=400), st.sampled_from(["F32", "I16", "I64"]))
def test_rubbish_is_refused(data: bytes, dtype: Any) -> None:
    with pytest.raises(CodecError):
        decode_tensors(data, MANIFEST, dtype)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3),
    max_leaves=6,
)


@quick
@given(
    st.dictionaries(
        st.sampled_from(["head.bias", "head.weight", "scale", "x"]),
        st.fixed_dictionaries(
            {
                "dtype": json_values | st.just("I16"),
                "shape": json_values,
                "data_offsets": json_values,
            }
        )
        | json_values,
    )
)
def test_any_json_header_is_refused(header: dict[str, Any]) -> None:
    with pytest.raises(CodecError):
        decode_tensors(rebuild(lambda _: header), MANIFEST, "I16")


@quick
@given(
    json_values
    | st.lists(
        st.tuples(st.text(max_size=4), st.just("F32"), st.lists(st.integers(0, 9), max_size=3)).map(
            list
        )
    )
)
def test_any_json_is_a_manifest_or_refused(value: Any) -> None:
    try:
        manifest = Manifest.from_json(value)
    except CodecError:
        return
    assert manifest.to_json() == value


# ---- manifests and models that are refused ----


@pytest.mark.parametrize(
    "specs",
    [
        (),
        (TensorSpec(name="b", shape=()), TensorSpec(name="a", shape=())),
        (TensorSpec(name="a", shape=()), TensorSpec(name="a", shape=())),
        tuple(TensorSpec(name=f"{i:05}", shape=()) for i in range(4097)),
        (TensorSpec(name="a", shape=(1 << 28,)), TensorSpec(name="b", shape=())),
    ],
)
def test_bad_manifests(specs: tuple[TensorSpec, ...]) -> None:
    with pytest.raises(SpecMismatch):
        Manifest(specs)


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("", (), "F32"),
        ("a b", (), "F32"),
        ("é", (), "F32"),
        ("a" * 201, (), "F32"),
        ("a\n", (), "F32"),
        ('a"', (), "F32"),
        ("a", (0,), "F32"),
        ("a", (-1,), "F32"),
        ("a", (True,), "F32"),
        ("a", (1.0,), "F32"),
        ("a", [1], "F32"),
        ("a", (1,) * 9, "F32"),
        ("a", (1 << 29,), "F32"),
        ("a", (), "F64"),
        ("__metadata__", (), "F32"),
    ],
)
def test_bad_specs(name: Any, shape: Any, dtype: Any) -> None:
    with pytest.raises(SpecMismatch):
        TensorSpec(name=name, shape=shape, dtype=dtype)


def test_models_of_another_kind_are_refused() -> None:
    with pytest.raises(SpecMismatch):
        encode_model({"a": np.zeros(3)})
    with pytest.raises(SpecMismatch):
        encode_model({"a": np.zeros((0, 2), np.float32)})
    with pytest.raises(SpecMismatch):
        MANIFEST.flatten({"a": np.zeros(3, np.float32)})
    with pytest.raises(SpecMismatch):
        MANIFEST.unflatten(np.zeros(3, np.float32))
    with pytest.raises(SpecMismatch):
        encode_tensors(MANIFEST, np.zeros(MANIFEST.size))  # type: ignore[arg-type]
    with pytest.raises(SpecMismatch):
        encode_tensors(MANIFEST, np.zeros(3, np.int16))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_model_that_is_not_finite_is_neither_written_nor_read(value: float) -> None:
    model = {"a": np.array([1, value], np.float32)}
    with pytest.raises(NonFiniteUpdate):
        encode_model(model)
    manifest = Manifest.of_model(model)
    with pytest.raises(NonFiniteUpdate):
        decode_model(safetensors.numpy.save(model), manifest)
