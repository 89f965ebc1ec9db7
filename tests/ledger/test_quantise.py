"""Quantising: the bound holds exactly, and the normative formula is what it says."""

import math
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from ledger.errors import (
    ConfigError,
    InvalidStatement,
    NonFiniteUpdate,
    SpecMismatch,
    SumOutOfRange,
    WeightOverflow,
)
from ledger.quantise import (
    MAX_TOTAL_WEIGHT,
    Quantiser,
    apply_sum,
    bucket_weight,
    check_sum_range,
    effective_weight,
    plan_quantiser,
    quantise,
    squared_norm,
)
from ledger.statement import MAX_WEIGHT, QMAX
from tests.ledger.samples import quick, update

deltas = npst.arrays(
    np.float32,
    st.integers(1, 40),
    elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False),
)


def exact_squares(q: NDArray[np.int16]) -> int:
    return sum(int(x) ** 2 for x in q)


@quick
@given(deltas, st.integers(-20, 40), st.integers(1, 2**20))
def test_the_bound_holds_exactly(delta: NDArray[np.float32], exponent: int, bound: int) -> None:
    found = quantise(delta, Quantiser(step_exponent=exponent, norm_bound=bound))
    squares = exact_squares(found.q)
    assert squares <= bound**2
    assert squared_norm(found.q) == squares
    assert found.norm == math.sqrt(squares)
    assert found.q.dtype == np.int16
    assert int(found.q.min()) >= -QMAX


@quick
@given(deltas, st.integers(-20, 20))
def test_within_the_bound_it_is_rounding_and_nothing_else(
    delta: NDArray[np.float32], exponent: int
) -> None:
    found = quantise(delta, Quantiser(step_exponent=exponent, norm_bound=2**39))
    exact = [Fraction(float(x)) * Fraction(2) ** exponent for x in delta]
    if max(abs(x) for x in exact) < 2**36:  # else the delta may truly be over the bound
        rounded = [round(x) for x in exact]  # half to even, as Python's round
        assert [int(x) for x in found.q] == [max(-QMAX, min(QMAX, x)) for x in rounded]
        assert found.saturated == sum(abs(x) > QMAX for x in rounded)
        assert not found.clipped


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("bound", [1, 2, 9, 99])
def test_rounding_up_cannot_lift_it_over_the_bound(size: int, bound: int) -> None:
    """Every coordinate a hair above a half: the worst case for rounding."""
    delta = np.full(size, 0.5000001, np.float32)
    found = quantise(delta, Quantiser(step_exponent=0, norm_bound=bound))
    assert exact_squares(found.q) <= bound**2
    assert found.clipped == (bound**2 < size)


def test_clipping_keeps_the_direction_and_uses_the_bound() -> None:
    delta = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    found = quantise(delta, Quantiser(step_exponent=10, norm_bound=50_000))
    assert found.clipped
    assert 49_900 < found.norm <= 50_000
    cosine = float(delta @ found.q) / (np.linalg.norm(delta) * found.norm)
    assert cosine > 0.9999


def test_saturation_is_counted() -> None:
    delta = np.array([40_000, -40_000, 32767, 1], np.float32)
    found = quantise(delta, Quantiser(step_exponent=0, norm_bound=10**6))
    assert found.q.tolist() == [32767, -32767, 32767, 1]
    assert found.saturated == 2
    assert not found.clipped


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_delta_that_is_not_finite_is_refused_first(value: float) -> None:
    delta = np.array([0, value, 1], np.float32)
    with pytest.raises(NonFiniteUpdate):
        quantise(delta, Quantiser(step_exponent=0, norm_bound=1))


@pytest.mark.parametrize("delta", [np.zeros(3), np.zeros((1, 3), np.float32)])
def test_a_delta_of_another_kind_is_refused(delta: NDArray[np.float32]) -> None:
    with pytest.raises(SpecMismatch):
        quantise(delta, Quantiser(step_exponent=0, norm_bound=1))


def test_the_largest_finite_delta_does_not_overflow() -> None:
    delta = np.full(1000, np.finfo(np.float32).max, np.float32)
    found = quantise(delta, Quantiser(step_exponent=64, norm_bound=10**6))
    assert 0 < found.norm <= 10**6


