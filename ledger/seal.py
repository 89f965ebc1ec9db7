"""Sealing an update to the coordinator (and an auditor) so that no one else can open it.

Hybrid public-key encryption, RFC 9180, with the post-quantum hybrid KEM ML-KEM-768 + X25519: a
one-time content key is sealed to each recipient with the whole context as ``info``, the body once
under AES-256-GCM. A commitment to the content key stands in front: without it one ciphertext could
open to different plaintexts for two recipients (Len, Grubbs and Ristenpart 2021). Byte by byte in
``docs/wire.md``.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from ledger.canonical import tagged_digest
from ledger.errors import BadKey, OversizeUpdate, SealBroken
from ledger.statement import Domain

FORMAT = b"thoracle/seal/v1"
PUBLIC_BYTES = 1184 + 32
SEED_BYTES = 64 + 32
MAX_RECIPIENTS = 4
MAX_PLAINTEXT = 1 << 30
"""Largest plaintext: under the 2^31 - 1 bytes that the AES-GCM call takes."""

_WRAP = 1120 + 32 + 16  # HPKE: encapsulated key, content key, tag
_ENTRY = 32 + _WRAP
_TAG = 16
_PRIME = 2**255 - 19
# A content key seals exactly one body, so a fixed nonce is used once under each key.
_NONCE = bytes(12)
_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


@dataclass(frozen=True, kw_only=True)
class SealContext:
    """Where a sealed update belongs; it opens nowhere else."""

    domain: Domain
    round: int
    hospital: str
    base_model: bytes
    key_epoch: int

    def info(self) -> bytes:
        """Return HPKE's ``info``: a tagged digest of every field (32 bytes).

        Raises:
            InvalidStatement: round or epoch is negative.
        """
        return tagged_digest(
            "thoracle/seal-context/v1",
            self.domain.federation_id,
            self.domain.chain_id,
            self.domain.contract,
            self.round,
            self.hospital,
            self.base_model,
            self.key_epoch,
        )


@dataclass(frozen=True, kw_only=True)
class SealKey:
    """A private key of both halves; ``public`` is its 1216-byte public key."""

    seed: bytes = field(repr=False)
    public: bytes = field(repr=False)

    def __str__(self) -> str:
        return f"SealKey({key_id(self.public).hex()[:16]})"


def _private(seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    if not isinstance(seed, bytes) or len(seed) != SEED_BYTES:
        raise BadKey(f"a private sealing key is {SEED_BYTES} bytes")
    return (
        MLKEM768PrivateKey.from_seed_bytes(seed[:64]),
        X25519PrivateKey.from_private_bytes(seed[64:]),
    )


def key_from_seed(seed: bytes) -> SealKey:
    """Return the key of a seed: 64 bytes for ML-KEM-768 (FIPS 203: d, z), 32 for X25519.

    Raises:
        BadKey: not 96 bytes.
    """
    lattice, curve = _private(seed)
    public = lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
    return SealKey(seed=seed, public=public)


def new_key() -> SealKey:
    """Return a fresh key from the operating system's entropy."""
    return key_from_seed(secrets.token_bytes(SEED_BYTES))


def check_public(public: bytes) -> MLKEM768X25519PublicKey:
    """Return the library's form of a public key that came from elsewhere.

    Raises:
        BadKey: another length, an ML-KEM coefficient out of range (FIPS 203, 7.2), an X25519 point
            that is of low order or not written canonically (RFC 7748, 6.1).
    """
    if not isinstance(public, bytes) or len(public) != PUBLIC_BYTES:
        raise BadKey(f"a public sealing key is {PUBLIC_BYTES} bytes")
    if int.from_bytes(public[1184:], "little") >= _PRIME:
        raise BadKey("the X25519 half of a public key is not in canonical form")
    try:
        lattice = MLKEM768PublicKey.from_public_bytes(public[:1184])
        curve = X25519PublicKey.from_public_bytes(public[1184:])
        # The library refuses the all-zero secret that every point of low order gives.
        X25519PrivateKey.generate().exchange(curve)
    except ValueError:
        raise BadKey("a public sealing key is malformed or of low order") from None
    return MLKEM768X25519PublicKey(lattice, curve)


def key_id(public: bytes) -> bytes:
    """Return the 32 bytes that name a public key inside a ciphertext."""
    return tagged_digest("thoracle/key-id/v1", public)


