"""The Flower shim: what goes in, what comes out, and above all what does not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, Metadata, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from client import app as shim
from client import serve as serving
from client.frames import pack, unpack
from client.home import HospitalSpec
from client.shard import Shard, read_shard, write_shard
from ledger.anchors import Anchors
from ledger.canonical import sha256
from ledger.errors import (
    BudgetExhausted,
    ConfigError,
    DataError,
    HospitalFailed,
    InvalidStatement,
    LedgerUnavailable,
    MalformedUpdate,
)
from ledger.messages import ProposalOrder, TrainOrder, TrainReply
from tests.client.federation import account

ORDER = TrainOrder(
    round=3,
    base_model_bytes=b"model",
    config=b"{}",
    public_keys=(b"first key", b"second key"),
    key_epoch=1,
)
TOLD = "patient 00012345 has a hernia"


def message(record: dict[str, Any] | None, kind: str = "train") -> Message:
    records = {} if record is None else {"order": ConfigRecord(record)}
    metadata = Metadata(
        run_id=1,
        message_id="",
        src_node_id=1,
        dst_node_id=12345,
        reply_to_message_id="",
        group_id="3",
        created_at=time.time(),
        ttl=600.0,
        message_type=kind,
    )
    return Message(metadata=metadata, content=RecordDict(records))  # type: ignore[call-overload, no-any-return, arg-type]


def context(run: Path | str, partition: Any = 0, **config: Any) -> Context:
    return Context(
        run_id=1,
        node_id=12345,
        node_config={} if partition is None else {"partition-id": partition},
        state=RecordDict(),
        run_config={"run": str(run), **config},
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "hospitals" / "0").mkdir(parents=True)
    return tmp_path


class Stub:
    """A hospital that answers, or raises, what a test asks for."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.orders: list[object] = []
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def train(self, order: TrainOrder) -> TrainReply:
        self.orders.append(order)
        if self.error:
            raise self.error
        return TrainReply(
            hospital=account("hospital").address,
            round=order.round,
            ciphertext=b"sealed",
            metrics={"auc": 0.75},
        )


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[Stub], Stub]:
    """Serve in this process and with a stub hospital, so that only the shim is under test."""

    def install(stub: Stub) -> Stub:
        def isolated(call: Callable[[bytes], bytes], payload: bytes, **_: object) -> bytes:
            return call(payload)

        monkeypatch.setattr(shim, "run_isolated", isolated)
        monkeypatch.setattr(serving, "open_hospital", lambda home: stub)
        return stub

    return install


def test_order_and_reply_cross_unchanged(run: Path, in_process: Callable[[Stub], Stub]) -> None:
    stub = in_process(Stub())
    reply = shim.answer(message(ORDER.to_record()), context(run), "train")
    assert stub.orders == [ORDER]
    assert stub.closed
    record = dict(reply.content.config_records["reply"])
    found = TrainReply.from_record(record, allowed_metrics={"auc"})
    assert found == Stub().train(ORDER)


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (LedgerUnavailable(TOLD), "LedgerUnavailable"),
        (BudgetExhausted(TOLD), "BudgetExhausted"),
        (RuntimeError(TOLD), "HospitalFailed"),
        (MemoryError(TOLD), "HospitalFailed"),
    ],
)
def test_only_the_class_of_an_error_leaves(
    run: Path, in_process: Callable[[Stub], Stub], error: Exception, name: str
) -> None:
    in_process(Stub(error))
    reply = shim.answer(message(ORDER.to_record()), context(run), "train")
    assert reply.has_error()
    assert reply.error.reason == name
    log = run / "hospitals" / "0" / "hospital.log"
    assert TOLD in log.read_text()  # the hospital itself can read what happened
    assert log.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "extra", [{"policy": "none"}, {"code": b"import os"}, {"data": "/"}, {"metrics": ["x"]}]
)
def test_an_order_with_more_in_it_is_refused(
    run: Path, in_process: Callable[[Stub], Stub], extra: dict[str, Any]
) -> None:
    """malicious_app_code: an order cannot carry what is not an order's."""
    stub = in_process(Stub())
    reply = shim.answer(message({**ORDER.to_record(), **extra}), context(run), "train")
    assert reply.error.reason == InvalidStatement.__name__
    assert stub.orders == []


