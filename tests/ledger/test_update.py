"""Openings: bound to everything they belong to, and decoded within bounds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import CodecError, InvalidStatement, MalformedUpdate, NonCanonicalUpdate
from ledger.manifest import encode_tensors
from ledger.update import OPENING_FORMAT, decode_opening, encode_opening, opening_digest
from tests.ledger.samples import DOMAIN, HOSPITAL, MANIFEST, OTHER, digests, quick, update

FILE = encode_tensors(MANIFEST, update(MANIFEST.size))
SALT = bytes(range(32))
BASE = bytes([9]) * 32
OPENING = encode_opening(SALT, FILE)


@quick
@given(digests, st.integers(0, 99))
def test_openings_round_trip(salt: bytes, seed: int) -> None:
    file = encode_tensors(MANIFEST, update(MANIFEST.size, seed))
    found_salt, found_file, q = decode_opening(encode_opening(salt, file), MANIFEST)
    assert (found_salt, found_file) == (salt, file)
    assert np.array_equal(q, update(MANIFEST.size, seed))


def test_the_digest_binds_every_part() -> None:
    chain = replace(DOMAIN, chain_id=1)
    federation = replace(DOMAIN, federation_id=bytes(32))
    contract = replace(DOMAIN, contract=OTHER)
    digests = {
        opening_digest(DOMAIN, HOSPITAL, BASE, 3, SALT, FILE),
        opening_digest(chain, HOSPITAL, BASE, 3, SALT, FILE),
        opening_digest(federation, HOSPITAL, BASE, 3, SALT, FILE),
        opening_digest(contract, HOSPITAL, BASE, 3, SALT, FILE),
        opening_digest(DOMAIN, OTHER, BASE, 3, SALT, FILE),
        opening_digest(DOMAIN, HOSPITAL, bytes(32), 3, SALT, FILE),
        opening_digest(DOMAIN, HOSPITAL, BASE, 4, SALT, FILE),
        opening_digest(DOMAIN, HOSPITAL, BASE, 3, bytes(32), FILE),
        opening_digest(DOMAIN, HOSPITAL, BASE, 3, SALT, FILE[:-1] + b"x"),
    }
    assert len(digests) == 9


@pytest.mark.parametrize("salt", [b"", bytes(31), bytes(33), "0" * 32])
def test_a_salt_is_32_bytes(salt: bytes) -> None:
    with pytest.raises(InvalidStatement):
        encode_opening(salt, FILE)
    with pytest.raises(InvalidStatement):
        opening_digest(DOMAIN, HOSPITAL, BASE, 3, salt, FILE)


@pytest.mark.parametrize(
    "data", [b"", OPENING[:47], b"x" + OPENING[1:], FILE, OPENING_FORMAT + SALT, OPENING + b"\0"]
)
def test_what_is_no_opening_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedUpdate):
        decode_opening(data, MANIFEST)


def test_int16_min_is_refused() -> None:
    q = update(MANIFEST.size)
    q[0] = -32768
    with pytest.raises(NonCanonicalUpdate):
        decode_opening(encode_opening(SALT, encode_tensors(MANIFEST, q)), MANIFEST)


@quick
@given(st.integers(0, len(OPENING) - 1), st.integers(1, 255))
def test_a_changed_byte_raises_or_changes_the_digest(at: int, flip: int) -> None:
    data = bytearray(OPENING)
    data[at] ^= flip
    try:
        salt, file, _ = decode_opening(bytes(data), MANIFEST)
    except CodecError:
        return
    honest = opening_digest(DOMAIN, HOSPITAL, BASE, 3, SALT, FILE)
    assert opening_digest(DOMAIN, HOSPITAL, BASE, 3, salt, file) != honest


@quick
@given(st.binary(max_size=200))
def test_rubbish_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode_opening(data, MANIFEST)
    with pytest.raises(CodecError):
        decode_opening(OPENING_FORMAT + data, MANIFEST)