def key_digest(publics: list[bytes] | tuple[bytes, ...], epoch: int) -> bytes:
    """Return what the chain records of a round's recipients (32 bytes).

    Args:
        publics: every recipient's public key, the coordinator's first.
        epoch: the coordinator's key epoch.

    Raises:
        BadKey: none, too many, or a key of another length.
    """
    if not 1 <= len(publics) <= MAX_RECIPIENTS:
        raise BadKey(f"a round has 1 to {MAX_RECIPIENTS} recipients, not {len(publics)}")
    if any(len(public) != PUBLIC_BYTES for public in publics):
        raise BadKey(f"a public sealing key is {PUBLIC_BYTES} bytes")
    return tagged_digest("thoracle/keys/v1", epoch, *publics)


def check_announced(publics: list[bytes] | tuple[bytes, ...], epoch: int, announced: bytes) -> None:
    """Check offered keys against the digest that the chain announced for the round.

    Raises:
        BadKey: a key is malformed or of low order, or the keys are not the announced ones.
    """
    if key_digest(publics, epoch) != announced:
        raise BadKey("the offered keys are not those announced on the chain")
    for public in publics:
        check_public(public)


def sealed_size(plaintext: int, recipients: int) -> int:
    """Return the exact length of a ciphertext in bytes: what a receiver may bound it by."""
    return len(FORMAT) + 1 + 32 + recipients * _ENTRY + plaintext + _TAG


def seal(
    plaintext: bytes, recipients: list[bytes] | tuple[bytes, ...], context: SealContext
) -> bytes:
    """Return ``plaintext`` sealed to every recipient's public key, bound to ``context``.

    Raises:
        BadKey: no recipient, too many, one listed twice, or a key that is malformed or of low
            order.
        OversizeUpdate: the plaintext is over ``MAX_PLAINTEXT``.
    """
    if not 1 <= len(recipients) <= MAX_RECIPIENTS or len(set(recipients)) != len(recipients):
        raise BadKey(f"an update is sealed to 1 to {MAX_RECIPIENTS} different keys")
    if len(plaintext) > MAX_PLAINTEXT:
        raise OversizeUpdate(f"{len(plaintext)} bytes are over the bound of {MAX_PLAINTEXT}")
    info = context.info()
    content_key = secrets.token_bytes(32)
    head = FORMAT + bytes([len(recipients)]) + _commitment(content_key, info)
    for public in recipients:
        head += key_id(public) + _SUITE.encrypt(content_key, check_public(public), info)
    return head + AESGCM(content_key).encrypt(_NONCE, plaintext, head + info)


def _commitment(content_key: bytes, info: bytes) -> bytes:
    return tagged_digest("thoracle/content-key/v1", content_key, info)


def _wrapped(ciphertext: bytes, key: SealKey) -> tuple[bytes, bytes]:
    """Return the head of a ciphertext and the content key wrapped for ``key``, lengths checked."""
    begin = len(FORMAT) + 1 + 32
    if len(ciphertext) < sealed_size(0, 1) or not ciphertext.startswith(FORMAT):
        raise SealBroken("not a sealed update of this format, or cut short")
    count = ciphertext[len(FORMAT)]
    if not 1 <= count <= MAX_RECIPIENTS or len(ciphertext) < sealed_size(0, count):
        raise SealBroken("a sealed update is cut short or names too many recipients")
    if len(ciphertext) > sealed_size(MAX_PLAINTEXT, count):
        raise SealBroken("a sealed update is over its bound")
    name = key_id(key.public)
    for place in range(begin, begin + count * _ENTRY, _ENTRY):
        if ciphertext[place : place + 32] == name:
            head = ciphertext[: begin + count * _ENTRY]
            return head, ciphertext[place + 32 : place + _ENTRY]
    raise SealBroken(f"the update is not sealed to {key}")


def unseal(ciphertext: bytes, key: SealKey, context: SealContext) -> bytes:
    """Return the plaintext of a ciphertext sealed to ``key`` in exactly this context.

    Raises:
        SealBroken: truncated, altered, sealed to another key or in another context.
        BadKey: ``key`` is not a private key.
        InvalidStatement: the context's round or epoch is negative.
    """
    info = context.info()
    head, wrapped = _wrapped(ciphertext, key)
    private = MLKEM768X25519PrivateKey(*_private(key.seed))
    try:
        content_key = _SUITE.decrypt(wrapped, private, info)
        committed = head[len(FORMAT) + 1 : len(FORMAT) + 33]
        if len(content_key) != 32 or not bytes_eq(_commitment(content_key, info), committed):
            raise SealBroken("the content key is not the one committed to all recipients")
        body = memoryview(ciphertext)[len(head) :]
        return AESGCM(content_key).decrypt(_NONCE, body, head + info)
    except (InvalidTag, ValueError):
        raise SealBroken("the update does not open under this key and context") from None
