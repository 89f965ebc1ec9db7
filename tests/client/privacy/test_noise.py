"""The keystream: uniform, Gaussian, secret."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from client.noise import Keystream
from ledger.errors import PolicyError


def test_normals_are_standard_normal() -> None:
    values = Keystream.insecure_test(1).normals(200_001)
    assert values.shape == (200_001,)
    assert stats.kstest(values, "norm").pvalue > 1e-3
    assert abs(float(np.corrcoef(values[:-1], values[1:])[0, 1])) < 0.01


def test_system_keystreams_differ_and_are_not_insecure() -> None:
    first, second = Keystream(), Keystream()
    assert not first.insecure
    assert not np.array_equal(first.words(8), second.words(8))


def test_an_injected_key_must_be_declared() -> None:
    with pytest.raises(PolicyError, match="declared insecure"):
        Keystream(bytes(32))
    with pytest.raises(PolicyError, match="32 bytes"):
        Keystream(bytes(31), insecure=True)


def test_same_seed_same_stream_and_words_do_not_repeat() -> None:
    again = Keystream.insecure_test(7, 3)
    assert np.array_equal(Keystream.insecure_test(7, 3).words(100), again.words(100))
    assert not np.array_equal(Keystream.insecure_test(7, 3).words(100), again.words(100))


@pytest.mark.parametrize("rate", [0.01, 0.3, 1.0])
def test_bernoulli_has_its_rate(rate: float) -> None:
    count = 100_000
    hits = int(Keystream.insecure_test(2).bernoulli(count, rate).sum())
    assert abs(hits - rate * count) <= 5 * np.sqrt(count * rate * (1 - rate))


@pytest.mark.parametrize("rate", [0.0, -1.0, 1.5])
def test_a_rate_outside_is_refused(rate: float) -> None:
    with pytest.raises(PolicyError):
        Keystream.insecure_test(2).bernoulli(10, rate)


def test_below_is_uniform_and_in_range() -> None:
    bounds = np.full(60_000, 6, dtype=np.int64)
    values = Keystream.insecure_test(3).below(bounds)
    counts = np.bincount(values, minlength=6)
    assert counts.sum() == 60_000
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-3
