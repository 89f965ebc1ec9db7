"""Whole numbers in place of floats: quantising an update, weighing it, applying the exact sum.

Step and bound follow from public values only, so they leak nothing about anyone's data. There is
no error feedback: it winds up, must be rolled back when a round aborts, and buys nothing under
privacy noise. ``apply_sum`` is the normative formula of the protocol (docs/protocol.md, step 8).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ledger.errors import (
    ConfigError,
    InvalidStatement,
    NonFiniteUpdate,
    SpecMismatch,
    SumOutOfRange,
    WeightOverflow,
)
from ledger.statement import MAX_SEATS, MAX_WEIGHT, QMAX

MAX_TOTAL_WEIGHT = MAX_SEATS * MAX_WEIGHT
"""Largest total weight: QMAX times it stays below 2^45, so every |S_c| is exact in float64."""
MAX_STEP_EXPONENT = 64
"""Bound on |k|: with it, S * 2^-k is an exact float64 for every |S| < 2^53."""
MAX_NORM_BOUND = (1 << 40) - 1

_CHUNK = 1 << 18
_SIGNIFICANT_BITS = 3


@dataclass(frozen=True, kw_only=True)
class Quantiser:
    """One public step 2^-k for every coordinate, and the L2 bound in quantised units.

    Raises:
        InvalidStatement: ``step_exponent`` (k) is outside ±64, or ``norm_bound`` (B) is not
            between 1 and 2^40 - 1.
    """

    step_exponent: int
    norm_bound: int

    def __post_init__(self) -> None:
        """Check the ranges."""
        _check_exponent(self.step_exponent)
        bound = self.norm_bound
        if isinstance(bound, bool) or not isinstance(bound, int) or not 1 <= bound < 1 << 40:
            raise InvalidStatement(f"the norm bound must be within 1 and 2^40 - 1, not {bound!r}")

    @property
    def step(self) -> float:
        """The step 2^-k, in units of the model's parameters."""
        return math.ldexp(1.0, -self.step_exponent)


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """A quantised update and what was lost on the way.

    ``q`` is int16 within ±32767; ``saturated`` counts coordinates cut off there; ``norm`` is
    ||q||_2 in quantised units; ``clipped`` says whether the delta was scaled down to the bound.
    """

    q: NDArray[np.int16]
    saturated: int
    norm: float
    clipped: bool


def _check_exponent(exponent: int) -> None:
    if (
        isinstance(exponent, bool)
        or not isinstance(exponent, int)
        or abs(exponent) > MAX_STEP_EXPONENT
    ):
        raise InvalidStatement(f"the step exponent must be within ±64, not {exponent!r}")


def plan_quantiser(
    manifest_size: int, *, max_norm: float, coordinate_noise: float = 0.0, coordinate_drift: float
) -> Quantiser:
    """Choose step and norm bound from public values only.

    The step is the finest power of two at which 32767 steps cover six noise deviations plus the
    drift. The bound covers an honest delta: its norm without noise, the norm of the noise (which
    exceeds sqrt(d) + 6.5 deviations with a chance below 1e-9; Laurent and Massart 2000, lemma 1)
    and half a step of rounding a coordinate.

    Args:
        manifest_size: coordinates d of the model.
        max_norm: largest L2 norm of an honest delta without its noise, in parameter units.
        coordinate_noise: standard deviation of the privacy noise on one coordinate of the delta.
        coordinate_drift: largest honest change of one coordinate without its noise.

    Raises:
        ConfigError: a value is not finite and positive, or no step is at most a quarter of the
            noise and covers the range (never so while the drift is below 4,089 times the noise).
    """
    values = (max_norm, coordinate_drift)
    if not all(math.isfinite(v) and v > 0 for v in values) or manifest_size < 1:
        raise ConfigError("norm, drift and size of an update must be positive and finite")
    if not math.isfinite(coordinate_noise) or coordinate_noise < 0:
        raise ConfigError("the noise of a coordinate must be finite and not negative")
    span = 6 * coordinate_noise + coordinate_drift
    exponent = math.floor(math.log2(QMAX / span))
    if abs(exponent) > MAX_STEP_EXPONENT:
        raise ConfigError(f"a range of {span} a coordinate asks for a step of 2^{-exponent}")
    step = math.ldexp(1.0, -exponent)
    if coordinate_noise and step > coordinate_noise / 4:
        raise ConfigError(
            f"32767 steps cannot both cover a drift of {coordinate_drift} and resolve a noise of "
            f"{coordinate_noise}"
        )
    root = math.sqrt(manifest_size)
    norm = max_norm + coordinate_noise * (root + 6.5)
    bound = min(math.ceil(norm / step + root / 2), math.ceil(QMAX * root), MAX_NORM_BOUND)
    return Quantiser(step_exponent=exponent, norm_bound=bound)


def squared_norm(q: NDArray[np.int16]) -> int:
    """Return ||q||² exactly, as an integer."""
    total = 0
    for begin in range(0, q.size, _CHUNK):
        part = q[begin : begin + _CHUNK].astype(np.float64)
        total += int(part @ part)  # exact in any order: 2^18 products below 2^30 stay below 2^53
    return total


def _round(scaled: NDArray[np.float64], factor: float) -> tuple[NDArray[np.int16], int]:
    rounded = np.rint(scaled * factor)
    saturated = int(np.count_nonzero(np.abs(rounded) > QMAX))
    return np.clip(rounded, -QMAX, QMAX).astype(np.int16), saturated


