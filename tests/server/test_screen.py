from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from ledger.audit_screen import decide_again, inner_products
from ledger.errors import (
    DuplicateUpdate,
    InertUpdate,
    NormExceeded,
    OutlierUpdate,
    PolicyError,
    WeakNoise,
)
from ledger.statement import QMAX
from server import screen as screening
from server.screen import ScreenPolicy, gram, noise_floor, screen

SIZE = 3000
BOUND = 10**6
Update = NDArray[np.int16]


def honest(count: int, *, own: float = 0.7, seed: int = 0) -> dict[str, Update]:
    """Return updates of a common direction plus an own one: cosines of about 1 / (1 + own^2)."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal(SIZE)
    return {
        f"h{i}": np.rint(1000 * (common + own * rng.standard_normal(SIZE))).astype(np.int16)
        for i in range(count)
    }


def _thresholds(policy: ScreenPolicy) -> dict[str, float]:
    """Return the policy as the auditor reads it from a configuration."""
    said = policy.to_config().items()
    return {name: float(value) for name, value in said if isinstance(value, bool | float)}


@settings(max_examples=30)
@given(st.lists(arrays(np.int16, 40, elements=st.integers(-QMAX, QMAX)), min_size=1, max_size=4))
def test_gram_is_exact(updates: list[Update]) -> None:
    expected = [
        [sum(int(x) * int(y) for x, y in zip(a, b, strict=True)) for b in updates] for a in updates
    ]
    assert gram(updates) == expected


def test_gram_is_exact_over_chunks_at_the_extremes() -> None:
    q = np.full(screening.CHUNK + 3, -QMAX, dtype=np.int16)
    assert gram([q, q]) == [[q.size * QMAX**2] * 2] * 2


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_honest_updates_pass(count: int) -> None:
    updates = honest(count)
    result = screen(updates, policy=ScreenPolicy(), norm_bound=BOUND)
    assert not result.refusals
    assert set(result.measurements) == set(updates)


@pytest.mark.parametrize(("count", "flipped"), [(3, 1), (5, 1), (5, 2), (9, 4)])
def test_a_minority_of_flipped_signs_is_named(count: int, flipped: int) -> None:
    updates = honest(count)
    rogues = sorted(updates)[:flipped]
    changed = updates | {name: -updates[name] for name in rogues}
    result = screen(changed, policy=ScreenPolicy(), norm_bound=BOUND)
    named = dict.fromkeys(rogues, OutlierUpdate)
    assert {name: type(e) for name, e in result.refusals.items()} == named
    config = _thresholds(ScreenPolicy())
    assert decide_again(inner_products(changed), sorted(changed), config, BOUND, SIZE) == named


def test_two_hospitals_cannot_say_who_is_the_outlier() -> None:
    a = honest(1)["h0"]
    result = screen({"a": a, "b": -a}, policy=ScreenPolicy(), norm_bound=BOUND)
    assert not result.refusals


def test_where_honest_hospitals_agree_on_nothing_nobody_is_refused() -> None:
    """Late in training honest updates are orthogonal; one at a cosine of -0.2 is still honest."""
    rng = np.random.default_rng(3)
    basis, _ = np.linalg.qr(rng.standard_normal((SIZE, 3)))
    a, b, c = basis.T
    apart = c - 0.2 * a - 0.2 * b
    updates = {
        name: np.rint(20_000 * vector / np.linalg.norm(vector)).astype(np.int16)
        for name, vector in (("a", a), ("b", b), ("c", apart))
    }
    result = screen(updates, policy=ScreenPolicy(), norm_bound=BOUND)
    measured = result.measurements["c"].cosine_median
    assert measured is not None
    assert -0.3 < measured < -0.1
    assert not result.refusals


@pytest.mark.parametrize(
    ("agreed", "own"), [(0.14, -0.18), (0.32, -0.25), (0.40, -0.06), (0.54, -0.25)]
)
def test_a_hospital_unlike_the_others_is_no_mirror_of_them(agreed: float, own: float) -> None:
    """Cosines late in real runs of three honest hospitals; the third was refused before."""
    rng = np.random.default_rng(5)
    a, b, c = np.linalg.qr(rng.standard_normal((20_000, 3)))[0].T
    b = agreed * a + np.sqrt(1 - agreed**2) * b
    middle = (a + b) / np.linalg.norm(a + b)
    share = own / float(a @ middle)  # of the third along the middle of the other two
    c = share * middle + np.sqrt(1 - share**2) * c
    updates = {
        name: np.rint(20_000 * vector).astype(np.int16)
        for name, vector in (("a", a), ("b", b), ("c", c))
    }
    result = screen(updates, policy=ScreenPolicy(), norm_bound=BOUND)
    assert result.measurements["a"].cosine_median == pytest.approx(agreed, abs=1e-3)
    assert result.measurements["c"].cosine_median == pytest.approx(own, abs=1e-3)
    assert not result.refusals
    old = ScreenPolicy(agreement=0.0, mirror_share=0.0)
    assert set(screen(updates, policy=old, norm_bound=BOUND).refusals) == {"c"}
    for policy in (ScreenPolicy(), old):  # the auditor's own code says the same
        config = _thresholds(policy)
        audited = decide_again(inner_products(updates), sorted(updates), config, BOUND, 20_000)
        said = screen(updates, policy=policy, norm_bound=BOUND).refusals
        assert audited == {name: type(refusal) for name, refusal in said.items()}
    before = {k: v for k, v in old.to_config().items() if k not in {"agreement", "mirror_share"}}
    assert ScreenPolicy.from_config(before) == old


def test_pure_noise_is_no_outlier_and_hides_a_flipped_sign() -> None:
    """Under differential privacy noise dominates: this is what screening can no longer see."""
    updates = honest(5, own=30.0)
    updates = {name: (q // 30).astype(np.int16) for name, q in updates.items()}
    updates["h0"] = -updates["h0"]
    assert not screen(updates, policy=ScreenPolicy(), norm_bound=BOUND).refusals


def test_norms() -> None:
    updates = honest(5)
    norm = math.isqrt(int((updates["h0"].astype(np.int64) ** 2).sum()))
    changed = updates | {
        "h0": np.zeros(SIZE, np.int16),
        "h1": (updates["h1"] // 900).astype(np.int16),
        "h2": np.clip(updates["h2"].astype(int) * 5, -QMAX, QMAX).astype(np.int16),
        "h3": (updates["h3"] // 4).astype(np.int16),
    }
    policy = ScreenPolicy(noise_floor=norm / 2)
    refusals = screen(changed, policy=policy, norm_bound=2 * norm).refusals
    assert {name: type(e) for name, e in refusals.items()} == {
        "h0": InertUpdate,
        "h1": InertUpdate,
        "h2": NormExceeded,
        "h3": WeakNoise,
    }


def test_the_bound_itself_is_allowed() -> None:
    q = np.array([3, 4], dtype=np.int16)
    assert not screen({"a": q}, policy=ScreenPolicy(), norm_bound=5).refusals
    assert screen({"a": q}, policy=ScreenPolicy(), norm_bound=4).refusals


def test_all_copies_are_refused_and_do_not_outvote_the_others() -> None:
    updates = honest(5)
    rogue = -updates["h0"]
    changed = updates | {"x": rogue, "y": rogue, "z": rogue}
    refusals = screen(changed, policy=ScreenPolicy(), norm_bound=BOUND).refusals
    assert {name: type(e) for name, e in refusals.items()} == dict.fromkeys("xyz", DuplicateUpdate)


def test_order_cannot_matter() -> None:
    updates = honest(5) | {"rogue": -honest(1)["h0"]}
    backwards = dict(reversed(updates.items()))
    one, two = (screen(u, policy=ScreenPolicy(), norm_bound=BOUND) for u in (updates, backwards))
    assert one.measurements == two.measurements
    assert sorted(one.refusals) == sorted(two.refusals)


def test_directions_can_be_left_to_the_federation() -> None:
    updates = honest(3)
    updates["h0"] = -updates["h0"]
    policy = ScreenPolicy(directions=False)
    assert not screen(updates, policy=policy, norm_bound=BOUND).refusals


def test_nothing_to_screen() -> None:
    assert screen({}, policy=ScreenPolicy(), norm_bound=1).measurements == {}


def test_policy_round_trip() -> None:
    policy = ScreenPolicy(z=5.0, directions=False)
    assert ScreenPolicy.from_config(policy.to_config()) == policy


@pytest.mark.parametrize(
    "config",
    [
        None,
        {},
        [],
        ScreenPolicy().to_config() | {"typo": 1.0},
        {k: v for k, v in ScreenPolicy().to_config().items() if k != "z"},
        ScreenPolicy().to_config() | {"z": "4"},
        ScreenPolicy().to_config() | {"z": True},
        ScreenPolicy().to_config() | {"z": float("nan")},
        ScreenPolicy().to_config() | {"mad_factor": 0.0},
        ScreenPolicy().to_config() | {"copy_cosine": 1.5},
        ScreenPolicy().to_config() | {"noise_floor": -1.0},
        ScreenPolicy().to_config() | {"directions": 1},
    ],
)
def test_a_misconfigured_screen_lets_nothing_pass(config: object) -> None:
    with pytest.raises(PolicyError):
        ScreenPolicy.from_config(config)


def test_noise_floor_is_half_of_what_the_noise_gives() -> None:
    floor = noise_floor(coordinate_noise=0.01, step_exponent=10, size=10_000, norm_bound=10**6)
    assert floor == pytest.approx(0.5 * 0.01 * 2**10 * 100)
    noise = np.random.default_rng(0).normal(0, 0.01 * 2**10, 10_000)
    assert np.linalg.norm(noise) > 1.9 * floor
