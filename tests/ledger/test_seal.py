"""Sealing: opens for its recipients in its context, and breaks by name for everything else."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite
from hypothesis import given
from hypothesis import strategies as st

from ledger.canonical import tagged_digest
from ledger.errors import BadKey, InvalidStatement, OversizeUpdate, SealBroken
from ledger.seal import (
    MAX_RECIPIENTS,
    PUBLIC_BYTES,
    SealContext,
    SealKey,
    check_announced,
    check_public,
    key_digest,
    key_from_seed,
    key_id,
    new_key,
    seal,
    sealed_size,
    unseal,
)
from tests.ledger.samples import CONTEXT, DOMAIN, OTHER, quick

COORDINATOR, AUDITOR, STRANGER = (key_from_seed(bytes([n]) * 96) for n in (1, 2, 3))
SEALED = seal(b"an opening", [COORDINATOR.public, AUDITOR.public], CONTEXT)


@quick
@given(st.binary(max_size=300), st.integers(1, MAX_RECIPIENTS))
def test_every_recipient_opens_it(plaintext: bytes, count: int) -> None:
    keys = [key_from_seed(bytes([n]) * 96) for n in range(count)]
    sealed = seal(plaintext, [key.public for key in keys], CONTEXT)
    assert len(sealed) == sealed_size(len(plaintext), count)
    assert all(unseal(sealed, key, CONTEXT) == plaintext for key in keys)


def test_two_seals_of_one_plaintext_differ() -> None:
    assert seal(b"x", [COORDINATOR.public], CONTEXT) != seal(b"x", [COORDINATOR.public], CONTEXT)


def test_the_format_is_the_documented_one() -> None:
    """Opened by hand, from docs/wire.md and the libraries alone."""
    info = tagged_digest(
        "thoracle/seal-context/v1",
        DOMAIN.federation_id,
        DOMAIN.chain_id,
        DOMAIN.contract,
        CONTEXT.round,
        CONTEXT.hospital,
        CONTEXT.base_model,
        CONTEXT.key_epoch,
    )
    assert SEALED[:16] == b"thoracle/seal/v1"
    assert SEALED[16] == 2
    second = 49 + 1200
    assert SEALED[second : second + 32] == tagged_digest("thoracle/key-id/v1", AUDITOR.public)
    private = MLKEM768X25519PrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(bytes([2]) * 64),
        X25519PrivateKey.from_private_bytes(bytes([2]) * 32),
    )
    suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    content_key = suite.decrypt(SEALED[second + 32 : second + 1200], private, info)
    assert SEALED[17:49] == tagged_digest("thoracle/content-key/v1", content_key, info)
    head = SEALED[: second + 1200]
    body = SEALED[second + 1200 :]
    assert AESGCM(content_key).decrypt(bytes(12), body, head + info) == b"an opening"


SWAPPED = {
    "round": replace(CONTEXT, round=4),
    "hospital": replace(CONTEXT, hospital=OTHER),
    "base_model": replace(CONTEXT, base_model=bytes(32)),
    "key_epoch": replace(CONTEXT, key_epoch=2),
    "chain": replace(CONTEXT, domain=replace(DOMAIN, chain_id=1)),
    "federation": replace(CONTEXT, domain=replace(DOMAIN, federation_id=bytes(32))),
    "contract": replace(CONTEXT, domain=replace(DOMAIN, contract=OTHER)),
}


@pytest.mark.parametrize("context", SWAPPED.values(), ids=SWAPPED)
def test_context_swapped(context: SealContext) -> None:
    with pytest.raises(SealBroken):
        unseal(SEALED, COORDINATOR, context)
    assert unseal(SEALED, COORDINATOR, CONTEXT) == b"an opening"


def test_wrong_recipient() -> None:
    with pytest.raises(SealBroken, match="not sealed to"):
        unseal(SEALED, STRANGER, CONTEXT)


def test_wrong_private_half_under_the_right_name() -> None:
    with pytest.raises(SealBroken):
        unseal(SEALED, SealKey(seed=STRANGER.seed, public=COORDINATOR.public), CONTEXT)


@quick
@given(st.integers(0, len(SEALED) - 1), st.integers(0, 7), st.booleans())
def test_ciphertext_bitflip(at: int, bit: int, auditor: bool) -> None:
    data = bytearray(SEALED)
    data[at] ^= 1 << bit
    with pytest.raises(SealBroken):
        unseal(bytes(data), AUDITOR if auditor else COORDINATOR, CONTEXT)


@quick
@given(st.integers(0, len(SEALED) - 1))
def test_truncated_ciphertext(length: int) -> None:
    with pytest.raises(SealBroken):
        unseal(SEALED[:length], COORDINATOR, CONTEXT)


@quick
@given(st.binary(max_size=100), st.integers(0, 255))
def test_rubbish(data: bytes, count: int) -> None:
    for rubbish in (data, SEALED[:16] + data, SEALED[:16] + bytes([count]) + data * 40):
        with pytest.raises(SealBroken):
            unseal(rubbish, COORDINATOR, CONTEXT)


def test_trailing_bytes_and_a_recipient_cut_out() -> None:
    with pytest.raises(SealBroken):
        unseal(SEALED + b"\0", COORDINATOR, CONTEXT)
    alone = SEALED[:16] + b"\x01" + SEALED[17 : 49 + 1200] + SEALED[49 + 2400 :]
    with pytest.raises(SealBroken):
        unseal(alone, COORDINATOR, CONTEXT)


def test_one_ciphertext_cannot_hold_two_content_keys() -> None:
    """A hospital that wraps another content key for the auditor is caught by the commitment."""
    other = seal(b"an opening", [AUDITOR.public], CONTEXT)
    mixed = SEALED[: 49 + 1200] + other[49 : 49 + 1200] + SEALED[49 + 2400 :]
    with pytest.raises(SealBroken, match="committed"):
        unseal(mixed, AUDITOR, CONTEXT)


def test_a_plaintext_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.seal.MAX_PLAINTEXT", 5)
    with pytest.raises(OversizeUpdate):
        seal(b"123456", [COORDINATOR.public], CONTEXT)
    with pytest.raises(SealBroken, match="bound"):
        unseal(SEALED, COORDINATOR, CONTEXT)


def test_a_negative_round_is_no_context() -> None:
    with pytest.raises(InvalidStatement):
        seal(b"", [COORDINATOR.public], replace(CONTEXT, round=-1))


# ---- public keys ----

P = 2**255 - 19
# All points of small order, in every encoding (https://cr.yp.to/ecdh.html#validate).
LOW_ORDER = [
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    P - 1,
    P,
    P + 1,
    2**256 - 1,
]


@pytest.mark.parametrize("point", LOW_ORDER)
def test_low_order_key(point: int) -> None:
    public = COORDINATOR.public[:1184] + point.to_bytes(32, "little")
    with pytest.raises(BadKey):
        check_public(public)
    with pytest.raises(BadKey):
        seal(b"", [public], CONTEXT)


def test_a_point_written_in_a_second_way_is_refused() -> None:
    value = int.from_bytes(COORDINATOR.public[1184:], "little") | 1 << 255
    with pytest.raises(BadKey, match="canonical"):
        check_public(COORDINATOR.public[:1184] + value.to_bytes(32, "little"))


@pytest.mark.parametrize(
    "public",
    [b"", bytes(1215), bytes(1217), b"\xff" * 1184 + COORDINATOR.public[1184:], "x" * 1216],
    ids=["empty", "short", "long", "coefficient out of range", "text"],
)
def test_malformed_key(public: bytes) -> None:
    with pytest.raises(BadKey):
        check_public(public)


@quick
@given(st.binary(min_size=PUBLIC_BYTES, max_size=PUBLIC_BYTES))
def test_any_bytes_are_a_key_or_refused(public: bytes) -> None:
    try:
        check_public(public)
    except BadKey:
        return
    assert len(seal(b"", [public], CONTEXT)) == sealed_size(0, 1)


def test_recipients_are_one_to_four_and_different() -> None:
    for recipients in ([], [COORDINATOR.public] * 2, [new_key().public for _ in range(5)]):
        with pytest.raises(BadKey):
            seal(b"", recipients, CONTEXT)


@pytest.mark.parametrize("seed", [b"", bytes(95), bytes(97)])
def test_a_private_key_is_96_bytes(seed: bytes) -> None:
    with pytest.raises(BadKey):
        key_from_seed(seed)
    with pytest.raises(BadKey):
        unseal(SEALED, SealKey(seed=seed, public=COORDINATOR.public), CONTEXT)


def test_substituted_hpke_key() -> None:
    publics = [COORDINATOR.public, AUDITOR.public]
    announced = key_digest(publics, 1)
    check_announced(publics, 1, announced)
    for offered, epoch in (
        ([STRANGER.public, AUDITOR.public], 1),
        ([AUDITOR.public, COORDINATOR.public], 1),
        ([COORDINATOR.public], 1),
        ([*publics, STRANGER.public], 1),
        (publics, 2),
    ):
        with pytest.raises(BadKey, match="announced"):
            check_announced(offered, epoch, announced)


def test_an_announced_key_of_low_order_is_refused_all_the_same() -> None:
    bad = COORDINATOR.public[:1184] + bytes(32)
    with pytest.raises(BadKey, match="low order"):
        check_announced([bad], 1, key_digest([bad], 1))


def test_key_digest_bounds_its_keys() -> None:
    for publics in ([], [COORDINATOR.public] * 5, [b"short"]):
        with pytest.raises(BadKey):
            key_digest(publics, 1)


def test_a_private_key_does_not_print_itself() -> None:
    key = new_key()
    for text in (repr(key), str(key), f"{key}"):
        assert key.seed.hex()[:16] not in text
        assert repr(key.seed)[2:20] not in text
    assert key_id(key.public).hex()[:16] in str(key)
    assert new_key().seed != key.seed