def quantise(delta: NDArray[np.float32], quantiser: Quantiser) -> Quantised:
    """Clip a delta to the bound, divide by the step and round half to even.

    Whatever rounding does, ||q||_2 <= B holds exactly: the squared norm is checked as an integer
    and the delta scaled down further while it is over.

    Args:
        delta: trained minus base, float32, flat, in parameter units.
        quantiser: the round's public step and bound.

    Raises:
        SpecMismatch: not a flat float32 vector.
        NonFiniteUpdate: NaN or infinity in it.
    """
    if delta.ndim != 1 or delta.dtype != np.float32:
        raise SpecMismatch(f"a delta is a flat float32 vector, not {delta.dtype}{delta.shape}")
    if not np.isfinite(delta).all():
        raise NonFiniteUpdate("the delta holds NaN or infinity")
    scaled = delta.astype(np.float64) * math.ldexp(1.0, quantiser.step_exponent)
    bound = quantiser.norm_bound
    # A pairwise NumPy sum and not a BLAS dot: the same bits whatever the number of threads.
    length = math.sqrt(float(np.sum(np.square(scaled))))
    factor = min(1.0, bound / length) if length else 1.0
    q, saturated = _round(scaled, factor)
    shrink = 1
    while (squared := squared_norm(q)) > bound * bound:
        # Rounding lifted it over. The exponent doubles, so that coordinates just above a half
        # cannot hold this up; it ends at zero, if nothing else fits.
        factor *= min(bound / math.sqrt(squared), 1 - 2.0**-20) ** shrink
        shrink *= 2
        q, saturated = _round(scaled, factor)
    return Quantised(q=q, saturated=saturated, norm=math.sqrt(squared), clipped=factor < 1.0)


def bucket_weight(count: int) -> int:
    """Return the example count rounded down to three significant bits: the registered weight.

    A bucket is at most a quarter of the count wide, so the weight tells little about one patient.

    Raises:
        InvalidStatement: fewer than one example.
        WeightOverflow: over 2^24 - 1.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InvalidStatement(f"a hospital needs at least one example, not {count!r}")
    if count > MAX_WEIGHT:
        raise WeightOverflow(weight=count, max=MAX_WEIGHT)
    spare = max(0, count.bit_length() - _SIGNIFICANT_BITS)
    return count >> spare << spare


def effective_weight(registered: int, cap: int) -> int:
    """Return the weight that counts in a round: the registered one, limited by the share cap."""
    return min(registered, cap)


def check_sum_range(total: NDArray[np.int64], total_weight: int) -> None:
    """Check |S_c| <= QMAX * W for every coordinate, so that a wrapped sum cannot pass.

    Raises:
        WeightOverflow: W is not between 1 and ``MAX_TOTAL_WEIGHT``.
        SpecMismatch: not a flat int64 vector.
        SumOutOfRange: a coordinate is outside.
    """
    if not 1 <= total_weight <= MAX_TOTAL_WEIGHT:
        raise WeightOverflow(weight=total_weight, max=MAX_TOTAL_WEIGHT)
    if total.ndim != 1 or total.dtype != np.int64:
        raise SpecMismatch(f"a sum is a flat int64 vector, not {total.dtype}{total.shape}")
    limit = QMAX * total_weight
    # Two comparisons and not abs(), which leaves -2^63 negative.
    if total.size and (int(total.max()) > limit or int(total.min()) < -limit):
        raise SumOutOfRange(f"a coordinate of the sum is outside ±{limit}")


def apply_sum(
    base_vector: NDArray[np.float32],
    total: NDArray[np.int64],
    total_weight: int,
    step_exponent: int,
) -> NDArray[np.float32]:
    """Return float32(float64(base) + (float64(S) * step) / float64(W)): the next model.

    Normative, on the CPU in NumPy: IEEE 754 binary64, round to nearest even, a true division and
    no fused operation. (On CUDA a division by a scalar may become a product with its reciprocal.)

    Args:
        base_vector: float32, length d.
        total: the exact weighted sum S, int64, length d.
        total_weight: W, the sum of the accepted effective weights.
        step_exponent: k of the step 2^-k.

    Raises:
        WeightOverflow, SumOutOfRange: as ``check_sum_range``.
        SpecMismatch: lengths or dtypes differ.
        InvalidStatement: the exponent is out of range.
        NonFiniteUpdate: base or result is not finite.
    """
    check_sum_range(total, total_weight)
    _check_exponent(step_exponent)
    if base_vector.shape != total.shape or base_vector.dtype != np.float32:
        raise SpecMismatch("base model and sum are not vectors of one length")
    step, weight = np.float64(math.ldexp(1.0, -step_exponent)), np.float64(total_weight)
    result = np.empty_like(base_vector)
    for begin in range(0, total.size, _CHUNK):
        part = slice(begin, begin + _CHUNK)
        change = (total[part].astype(np.float64) * step) / weight
        with np.errstate(over="ignore", invalid="ignore"):  # named below, by one clear error
            result[part] = (base_vector[part].astype(np.float64) + change).astype(np.float32)
    if not np.isfinite(result).all():
        raise NonFiniteUpdate("the model would hold NaN or infinity")
    return result