@pytest.mark.parametrize(
    ("exponent", "bound"), [(65, 1), (-65, 1), (0, 0), (0, 2**40), (True, 1), (0, 1.5), (0.0, 1)]
)
def test_bad_quantisers(exponent: int, bound: int) -> None:
    with pytest.raises(InvalidStatement):
        Quantiser(step_exponent=exponent, norm_bound=bound)


# ---- the plan ----


@quick
@given(
    st.integers(1, 10**7),
    st.floats(1e-6, 1e3),
    st.floats(1e-9, 1e2),
    st.floats(0, 4088),
)
def test_a_plan_follows_the_protocol(
    size: int, max_norm: float, noise: float, drift_in_noises: float
) -> None:
    drift = max(noise * drift_in_noises, 1e-9)
    plan = plan_quantiser(size, max_norm=max_norm, coordinate_noise=noise, coordinate_drift=drift)
    assert plan.step <= noise / 4
    assert QMAX * plan.step >= (6 * noise + drift) * (1 - 1e-12)
    assert QMAX * plan.step / 2 < 6 * noise + drift  # the finest that does


def test_an_honest_noisy_delta_is_neither_clipped_nor_saturated() -> None:
    size, noise = 200_000, 1e-3
    rng = np.random.default_rng(1)
    drift = rng.uniform(-1, 1, size) * 1e-3
    plan = plan_quantiser(
        size,
        max_norm=float(np.linalg.norm(drift)),
        coordinate_noise=noise,
        coordinate_drift=1e-3,
    )
    delta = (drift + rng.normal(0, noise, size)).astype(np.float32)
    found = quantise(delta, plan)
    assert not found.clipped
    assert found.saturated == 0
    assert np.abs(found.q * plan.step - delta).max() <= plan.step / 2 * 1.0001