def test_an_order_cannot_choose_the_hospital(run: Path, in_process: Callable[[Stub], Stub]) -> None:
    (run / "hospitals" / "1").mkdir()
    stub = in_process(Stub())
    record = {**ORDER.to_record(), "home": str(run / "hospitals" / "1"), "kind": "evaluate"}
    reply = shim.answer(message(record), context(run), "train")
    assert not reply.has_error()
    assert stub.orders == [ORDER]
    assert not (run / "hospitals" / "1" / "hospital.log").exists()


@pytest.mark.parametrize(
    "bad",
    [
        {"run": ""},
        {"run": "no such folder"},
        {"partition": None},
        {"partition": 7},
        {"partition": -1},
        {"partition": "../0"},
        {"hospital-timeout": 0},
        {"hospital-timeout": "soon"},
    ],
)
def test_a_node_without_a_hospital(run: Path, bad: dict[str, Any]) -> None:
    values: dict[str, Any] = {"run": run, **bad}
    reply = shim.answer(message(ORDER.to_record()), context(**values), "train")
    assert reply.error.reason == ConfigError.__name__


def test_a_message_without_an_order(run: Path) -> None:
    reply = shim.answer(message(None), context(run), "train")
    assert reply.error.reason == ConfigError.__name__


def test_both_exchanges_are_registered(run: Path) -> None:
    for kind in ("train", "evaluate"):
        reply = shim.app(message(None, kind), context(run))
        assert reply.error.reason == ConfigError.__name__


# ---- a process of its own ----


def _die(payload: bytes) -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return payload


@pytest.mark.e2e
def test_a_hospital_that_dies_costs_only_its_reply(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shim, "carry_out", _die)
    reply = shim.answer(message(ORDER.to_record()), context(run), "train")
    assert reply.error.reason == HospitalFailed.__name__


@pytest.mark.e2e
def test_a_hospital_without_files_says_so(run: Path) -> None:
    reply = shim.answer(message(ORDER.to_record()), context(run), "train")
    assert reply.error.reason == "EvidenceMissing"


# ---- frames, shard and spec ----


values = st.one_of(
    st.binary(max_size=20),
    st.integers(-(2**62), 2**62),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=10),
    st.lists(st.binary(max_size=5), max_size=3),
    st.lists(st.text(max_size=5), max_size=3),
)


@given(st.dictionaries(st.text(max_size=8), values, max_size=5))
def test_frames_come_back(record: dict[str, Any]) -> None:
    assert unpack(pack(record)) == record


@pytest.mark.parametrize("kind", [TrainOrder, ProposalOrder])
def test_orders_survive_frames(kind: type) -> None:
    order = ORDER if kind is TrainOrder else ProposalOrder(round=1, sum_bytes=b"s")
    assert kind.from_record(unpack(pack(order.to_record()))) == order  # type: ignore[attr-defined]


@pytest.mark.parametrize("cut", [lambda d: d[:-1], lambda d: d + b"x", lambda d: d[:6]])
def test_damaged_frames(cut: Callable[[bytes], bytes]) -> None:
    with pytest.raises(MalformedUpdate):
        unpack(cut(pack({"a": b"bytes", "b": 1})))


def shard(**changes: Any) -> Shard:
    arrays: dict[str, Any] = {
        "train_pixels": np.zeros((4, 1, 8, 8), np.uint8),
        "train_labels": np.zeros((4, 14), np.int8),
        "train_patients": np.arange(4, dtype=np.int64),
        "held_pixels": np.zeros((2, 1, 8, 8), np.uint8),
        "held_labels": np.zeros((2, 14), np.int8),
        "held_patients": np.array([7, 8], np.int64),
    }
    return Shard(**{**arrays, **changes})


