"""Secret randomness for differential privacy: an AES-CTR keystream and what is drawn from it.

DP's guarantee is about the randomness that an adversary cannot predict, so neither a seed nor
torch's Mersenne Twister will do. A keystream under a fresh key from the operating system gives
uniform bits; Gaussians are the sum of four Box-Muller values halved, so that the least
significant bits of one float no longer give the noise away (Mironov 2012; Holohan and Braghin
2021, "Secure random sampling in differential privacy", n = 2: the same order as Opacus' secure
mode, whose own generator needs a package that no longer installs).

A run that must be reproducible injects a keystream from a seed; it is then marked
``insecure-test`` in the run and in the audit, since whoever knows the seed can subtract the noise.
"""

from __future__ import annotations

import hashlib
import os
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from ledger.errors import PolicyError

_MANTISSA: Final = 53
_CHUNK: Final = 1 << 16
"""Values made at a time: temporaries stay in the processor's cache."""


class Keystream:
    """Uniform bits from AES-256-CTR, and the draws DP-SGD needs.

    Args:
        key: 32 bytes; by default fresh ones from the operating system.
        insecure: the key is known to others (tests only).

    Raises:
        PolicyError: the key is not 32 bytes.
    """

    def __init__(self, key: bytes | None = None, *, insecure: bool = False) -> None:
        if key is not None and len(key) != 32:
            raise PolicyError("a noise key is 32 bytes")
        if key is not None and not insecure:
            raise PolicyError("an injected noise key must be declared insecure")
        self.insecure = insecure
        secret = os.urandom(32) if key is None else key
        self.taken = 0
        """Words handed out so far."""
        self._stream = Cipher(algorithms.AES(secret), modes.CTR(bytes(16))).encryptor()

    @classmethod
    def insecure_test(cls, *seed: int) -> Keystream:
        """Return a reproducible keystream; a run that uses it must say ``insecure-test``."""
        text = ",".join(str(part) for part in seed).encode()
        return cls(hashlib.sha256(b"thoracle/insecure-noise/v1:" + text).digest(), insecure=True)

    def words(self, count: int) -> NDArray[np.uint64]:
        """Return ``count`` uniform 64-bit words."""
        self.taken += count
        return np.frombuffer(self._stream.update(bytes(8 * count)), dtype="<u8")

    def take_up(self, taken: int) -> None:
        """Go to where an earlier process had got, so that a test's run is the same again.

        A secret keystream has no such place: its key ends with its process, and what goes on
        draws from a fresh one. The same noise is never added to two different sums.

        Raises:
            PolicyError: this keystream is secret, or already past that place.
        """
        if not self.insecure:
            raise PolicyError("a secret keystream is never taken up again: fresh noise is drawn")
        if taken < self.taken:
            raise PolicyError("a keystream does not go back")
        while left := taken - self.taken:
            self.words(min(left, _CHUNK))

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """Return ``count`` uniform values in (0, 1], each a multiple of 2^-53."""
        high = (self.words(count) >> np.uint64(64 - _MANTISSA)).astype(np.float64)
        return np.multiply(high + 1.0, 2.0**-_MANTISSA, dtype=np.float64)

    def normals(self, count: int) -> NDArray[np.float32]:
        """Return ``count`` standard normal values, each from four Box-Muller values."""
        out = np.empty(count, dtype=np.float32)
        for start in range(0, count, _CHUNK):
            size = min(_CHUNK, count - start)
            radius = np.sqrt(-2.0 * np.log(self.uniforms(2 * size)))
            angle = 2.0 * np.pi * self.uniforms(2 * size)
            pair = radius * (np.cos(angle) + np.sin(angle))  # two independent normals, summed
            out[start : start + size] = 0.5 * (pair[:size] + pair[size:])
        return out

    def bernoulli(self, count: int, rate: float) -> NDArray[np.bool_]:
        """Return ``count`` independent draws that are true with probability ``rate``.

        The probability is rounded down to a multiple of 2^-64 (never above what is charged).

        Raises:
            PolicyError: the rate is not in (0, 1].
        """
        if not 0 < rate <= 1:
            raise PolicyError(f"a sample rate is above 0 and at most 1, not {rate}")
        if rate == 1:
            return np.ones(count, dtype=np.bool_)
        return self.words(count) < np.uint64(int(rate * 2.0**64))

    def below(self, bounds: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return one uniform integer in [0, bound) for each bound (1 to 2^31).

        Fixed-point multiplication of 64-bit words: the bias is below 2^-33.
        """
        high = (self.words(len(bounds)) >> np.uint64(32)).astype(np.uint64)
        return ((high * bounds.astype(np.uint64)) >> np.uint64(32)).astype(np.int64)

    def seed(self) -> int:
        """Return a uniform 63-bit seed for a generator whose draws must not be known either."""
        return int(self.words(1)[0]) >> 1