@pytest.mark.parametrize(
    "values",
    [
        {"max_norm": 0.0, "coordinate_drift": 1.0},
        {"max_norm": math.nan, "coordinate_drift": 1.0},
        {"max_norm": 1.0, "coordinate_drift": 0.0},
        {"max_norm": 1.0, "coordinate_drift": math.inf},
        {"max_norm": 1.0, "coordinate_drift": 1.0, "coordinate_noise": -1.0},
        {"max_norm": 1.0, "coordinate_drift": 1.0, "coordinate_noise": math.nan},
        {"max_norm": 1.0, "coordinate_drift": 1.0, "coordinate_noise": 1e-6},
        {"max_norm": 1.0, "coordinate_drift": 1e-40},
    ],
)
def test_impossible_plans(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        plan_quantiser(10, **values)


# ---- weights ----


@quick
@given(st.integers(1, MAX_WEIGHT))
def test_buckets_keep_three_significant_bits(count: int) -> None:
    bucket = bucket_weight(count)
    assert bucket <= count < bucket * 5 / 4 + 1e-9
    assert bin(bucket).rstrip("0").count("1") <= 3
    assert bucket_weight(bucket) == bucket


@quick
@given(st.integers(1, MAX_WEIGHT - 1))
def test_buckets_rise_with_the_count(count: int) -> None:
    assert bucket_weight(count) <= bucket_weight(count + 1)


@pytest.mark.parametrize("count", [0, -1, True, 1.0])
def test_no_examples_no_weight(count: int) -> None:
    with pytest.raises(InvalidStatement):
        bucket_weight(count)


def test_weights_are_bounded() -> None:
    with pytest.raises(WeightOverflow):
        bucket_weight(MAX_WEIGHT + 1)
    assert effective_weight(100, 60) == 60
    assert effective_weight(50, 60) == 50
    assert QMAX * MAX_TOTAL_WEIGHT < 2**45


# ---- the sum ----


def nearest_f32(value: Fraction) -> float:
    return float(np.float32(float(value)))


@quick
@given(
    npst.arrays(np.float32, 5, elements=st.floats(-100, 100, width=32)),
    st.lists(st.integers(-QMAX, QMAX), min_size=5, max_size=5),
    st.integers(1, MAX_TOTAL_WEIGHT),
    st.integers(-64, 64),
)
def test_the_normative_formula(
    base: NDArray[np.float32], mean: list[int], weight: int, exponent: int
) -> None:
    """Against the same three roundings in exact rational arithmetic (float() rounds once)."""
    total = np.array([m * weight for m in mean], np.int64)
    found = apply_sum(base, total, weight, exponent)
    for b, s, x in zip(base.tolist(), total.tolist(), found.tolist(), strict=True):
        quotient = float(Fraction(s) / Fraction(2) ** exponent / weight)
        assert x == nearest_f32(Fraction(float(Fraction(b) + Fraction(quotient))))


def test_the_division_is_true_and_not_by_a_reciprocal() -> None:
    """A tie that rounds up; a product with 1/W falls a hair below it and rounds down."""
    base = np.array([3 * 2.0**-10], np.float32)
    telling = [w for w in range(2, 3000) if float(QMAX * w) * (1.0 / w) < QMAX]
    assert len(telling) > 100
    for weight in telling:
        total = np.array([QMAX * weight], np.int64)
        assert apply_sum(base, total, weight, 0).tolist() == [QMAX + 2.0**-8]


def test_chunks_leave_no_seam() -> None:
    size = 2 * (1 << 18) + 3
    rng = np.random.default_rng(0)
    base = rng.normal(size=size).astype(np.float32)
    total = rng.integers(-QMAX * 77, QMAX * 77 + 1, size)
    whole = (
        base.astype(np.float64) + (total.astype(np.float64) * 2.0**-20) / np.float64(77)
    ).astype(np.float32)
    assert np.array_equal(apply_sum(base, total, 77, 20), whole)


def test_the_order_of_replies_cannot_matter() -> None:
    parts = [update(50, seed).astype(np.int64) * (seed + 1) for seed in range(5)]
    assert np.array_equal(sum(parts), sum(reversed(parts)))


LIMIT = QMAX * 10


@pytest.mark.parametrize("value", [LIMIT + 1, -LIMIT - 1, 2**63 - 1, -(2**63), 2**53])
def test_a_sum_out_of_range_is_refused(value: int) -> None:
    total = np.array([0, value, 0], np.int64)
    with pytest.raises(SumOutOfRange):
        check_sum_range(total, 10)
    with pytest.raises(SumOutOfRange):
        apply_sum(np.zeros(3, np.float32), total, 10, 10)


def test_the_edge_of_the_range_passes() -> None:
    check_sum_range(np.array([LIMIT, -LIMIT], np.int64), 10)
    top = QMAX * MAX_TOTAL_WEIGHT
    found = apply_sum(np.zeros(2, np.float32), np.array([top, -top], np.int64), MAX_TOTAL_WEIGHT, 0)
    assert found.tolist() == [QMAX, -QMAX]


@pytest.mark.parametrize("weight", [0, -1, MAX_TOTAL_WEIGHT + 1])
def test_a_total_weight_out_of_range_is_refused(weight: int) -> None:
    with pytest.raises(WeightOverflow):
        check_sum_range(np.zeros(1, np.int64), weight)


def test_vectors_that_do_not_fit_are_refused() -> None:
    total = np.zeros(3, np.int64)
    with pytest.raises(SpecMismatch):
        apply_sum(np.zeros(2, np.float32), total, 1, 0)
    with pytest.raises(SpecMismatch):
        apply_sum(np.zeros(3), total, 1, 0)  # type: ignore[arg-type]
    with pytest.raises(SpecMismatch):
        check_sum_range(np.zeros(3, np.int32), 1)
    with pytest.raises(InvalidStatement):
        apply_sum(np.zeros(3, np.float32), total, 1, 65)


def test_a_base_that_is_not_finite_is_refused() -> None:
    with pytest.raises(NonFiniteUpdate):
        apply_sum(np.array([np.nan], np.float32), np.array([1], np.int64), 1, 0)


def test_this_machine_divides_as_ieee_says() -> None:
    assert sys.float_info.mant_dig == 53
    assert sys.float_info.rounds == 1
