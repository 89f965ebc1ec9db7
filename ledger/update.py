"""The opening of a commit: what a hospital seals, and the digest that binds it on the chain.

Sealed are 16 bytes of format name, a fresh 32-byte salt and the canonical I16 tensor file. The
digest binds federation, chain, contract, hospital, round and base model as well, so one hospital's
opening is worthless as another's, or in another round.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ledger.canonical import tagged_digest
from ledger.errors import InvalidStatement, MalformedUpdate
from ledger.manifest import Manifest, decode_tensors
from ledger.statement import Domain

OPENING_FORMAT = b"thoracle/open/v1"
SALT_BYTES = 32
_HEAD = len(OPENING_FORMAT) + SALT_BYTES


def _check_salt(salt: bytes) -> None:
    if not isinstance(salt, bytes) or len(salt) != SALT_BYTES:
        raise InvalidStatement(f"a salt is {SALT_BYTES} bytes")


def opening_digest(
    domain: Domain,
    hospital: str,
    base_model: bytes,
    round: int,  # noqa: A002 - the protocol's word
    salt: bytes,
    update_bytes: bytes,
) -> bytes:
    """Return the digest a hospital commits to before anyone may open its update (32 bytes).

    Raises:
        InvalidStatement: the salt is not 32 bytes, or the round is negative.
    """
    _check_salt(salt)
    return tagged_digest(
        "thoracle/opening/v1",
        domain.federation_id,
        domain.chain_id,
        domain.contract,
        hospital,
        base_model,
        round,
        salt,
        update_bytes,
    )


def encode_opening(salt: bytes, update_bytes: bytes) -> bytes:
    """Return the plaintext that is sealed: format name, salt, update file.

    Raises:
        InvalidStatement: the salt is not 32 bytes.
    """
    _check_salt(salt)
    return OPENING_FORMAT + salt + update_bytes


def decode_opening(data: bytes, manifest: Manifest) -> tuple[bytes, bytes, NDArray[np.int16]]:
    """Return salt, update file and the flat int16 update of an opening.

    Compare the opening digest of the first two with the commit before using the third.

    Raises:
        MalformedUpdate: not an opening.
        CodecError: as ``decode_tensors``.
    """
    if len(data) < _HEAD or not data.startswith(OPENING_FORMAT):
        raise MalformedUpdate("the opened plaintext is not an opening of this format")
    salt, update_bytes = data[len(OPENING_FORMAT) : _HEAD], data[_HEAD:]
    return salt, update_bytes, decode_tensors(update_bytes, manifest, "I16")
