"""Messages: plain values in, the same message out, and nothing undeclared passes."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import CodecError, InvalidStatement, OversizeUpdate, UndeclaredOutput
from ledger.messages import (
    MAX_CONFIG,
    MAX_METRICS,
    AttestReply,
    ProposalOrder,
    Record,
    TrainOrder,
    TrainReply,
)
from tests.ledger.samples import HOSPITAL, addresses, digests, quick

ALLOWED = frozenset({"loss", "auc", "steps"})
TRAIN_ORDER = TrainOrder(
    round=3, base_model_bytes=b"model", config=b"{}", public_keys=(b"a" * 1216,), key_epoch=1
)
TRAIN_REPLY = TrainReply(
    hospital=HOSPITAL, round=3, ciphertext=b"sealed", metrics={"loss": 0.5, "auc": 0.6}
)
PROPOSAL = ProposalOrder(round=3, sum_bytes=b"sum")
ATTEST = AttestReply(
    hospital=HOSPITAL, round=3, attested=True, code=0, model_digest=bytes(32), metrics={}
)
ALL: list[Any] = [TRAIN_ORDER, TRAIN_REPLY, PROPOSAL, ATTEST]
metrics = st.dictionaries(
    st.sampled_from(sorted(ALLOWED)), st.floats(allow_nan=False, allow_infinity=False)
)


def read(kind: Any, record: Any) -> Any:
    if kind in (TrainReply, AttestReply):
        return kind.from_record(record, allowed_metrics=ALLOWED)
    return kind.from_record(record)


def kind_id(message: Any) -> str:
    return type(message).__name__


@pytest.mark.parametrize("message", ALL, ids=kind_id)
def test_messages_round_trip_through_plain_values(message: Any) -> None:
    record = message.to_record()
    assert read(type(message), record) == message
    for value in record.values():
        assert type(value) in (bytes, int, str, float, list)  # no bool: not every carrier has one


@quick
@given(addresses, st.integers(0, 2**32 - 1), st.binary(max_size=50), metrics)
def test_train_replies_round_trip(hospital: str, n: int, body: bytes, found: Any) -> None:
    reply = TrainReply(hospital=hospital, round=n, ciphertext=body, metrics=found)
    assert TrainReply.from_record(reply.to_record(), allowed_metrics=ALLOWED) == reply


@quick
@given(addresses, st.integers(0, 2**32 - 1), st.integers(0, 255), digests, metrics)
def test_attest_replies_round_trip(
    hospital: str, n: int, code: int, digest: bytes, found: Any
) -> None:
    reply = AttestReply(
        hospital=hospital,
        round=n,
        attested=code == 0,
        code=code,
        model_digest=digest,
        metrics=found,
    )
    assert AttestReply.from_record(reply.to_record(), allowed_metrics=ALLOWED) == reply


@pytest.mark.parametrize("reply", [TRAIN_REPLY, ATTEST], ids=kind_id)
def test_undeclared_metric(reply: Any) -> None:
    record = {**reply.to_record(), "metric_names": ["patients"], "metric_values": [1.0]}
    with pytest.raises(UndeclaredOutput, match="patients"):
        read(type(reply), record)


@pytest.mark.parametrize("reply", [TRAIN_REPLY, ATTEST], ids=kind_id)
@pytest.mark.parametrize("name", ["patients", "metric_extra", "metrics", "Round", ""])
def test_undeclared_field_of_a_reply(reply: Any, name: str) -> None:
    with pytest.raises(UndeclaredOutput):
        read(type(reply), {**reply.to_record(), name: 1})


@pytest.mark.parametrize("order", [TRAIN_ORDER, PROPOSAL], ids=kind_id)
def test_unknown_field_of_an_order(order: Any) -> None:
    with pytest.raises(InvalidStatement, match="extra"):
        read(type(order), {**order.to_record(), "extra": 1})


@pytest.mark.parametrize("message", ALL, ids=kind_id)
def test_every_field_is_needed_and_typed(message: Any) -> None:
    record: Record = message.to_record()
    wrong: list[Any] = [None, {}, object(), 1.5, -1, [None], "x", b"x", [[]], True]
    for name, value in record.items():
        with pytest.raises(InvalidStatement):
            read(type(message), {k: v for k, v in record.items() if k != name})
        for other in wrong:
            if type(other) is type(value):
                continue
            with pytest.raises((CodecError, UndeclaredOutput)):
                read(type(message), {**record, name: other})


BAD: dict[str, tuple[Any, dict[str, Any], type[Exception]]] = {
    "round too large": (PROPOSAL, {"round": 2**32}, InvalidStatement),
    "round is a bool": (PROPOSAL, {"round": True}, InvalidStatement),
    "config too long": (TRAIN_ORDER, {"config": bytes(MAX_CONFIG + 1)}, OversizeUpdate),
    "no keys": (TRAIN_ORDER, {"public_keys": []}, InvalidStatement),
    "five keys": (TRAIN_ORDER, {"public_keys": [b"k"] * 5}, InvalidStatement),
    "long key": (TRAIN_ORDER, {"public_keys": [bytes(2049)]}, InvalidStatement),
    "lower-case address": (TRAIN_REPLY, {"hospital": HOSPITAL.lower()}, InvalidStatement),
    "attested but coded": (ATTEST, {"code": 40}, InvalidStatement),
    "attested is true": (ATTEST, {"attested": True}, InvalidStatement),
    "attested is two": (ATTEST, {"attested": 2}, InvalidStatement),
    "short digest": (ATTEST, {"model_digest": bytes(31)}, InvalidStatement),
    "metrics of two lengths": (TRAIN_REPLY, {"metric_values": [1.0]}, InvalidStatement),
    "metric twice": (
        TRAIN_REPLY,
        {"metric_names": ["loss", "loss"], "metric_values": [1.0, 2.0]},
        InvalidStatement,
    ),
    "metric is nan": (TRAIN_REPLY, {"metric_values": [0.5, math.nan]}, InvalidStatement),
    "metric is inf": (TRAIN_REPLY, {"metric_values": [0.5, math.inf]}, InvalidStatement),
    "metric is an integer": (TRAIN_REPLY, {"metric_values": [0.5, 2**70]}, InvalidStatement),
    "metric is text": (TRAIN_REPLY, {"metric_values": [0.5, "private"]}, InvalidStatement),
    "metric name is bytes": (TRAIN_REPLY, {"metric_names": [b"loss", "auc"]}, InvalidStatement),
    "metric flood": (
        TRAIN_REPLY,
        {"metric_names": ["loss"] * 999, "metric_values": [1.0] * 999},
        InvalidStatement,
    ),
}


@pytest.mark.parametrize("row", BAD)
def test_bad_records(row: str) -> None:
    message, change, error = BAD[row]
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the exact type is asserted below
        read(type(message), {**message.to_record(), **change})
    assert type(caught.value) is error


def test_a_hospital_without_standing_answers_without_a_code() -> None:
    found = read(AttestReply, {**ATTEST.to_record(), "attested": 0})
    assert not found.attested
    assert found.code == 0


def test_an_empty_allow_list_lets_no_metric_out() -> None:
    with pytest.raises(UndeclaredOutput):
        TrainReply.from_record(TRAIN_REPLY.to_record(), allowed_metrics=())
    silent = TrainReply(hospital=HOSPITAL, round=3, ciphertext=b"", metrics={})
    assert TrainReply.from_record(silent.to_record(), allowed_metrics=()) == silent


def test_a_hospital_cannot_even_build_a_bad_reply() -> None:
    bad: Any
    for bad in ({"loss": math.nan}, {"": 1.0}, {"é": 1.0}, {"a" * 65: 1.0}, {"loss": 1}):
        with pytest.raises(InvalidStatement):
            TrainReply(hospital=HOSPITAL, round=3, ciphertext=b"", metrics=bad)
    many = {str(i): 1.0 for i in range(MAX_METRICS + 1)}
    with pytest.raises(InvalidStatement):
        TrainReply(hospital=HOSPITAL, round=3, ciphertext=b"", metrics=many)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)


@quick
@given(st.sampled_from(ALL), st.data())
def test_any_values_are_a_message_or_a_named_error(message: Any, data: st.DataObject) -> None:
    record = dict(message.to_record())
    for name in data.draw(st.sets(st.sampled_from(sorted(record)), min_size=1)):
        record[name] = data.draw(values)
    try:
        found = read(type(message), record)
    except (CodecError, UndeclaredOutput):
        return
    assert read(type(message), found.to_record()) == found


def test_bytes_do_not_flood_a_log() -> None:
    order = TrainOrder(
        round=1, base_model_bytes=bytes(10**6), config=b"{}", public_keys=(b"k",), key_epoch=0
    )
    assert len(repr(order)) < 200
    assert json.dumps(repr(order))
