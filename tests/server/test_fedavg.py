from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ledger.errors import WeightOverflow
from ledger.statement import MAX_WEIGHT, QMAX
from server import fedavg
from server.fedavg import weighted_sum

q_arrays = arrays(np.int16, 7, elements=st.integers(-QMAX, QMAX))


@given(st.lists(st.tuples(st.integers(1, MAX_WEIGHT), q_arrays), max_size=5))
def test_equals_python_integers(updates: list[tuple[int, np.ndarray]]) -> None:
    total, weight = weighted_sum(updates, 7)
    assert total.dtype == np.int64
    assert weight == sum(w for w, _ in updates)
    assert total.tolist() == [sum(w * int(q[c]) for w, q in updates) for c in range(7)]


def test_order_cannot_matter() -> None:
    rng = np.random.default_rng(0)
    size = fedavg.CHUNK + 5
    updates = [(w, rng.integers(-QMAX, QMAX, size).astype(np.int16)) for w in (3, 50, 1000)]
    sums = {weighted_sum(order, size)[0].tobytes() for order in permutations(updates)}
    assert len(sums) == 1


def test_extremes_do_not_wrap() -> None:
    q = np.full(3, -QMAX, dtype=np.int16)
    total, _ = weighted_sum([(MAX_WEIGHT, q)] * 64, 3)
    assert total.tolist() == [-QMAX * MAX_WEIGHT * 64] * 3


@pytest.mark.parametrize("weight", [0, -1, MAX_WEIGHT * 64 + 1])
def test_weights_out_of_range(weight: int) -> None:
    with pytest.raises(WeightOverflow):
        weighted_sum([(weight, np.zeros(3, dtype=np.int16))], 3)


def test_only_int16_of_the_model() -> None:
    with pytest.raises(ValueError, match="int16 of length 3"):
        weighted_sum([(1, np.zeros(3, dtype=np.int32))], 3)
    with pytest.raises(ValueError, match="int16 of length 3"):
        weighted_sum([(1, np.zeros(4, dtype=np.int16))], 3)
