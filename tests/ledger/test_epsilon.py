"""The canonical epsilon against a second library, published values and its own laws."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent

from ledger.epsilon import (
    MICRO,
    ORDERS,
    TOLERANCE,
    Release,
    cumulative_micro,
    epsilon_of,
    micro_epsilon,
    optimal_order,
)
from ledger.errors import InvalidStatement
from ledger.statement import Mechanism

DELTA = 1e-5


# The smallest and the largest order are part of the protocol, also where Opacus would want more.
pytestmark = pytest.mark.filterwarnings("ignore:Optimal order is")


def release(noise: float, rate: float, steps: int) -> Release:
    return Release(noise_multiplier=noise, sample_rate=rate, steps=steps)


def opacus_epsilon(releases: list[Release], delta: float) -> float:
    total = sum(
        compute_rdp(
            q=r.sample_rate, noise_multiplier=r.noise_multiplier, steps=r.steps, orders=ORDERS
        )
        for r in releases
    )
    epsilon, _ = get_privacy_spent(orders=list(ORDERS), rdp=list(total), delta=delta)
    return float(epsilon)


@pytest.mark.parametrize(
    ("noise", "rate", "steps"),
    [
        (1.64, 0.157, 200),
        (1.0, 0.01, 1000),
        (1.1, 256 / 60_000, 14_062),
        (0.6, 0.2, 50),
        (4.0, 0.01, 1000),
        (1.0, 1.0, 3),
        (5.0, 0.5, 30),
    ],
)
def test_agrees_with_opacus(noise: float, rate: float, steps: int) -> None:
    found = [release(noise, rate, steps)]
    assert abs(epsilon_of(found, DELTA) - opacus_epsilon(found, DELTA)) < TOLERANCE


@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0.8, 8.0), st.floats(1e-4, 0.9), st.integers(1, 200)),
        min_size=1,
        max_size=4,
    )
)
def test_agrees_with_opacus_over_compositions(items: list[tuple[float, float, int]]) -> None:
    found = [release(*item) for item in items]
    assert optimal_order(found, DELTA) in ORDERS
    assert abs(epsilon_of(found, DELTA) - opacus_epsilon(found, DELTA)) < TOLERANCE


def test_published_value_of_the_mnist_tutorial() -> None:
    """TensorFlow Privacy's tutorial: 60,000 examples, batch 256, sigma 1.1, 60 epochs: 2.92.

    That figure is by the older conversion of Mironov (2017); the improved one of Canonne et al.
    (2020) gives less, never more.
    """
    found = [release(1.1, 256 / 60_000, 60 * 60_000 // 256)]
    assert epsilon_of(found, 1e-5) == pytest.approx(2.59, abs=0.01)
    assert epsilon_of(found, 1e-5) < 2.92


def test_one_full_gaussian_is_bounded_by_the_analytic_one() -> None:
    """Sigma 1 without sampling: RDP gives alpha/2; the analytic Gaussian mechanism needs 4.38."""
    assert 4.38 < epsilon_of([release(1.0, 1.0, 1)], 1e-5) < 4.9


def test_how_a_run_is_cut_into_rounds_changes_nothing() -> None:
    whole = [release(1.3, 0.1, 60)]
    parts = [release(1.3, 0.1, 10), release(1.3, 0.1, 20), release(1.3, 0.1, 30)]
    assert epsilon_of(whole, DELTA) == epsilon_of(parts, DELTA) == epsilon_of(parts[::-1], DELTA)


@given(st.integers(1, 500), st.integers(1, 500))
@settings(max_examples=8, deadline=None)
def test_more_steps_never_cost_less(few: int, more: int) -> None:
    low = micro_epsilon([release(1.2, 0.05, few)], DELTA)
    assert low < micro_epsilon([release(1.2, 0.05, few + more)], DELTA)


def test_rounded_up_to_micro_units() -> None:
    found = [release(1.2, 0.05, 40)]
    exact = epsilon_of(found, DELTA) * MICRO
    assert 0 <= micro_epsilon(found, DELTA) - exact < 1


def test_cumulative_adds_the_opening_balance() -> None:
    one = Mechanism(
        epsilon=1, noise_multiplier=1_200_000, sample_rate=50_000_000, steps=40, delta=10_000_000
    )
    plain, carried = cumulative_micro([one, one]), cumulative_micro([one, one], opening=500)
    assert [value + 500 for value in plain] == carried
    assert plain[0] == micro_epsilon([release(1.2, 0.05, 40)], DELTA)
    assert plain[1] == micro_epsilon([release(1.2, 0.05, 80)], DELTA)


@pytest.mark.parametrize(
    "wrong",
    [
        Mechanism(noise_multiplier=0, sample_rate=1, steps=1),
        Mechanism(noise_multiplier=1, sample_rate=0, steps=1),
        Mechanism(noise_multiplier=1, sample_rate=10**9 + 1, steps=1),
        Mechanism(noise_multiplier=1, sample_rate=1, steps=0),
    ],
)
def test_a_mechanism_without_privacy_is_refused(wrong: Mechanism) -> None:
    with pytest.raises(InvalidStatement):
        Release.of(wrong)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, 2.0])
def test_a_delta_outside_its_range_is_refused(delta: float) -> None:
    with pytest.raises(InvalidStatement):
        epsilon_of([release(1.0, 0.1, 1)], delta)