def test_pixels_stay_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "shard.npz"
    films = np.random.default_rng(0).integers(0, 256, (4, 1, 8, 8)).astype(np.uint8)
    write_shard(path, shard(train_pixels=films))
    found = read_shard(path).train_pixels
    assert isinstance(found.base, np.memmap)
    assert np.array_equal(found, films)
    found[0] = 0  # copy-on-write: the file keeps its bytes
    assert np.array_equal(read_shard(path).train_pixels, films)
    at = path.read_bytes().index(films.tobytes())
    whole = bytearray(path.read_bytes())
    whole[at + 7] ^= 1
    path.write_bytes(whole)
    with pytest.raises(DataError):
        read_shard(path)


@pytest.mark.parametrize("how", ["compressed", "fortran", "floats"])
def test_pixels_that_cannot_be_mapped(tmp_path: Path, how: str) -> None:
    path = tmp_path / "shard.npz"
    write_shard(path, shard())
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if how == "fortran":
        arrays["train_pixels"] = np.asfortranarray(np.ones((4, 2, 8, 8), np.uint8))
    if how == "floats":
        arrays["train_pixels"] = arrays["train_pixels"].astype(np.float32)
    (np.savez_compressed if how == "compressed" else np.savez)(path, **arrays)
    with pytest.raises(DataError):
        read_shard(path)


def test_a_shard_comes_back_private(tmp_path: Path) -> None:
    path = tmp_path / "shard.npz"
    write_shard(path, shard())
    found = read_shard(path)
    assert np.array_equal(found.train_patients, shard().train_patients)
    assert found.held_pixels.shape == (2, 1, 8, 8)
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "change",
    [
        {"held_patients": np.array([3, 8], np.int64)},  # a patient on both sides
        {"train_labels": np.full((4, 14), 2, np.int8)},
        {"train_labels": np.zeros((3, 14), np.int8)},
        {"train_pixels": np.zeros((4, 1, 8, 8), np.float32)},
        {"train_pixels": np.zeros((4, 8, 8), np.uint8)},
        {
            "train_pixels": np.zeros((0, 1, 8, 8), np.uint8),
            "train_labels": np.zeros((0, 14), np.int8),
            "train_patients": np.zeros(0, np.int64),
        },
    ],
)
def test_arrays_that_do_not_fit(change: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        shard(**change)


def test_a_shard_with_a_pickle_in_it_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "shard.npz"
    np.savez(path, train_pixels=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError):
        read_shard(path)
    path.write_bytes(b"\x80\x04.")
    with pytest.raises(DataError):
        read_shard(path)
    with pytest.raises(DataError):
        read_shard(tmp_path / "absent.npz")


SPEC = HospitalSpec(
    name="hospital 0",
    rpc="http://127.0.0.1:1",
    anchors=Anchors(
        chain_id=31337,
        contract=account("contract").address,
        federation_id=sha256(b"f"),
        genesis_hash=sha256(b"g"),
        coordinator=account("coordinator").address,
        founders=(account("hospital 0").address,),
    ),
)


def test_a_spec_comes_back(tmp_path: Path) -> None:
    SPEC.write(tmp_path)
    assert HospitalSpec.read(tmp_path) == SPEC
    assert (tmp_path / "hospital.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "edit",
    [
        lambda t: t.replace(b'"seed":0', b'"seed":"0"'),
        lambda t: t.replace(b'"seed":0', b'"speed":0'),
        lambda t: t.replace(b"hospital/v1", b"hospital/v9"),
        lambda t: t.replace(b'"anchors":{', b'"anchors":[{').replace(b"},", b"}],", 1),
        lambda t: b"{}",
        lambda t: t[:-1],
    ],
)
def test_a_spec_that_is_not_one(tmp_path: Path, edit: Callable[[bytes], bytes]) -> None:
    SPEC.write(tmp_path)
    path = tmp_path / "hospital.json"
    path.write_bytes(edit(path.read_bytes()))
    with pytest.raises(ConfigError):
        HospitalSpec.read(tmp_path)
