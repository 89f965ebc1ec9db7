"""Canonical bytes: unambiguous digests, one JSON encoding, a bounded reader."""

import hashlib
import math
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.canonical import canonical_json, config_digest, parse_json, sha256, tagged_digest
from ledger.errors import (
    CodecError,
    InvalidStatement,
    MalformedUpdate,
    NonCanonicalUpdate,
    OversizeUpdate,
)
from tests.ledger.samples import quick

fields = st.lists(
    st.one_of(st.binary(max_size=8), st.integers(0, 2**256 - 1), st.text(max_size=8)), max_size=5
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_digest_is_the_documented_bytes() -> None:
    expected = hashlib.sha256(
        b"\x03"
        + (2).to_bytes(8, "big")
        + b"t1"
        + b"\x01"
        + (3).to_bytes(8, "big")
        + b"abc"
        + b"\x02"
        + (32).to_bytes(8, "big")
        + (5).to_bytes(32, "big")
        + b"\x03"
        + (2).to_bytes(8, "big")
        + "é".encode()
    ).digest()
    assert tagged_digest("t1", b"abc", 5, "é") == expected


@quick
@given(fields, fields)
def test_different_fields_have_different_digests(a: list[Any], b: list[Any]) -> None:
    same = [(type(x), x) for x in a] == [(type(x), x) for x in b]
    assert (tagged_digest("t", *a) == tagged_digest("t", *b)) == same


def test_bytes_cannot_move_between_fields() -> None:
    seen = {
        tagged_digest("t", b"ab", b"c"),
        tagged_digest("t", b"a", b"bc"),
        tagged_digest("t", b"abc"),
        tagged_digest("t", b"abc", b""),
        tagged_digest("t", "abc"),
        tagged_digest("ta", b"bc"),
    }
    assert len(seen) == 6


@pytest.mark.parametrize("value", [-1, 2**256, True, 1.5, None, "\ud800"])
def test_unhashable_fields_are_refused(value: object) -> None:
    with pytest.raises(InvalidStatement):
        tagged_digest("t", value)  # type: ignore[arg-type]


def test_sha256_joins_its_parts() -> None:
    assert sha256(b"a", b"bc") == hashlib.sha256(b"abc").digest()


@quick
@given(values)
def test_json_round_trips_and_is_canonical(value: object) -> None:
    data = canonical_json(value)
    assert parse_json(data, len(data)) == value
    assert canonical_json(parse_json(data, len(data))) == data
    assert data.isascii()


def test_json_form() -> None:
    value: dict[str, Any] = {"b": (1, 1.0, 0.1, 1e300), "a": {"z": None, "ü": "\n"}}
    assert canonical_json(value) == b'{"a":{"z":null,"\\u00fc":"\\n"},"b":[1,1.0,0.1,1e+300]}'
    reordered: dict[str, Any] = OrderedDict(
        [("a", {"ü": "\n", "z": None}), ("b", [1, 1.0, 0.1, 1e300])]
    )
    assert config_digest(reordered) == config_digest(value)
    assert config_digest(value) == tagged_digest("thoracle/config/v1", canonical_json(value))


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, [-math.inf], {1: 2}, {None: 1}, {1}, b"x", 10**5000, nested(33)],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(InvalidStatement):
        canonical_json(value)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b'{"a":1,"a":2}', NonCanonicalUpdate),
        (b'[{"b":[{"a":1,"a":1}]}]', NonCanonicalUpdate),
        (b"[1", MalformedUpdate),
        (b"", MalformedUpdate),
        (b"NaN", MalformedUpdate),
        (b"[Infinity]", MalformedUpdate),
        (b"1e999", MalformedUpdate),
        (b"-1e999", MalformedUpdate),
        (b"\xff\xfe", MalformedUpdate),
        (b'"\x80"', MalformedUpdate),
        (b"9" * 5000, MalformedUpdate),
        (b"[" * 9000, MalformedUpdate),
        (b"[" * 34 + b"]" * 34, MalformedUpdate),
        (b" " * 10001, OversizeUpdate),
    ],
)
def test_bad_json_is_named(data: bytes, error: type[CodecError]) -> None:
    with pytest.raises(error):
        parse_json(data, 10_000)


@quick
@given(st.binary(max_size=60))
def test_any_bytes_parse_or_raise_a_codec_error(data: bytes) -> None:
    try:
        parse_json(data, 50)
    except CodecError:
        return
    assert len(data) <= 50


def test_deep_nesting_is_refused_before_the_parser_can_overflow_the_stack() -> None:
    """py-evm raises the recursion limit to 100,000; Python's C parser then dies on such input."""
    import sys

    before = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        for data in (b"[" * 200_000, b'{"a":' * 200_000, b'"[[' + b"[" * 200_000):
            with pytest.raises(MalformedUpdate):
                parse_json(data, 1 << 22)
    finally:
        sys.setrecursionlimit(before)
    assert parse_json(b'"' + b"[" * 1000 + b'"', 1 << 22) == "[" * 1000
    assert parse_json(b'["\\"[[[[", {"a": "}"}]', 100) == ['"[[[[', {"a": "}"}]
    assert parse_json(b"[" * 32 + b"]" * 32, 100) is not None


def test_a_quote_that_never_closes_is_looked_at_once() -> None:
    """Two megabytes of quotes: looked at again from each of them, this would take hours."""
    with pytest.raises(MalformedUpdate):
        parse_json(b'"' + b'\\"' * (1 << 20), 1 << 22)
    assert parse_json(b'"' + b'\\"' * (1 << 20) + b'"', 1 << 22) == '"' * (1 << 20)
