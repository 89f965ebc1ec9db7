"""From a trained model to a sealed update: delta, clip, quantise, open, seal (protocol 2 to 4).

Pure: no disk, no chain. Everything a commit needs comes out of one call, so that the caller can
make it durable before it says a word to anyone.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ledger.canonical import sha256
from ledger.errors import SpecMismatch
from ledger.manifest import Manifest, Model, encode_tensors
from ledger.quantise import Quantised, Quantiser, quantise
from ledger.seal import SealContext, seal
from ledger.statement import Domain
from ledger.update import encode_opening, opening_digest


@dataclass(frozen=True, kw_only=True)
class UpdateContext:
    """What an update is bound to, and how it is quantised and sealed.

    Attributes:
        domain: the federation.
        hospital: the sender's address.
        round: the round on the chain.
        base_model: digest of the model it was trained from.
        key_epoch: the epoch of the announced keys.
        update: names and shapes of what travels in the round.
        quantiser: public step and norm bound.
        public_keys: everyone it is sealed to.
    """

    domain: Domain
    hospital: str
    round: int
    base_model: bytes
    key_epoch: int
    update: Manifest
    quantiser: Quantiser
    public_keys: Sequence[bytes]


@dataclass(frozen=True, kw_only=True)
class SealedUpdate:
    """A finished update.

    Attributes:
        opening: salt and canonical update bytes (secret until sealed).
        opening_digest: what the chain will hold of them.
        ciphertext: the same, sealed.
        seal_digest: SHA-256 of the ciphertext.
        quantised: the integers and how they came about (saturations, norm, whether clipped).
    """

    opening: bytes
    opening_digest: bytes
    ciphertext: bytes
    seal_digest: bytes
    quantised: Quantised


def delta_of(trained: Model, base: Model, update: Manifest) -> NDArray[np.float32]:
    """Return ``trained - base`` as one flat float32 vector of what travels, in manifest order.

    Args:
        trained: exactly what travels, after training.
        base: the whole model, before.
        update: of what travels, u coordinates.

    Returns:
        float32, shape ``(u,)``.

    Raises:
        SpecMismatch: the trained tensors are not what travels, or the base lacks some of them.
    """
    names = [spec.name for spec in update.tensors]
    if set(trained) != set(names):
        raise SpecMismatch("training returned other tensors than travel in the round")
    before = {name: base[name] for name in names if name in base}
    with np.errstate(over="ignore", invalid="ignore"):  # quantising names what is not finite
        return np.subtract(update.flatten(trained), update.flatten(before), dtype=np.float32)


def seal_update(
    trained: Model, base: Model, context: UpdateContext, *, salt: bytes | None = None
) -> SealedUpdate:
    """Return the sealed update of one training.

    Args:
        trained: what travels, after training.
        base: the model it was trained from, whole.
        context: what the update is bound to.
        salt: 32 fresh random bytes; only tests give their own.

    Raises:
        SpecMismatch: as ``delta_of``.
        NonFiniteUpdate: the delta holds NaN or infinity.
        BadKey: a recipient's key cannot be used.
    """
    quantised = quantise(delta_of(trained, base, context.update), context.quantiser)
    salt = secrets.token_bytes(32) if salt is None else salt
    update = encode_tensors(context.update, quantised.q)
    opening = encode_opening(salt, update)
    ciphertext = seal(
        opening,
        list(context.public_keys),
        SealContext(
            domain=context.domain,
            round=context.round,
            hospital=context.hospital,
            base_model=context.base_model,
            key_epoch=context.key_epoch,
        ),
    )
    return SealedUpdate(
        opening=opening,
        opening_digest=opening_digest(
            context.domain, context.hospital, context.base_model, context.round, salt, update
        ),
        ciphertext=ciphertext,
        seal_digest=sha256(ciphertext),
        quantised=quantised,
    )
