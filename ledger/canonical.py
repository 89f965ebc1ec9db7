"""Canonical bytes: domain-separated digests and the one JSON encoding that is ever hashed.

A digest is SHA-256 over typed, length-prefixed fields, so that no two different lists of fields
share their bytes, and a digest of one kind can never be passed off as one of another. The formats
are given byte by byte in ``docs/wire.md``.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping

import numpy as np

from ledger.errors import InvalidStatement, MalformedUpdate, NonCanonicalUpdate, OversizeUpdate

MAX_DEPTH = 32
"""Deepest nesting of a JSON value that is written or read."""
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
"""A string, or what is left from a quote that never closes: so each byte is looked at once."""
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

_BYTES, _INT, _STR = b"\x01", b"\x02", b"\x03"


def sha256(*parts: bytes) -> bytes:
    """Return SHA-256 (32 bytes) over the concatenated ``parts``."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def _payload(value: bytes | int | str) -> tuple[bytes, bytes]:
    if isinstance(value, bytes):
        return _BYTES, value
    if isinstance(value, str):
        try:
            return _STR, value.encode()
        except UnicodeEncodeError:
            raise InvalidStatement("a hashed text holds a lone surrogate") from None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 256:
        raise InvalidStatement(f"a hashed integer must be within 0 and 2^256 - 1, not {value!r}")
    return _INT, value.to_bytes(32, "big")


def tagged_digest(tag: str, *fields: bytes | int | str) -> bytes:
    """Return the domain-separated SHA-256 of ``fields`` under ``tag`` (32 bytes).

    Hashed are, for the tag (as text) and then each field: one type byte (1 bytes, 2 integer,
    3 text), the payload's length as 8 big-endian bytes, and the payload (an integer as 32
    big-endian bytes, text as UTF-8).

    Raises:
        InvalidStatement: an integer is negative or over 256 bits, or a text is not Unicode.
    """
    hasher = hashlib.sha256()
    for field in (tag, *fields):
        kind, payload = _payload(field)
        hasher.update(kind + len(payload).to_bytes(8, "big"))
        hasher.update(payload)
    return hasher.digest()


def _check(value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidStatement(f"a JSON value is nested deeper than {MAX_DEPTH}")
    if value is None or isinstance(value, str | bool | int):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidStatement("a JSON number must be finite")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidStatement(f"a JSON key must be text, not {key!r}")
            _check(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item, depth + 1)
    else:
        raise InvalidStatement(f"JSON cannot hold a {type(value).__name__}")


def canonical_json(value: object) -> bytes:
    """Return the one JSON encoding of ``value``: ASCII, keys sorted, no whitespace.

    Floats are written by their shortest round-trip form, as Python's ``repr`` does; ``1`` and
    ``1.0`` stay different. Tuples become arrays.

    Raises:
        InvalidStatement: a number is not finite, a key is not text, a type is foreign to JSON, or
            the value is nested too deep.
    """
    _check(value, 0)
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
        )
    except ValueError as error:  # integers beyond Python's digit limit
        raise InvalidStatement(f"cannot be written as JSON: {error}") from None
    return text.encode("ascii")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NonCanonicalUpdate("a JSON object names a key twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise MalformedUpdate(f"the JSON number {text[:32]} is not finite")
    return value


def _no_constant(text: str) -> object:
    raise MalformedUpdate(f"{text} is not JSON")


def parse_json(data: bytes, limit: int) -> object:
    """Parse at most ``limit`` bytes of UTF-8 JSON from an untrusted party.

    Raises:
        OversizeUpdate: ``data`` is longer than ``limit`` (nothing was parsed).
        NonCanonicalUpdate: an object names a key twice.
        MalformedUpdate: not JSON, a number that is not finite, or nested too deep.
    """
    if len(data) > limit:
        raise OversizeUpdate(f"{len(data)} bytes of JSON are over the bound of {limit}")
    _check_nesting(data)
    try:
        value: object = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_finite,
            parse_constant=_no_constant,
        )
        _check(value, 0)
    except (ValueError, RecursionError, InvalidStatement) as error:
        raise MalformedUpdate(f"not readable JSON: {str(error)[:200]}") from None
    return value


def _check_nesting(data: bytes) -> None:
    """Refuse deep nesting before parsing: Python's parser recurses in C.

    Its own guard is the interpreter's recursion limit, which py-evm raises to 100,000: there a
    megabyte of brackets ends the process with a segmentation fault, and no handler sees it.
    """
    brackets = _STRING.sub(b"", data).translate(None, _NOT_BRACKETS)
    if not brackets:
        return
    kinds = np.frombuffer(brackets, dtype=np.uint8)
    opening = (kinds == ord("[")) | (kinds == ord("{"))
    depth = int(np.cumsum(np.where(opening, 1, -1), dtype=np.int64).max())
    if depth > MAX_DEPTH + 1:  # _check counts from zero
        raise MalformedUpdate(f"not readable JSON: nested deeper than {MAX_DEPTH}")


def config_digest(config: Mapping[str, object]) -> bytes:
    """Return the digest of a round's configuration, as the contract records it (32 bytes)."""
    return tagged_digest("thoracle/config/v1", canonical_json(dict(config)))
