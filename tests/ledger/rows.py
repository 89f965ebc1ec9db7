"""The codec rows of the attack catalogue: each name's file, and the error it must raise."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np

from ledger.errors import (
    CodecError,
    MalformedUpdate,
    NonCanonicalUpdate,
    OversizeUpdate,
    SpecMismatch,
)
from ledger.manifest import encode_tensors
from tests.ledger.samples import MANIFEST, update

GOOD = encode_tensors(MANIFEST, update(MANIFEST.size))


def rebuild(
    change: Callable[[dict[str, Any]], Any] | None = None,
    *,
    text: str | None = None,
    body: bytes | None = None,
) -> bytes:
    """Return GOOD with another header or body, lengths consistent."""
    length = int.from_bytes(GOOD[:8], "little")
    header = json.loads(GOOD[8 : 8 + length])
    if change is not None:
        changed = change(header)
        header = header if changed is None else changed
    raw = (text if text is not None else json.dumps(header, separators=(",", ":"))).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw + (GOOD[8 + length :] if body is None else body)


def header_text() -> str:
    return GOOD[8 : 8 + int.from_bytes(GOOD[:8], "little")].decode().rstrip()


def zipped() -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("update", bytes(1 << 20))
    return stream.getvalue()


def without_scale(header: dict[str, Any]) -> None:
    header.pop("scale")


def with_extra(header: dict[str, Any]) -> None:
    header["zzz"] = {"dtype": "I16", "shape": [1], "data_offsets": [20, 22]}


def transposed(header: dict[str, Any]) -> None:
    header["head.weight"]["shape"] = [2, 3]


def reordered(header: dict[str, Any]) -> dict[str, Any]:
    return dict(reversed(header.items()))


def shifted(header: dict[str, Any]) -> None:
    header["head.bias"]["data_offsets"] = [2, 8]


def with_metadata(header: dict[str, Any]) -> dict[str, Any]:
    return {"__metadata__": {"a": "b"}, **header}


def minimum() -> bytes:
    q = update(MANIFEST.size)
    q[4] = -32768
    return encode_tensors(MANIFEST, q)


ROWS: dict[str, tuple[bytes, type[CodecError]]] = {
    "empty": (b"", MalformedUpdate),
    "seven_bytes": (GOOD[:7], MalformedUpdate),
    "truncated_header": (GOOD[:40], MalformedUpdate),
    "truncated_update": (GOOD[:-1], MalformedUpdate),
    "trailing_bytes": (GOOD + b"\0", MalformedUpdate),
    "no_json": (rebuild(text="not json"), MalformedUpdate),
    "json_list": (rebuild(text="[1]"), MalformedUpdate),
    "deep_json": (rebuild(text="[" * 2000), MalformedUpdate),
    "entry_not_a_tensor": (rebuild(lambda h: {**h, "scale": [1]}), MalformedUpdate),
    "zero_header": (bytes(8) + GOOD[8:], MalformedUpdate),
    "huge_header": (struct.pack("<Q", 2**60) + GOOD[8:], OversizeUpdate),
    "header_above_bound": (struct.pack("<Q", 100_000) + bytes(100), OversizeUpdate),
    "flood": (GOOD + bytes(1 << 20), OversizeUpdate),
    "zip_bomb": (zipped(), OversizeUpdate),
    "missing_tensor": (rebuild(without_scale), SpecMismatch),
    "missing_tensor_and_data": (rebuild(without_scale, body=GOOD[-20:-2]), SpecMismatch),
    "extra_tensor": (rebuild(with_extra, body=GOOD[-20:] + b"\0\0"), SpecMismatch),
    "transposed_shape": (rebuild(transposed), SpecMismatch),
    "wrong_dtype": (
        encode_tensors(MANIFEST, update(MANIFEST.size).astype(np.int64)),
        SpecMismatch,
    ),
    "float_update": (
        encode_tensors(MANIFEST, update(MANIFEST.size).astype(np.float32)),
        SpecMismatch,
    ),
    "duplicate_header_key": (
        rebuild(
            text=header_text()[:-1] + ',"scale":{"dtype":"I16","shape":[],"data_offsets":[18,20]}}'
        ),
        NonCanonicalUpdate,
    ),
    "duplicate_inner_key": (
        rebuild(text=header_text().replace('"dtype":"I16",', '"dtype":"I16","dtype":"I16",', 1)),
        NonCanonicalUpdate,
    ),
    "header_whitespace": (rebuild(text=header_text().replace(":", ": ", 1)), NonCanonicalUpdate),
    "leading_whitespace": (rebuild(text=" " + header_text()), NonCanonicalUpdate),
    "extra_padding": (rebuild(text=header_text() + " " * 8), NonCanonicalUpdate),
    "other_order": (rebuild(reordered), NonCanonicalUpdate),
    "overlapping_offsets": (rebuild(shifted), NonCanonicalUpdate),
    "metadata": (rebuild(with_metadata), NonCanonicalUpdate),
    "escaped_name": (
        rebuild(text=header_text().replace("scale", "\\u0073cale")),
        NonCanonicalUpdate,
    ),
    "int16_min": (minimum(), NonCanonicalUpdate),
}
