"""Random probes of updates and sums: exact inner products with vectors that nobody could choose.

The probe vector r_j (j = 0..15) is the AES-256-CTR keystream under the key SHA-256(beacon || j),
with j as one byte and a zero initial counter block, read as little-endian int16, one for each
coordinate. The beacon hashes S and every committed update, so all are fixed before any r_j is
known (Fiat and Shamir 1986); for a wrong S all 16 totals agree with a chance of at most 2^-256
(Freivalds 1977, over the integers: no modulus, hence no wrap-around).
"""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from ledger.canonical import sha256
from ledger.errors import InvalidStatement, SpecMismatch
from ledger.statement import PROBES

CHUNK = 1 << 13
"""Coordinates a step. A limb is below 2^25, a product below 2^40, a partial sum below 2^53: every
float64 in the matrix product is an exact integer, in whatever order BLAS adds them."""

_LIMB = 20


def _limbs(values: NDArray[np.int16] | NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (n, limbs): value = sum over l of limb[l] * 2^(20 l), the last limb signed."""
    if values.dtype == np.int16:
        return values.astype(np.float64)[:, None]
    mask = (1 << _LIMB) - 1
    wide = values.astype(np.int64, copy=False)
    parts = (wide & mask, (wide >> _LIMB) & mask, wide >> 2 * _LIMB)
    return np.stack([part.astype(np.float64) for part in parts], axis=1)


class Prober:
    """Takes a vector in pieces of any length and totals its 16 probes, in constant memory.

    Raises:
        InvalidStatement: the beacon is not 32 bytes.
    """

    def __init__(self, beacon: bytes) -> None:
        if not isinstance(beacon, bytes) or len(beacon) != 32:
            raise InvalidStatement(f"a beacon is 32 bytes, not {beacon!r}")
        self._streams = [
            # CTR is used as a public generator here, not as encryption: the key is no secret.
            Cipher(algorithms.AES256(sha256(beacon, bytes([j]))), modes.CTR(bytes(16))).encryptor()
            for j in range(PROBES)
        ]
        self._totals = [0] * PROBES
        self._zeros = bytes(2 * CHUNK)
        self._raw = bytearray(2 * CHUNK + 15)  # update_into asks for a block to spare
        self._rows = np.empty((PROBES, CHUNK), dtype=np.float64)

    def _vectors(self, n: int) -> NDArray[np.float64]:
        """Return the next ``n`` coordinates of every probe vector, (16, n) float64."""
        for row, stream in zip(self._rows, self._streams, strict=True):
            stream.update_into(self._zeros[: 2 * n], self._raw)
            row[:n] = np.frombuffer(self._raw, dtype="<i2", count=n)
        return self._rows[:, :n]

    def feed(self, values: NDArray[np.int16] | NDArray[np.int64]) -> None:
        """Add the next coordinates (flat int16 or int64, any length).

        Raises:
            SpecMismatch: another dtype or shape.
        """
        if values.ndim != 1 or values.dtype not in (np.int16, np.int64):
            raise SpecMismatch(f"probes take flat int16 or int64, not {values.dtype}{values.shape}")
        for begin in range(0, values.size, CHUNK):
            limbs = _limbs(values[begin : begin + CHUNK])
            products = self._vectors(len(limbs)) @ limbs  # (16, limbs), exact integers
            for j, row in enumerate(products.tolist()):
                self._totals[j] += sum(int(x) << _LIMB * place for place, x in enumerate(row))

    def totals(self) -> tuple[int, ...]:
        """Return the 16 exact inner products of what was fed so far."""
        return tuple(self._totals)


def probe_update(beacon: bytes, q: NDArray[np.int16]) -> tuple[int, ...]:
    """Return t_j = sum over c of r_j[c] q[c] for j = 0..15, exactly.

    |t_j| < 2^53 for d < 2^23 and an int64 for every manifest. The sum of t_j² estimates
    ||q||² (2^32 - 1) / 12 a probe: see ``norm_cap`` and docs/wire.md.

    Raises:
        InvalidStatement: the beacon is not 32 bytes.
        SpecMismatch: ``q`` is not a flat int16 vector.
    """
    if q.dtype != np.int16:
        raise SpecMismatch(f"an update is int16, not {q.dtype}")
    prober = Prober(beacon)
    prober.feed(q)
    return prober.totals()


def probe_sum(beacon: bytes, total: NDArray[np.int64]) -> tuple[int, ...]:
    """Return T_j = sum over c of r_j[c] S[c] for j = 0..15, exactly, for any int64 values.

    Raises:
        InvalidStatement: the beacon is not 32 bytes.
        SpecMismatch: ``total`` is not a flat int64 vector.
    """
    if total.dtype != np.int64:
        raise SpecMismatch(f"a sum is int64, not {total.dtype}")
    prober = Prober(beacon)
    prober.feed(total)
    return prober.totals()
