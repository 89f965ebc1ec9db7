"""A message's record as plain bytes, for a local pipe: a JSON header, then the blobs in order.

    4 bytes   length of the header, big-endian
    header    canonical JSON; a byte string stands there as {"bytes": its length}
    blobs     the byte strings, in the header's (sorted) order

Both ends are this program on one machine; lengths are checked all the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from ledger.canonical import canonical_json, parse_json
from ledger.errors import MalformedUpdate
from ledger.messages import MAX_CONFIG, Record

_MAX_HEADER = 2 * MAX_CONFIG


def pack(record: Mapping[str, object]) -> bytes:
    """Return a record of bytes, numbers, texts and lists of them as one byte string."""
    blobs: list[bytes] = []
    header = canonical_json({key: _out(record[key], blobs) for key in sorted(record)})
    return b"".join((len(header).to_bytes(4, "big"), header, *blobs))


def unpack(data: bytes) -> Record:
    """Return the record of a packed byte string.

    Raises:
        MalformedUpdate: a length does not fit.
    """
    length = int.from_bytes(data[:4], "big")
    header = parse_json(data[4 : 4 + length], _MAX_HEADER)
    if not isinstance(header, dict):
        raise MalformedUpdate("a framed message has no header")
    parts = _Parts(data, 4 + length)
    record: Record = {key: parts.take(value) for key, value in header.items()}  # type: ignore[misc]
    if parts.at != len(data):
        raise MalformedUpdate("a framed message has trailing bytes")
    return record


class _Parts:
    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def take(self, value: object) -> object:
        if isinstance(value, list):
            return [self.take(item) for item in value]
        if not isinstance(value, dict):
            return value
        length = value.get("bytes")
        if not isinstance(length, int) or not 0 <= length <= len(self.data) - self.at:
            raise MalformedUpdate("a framed message is cut short")
        self.at += length
        return self.data[self.at - length : self.at]


def _out(value: object, blobs: list[bytes]) -> object:
    if isinstance(value, bytes):
        blobs.append(value)
        return {"bytes": len(value)}
    if isinstance(value, list):
        return [_out(item, blobs) for item in value]
    return value
