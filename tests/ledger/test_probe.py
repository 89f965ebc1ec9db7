"""Probes: exact integers, from a keystream that a second implementation agrees on."""

import hashlib
import tracemalloc

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from ledger.errors import InvalidStatement, SpecMismatch
from ledger.probe import CHUNK, Prober, probe_sum, probe_update
from ledger.statement import PROBES, QMAX, norm_cap, pack_probes
from tests.ledger.samples import digests, quick, update

BEACON = bytes(range(32))


def reference_vector(beacon: bytes, j: int, size: int) -> list[int]:
    """r_j by AES on counter blocks one by one, in Python integers: no CTR mode, no NumPy."""
    key = hashlib.sha256(beacon + bytes([j])).digest()
    block = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()  # noqa: S305 - one block each
    stream = b"".join(
        block.update(counter.to_bytes(16, "big")) for counter in range((2 * size + 15) // 16)
    )
    return [int.from_bytes(stream[2 * c : 2 * c + 2], "little", signed=True) for c in range(size)]


def reference(beacon: bytes, values: NDArray[np.int16] | NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(
        sum(
            r * int(v)
            for r, v in zip(reference_vector(beacon, j, len(values)), values, strict=True)
        )
        for j in range(PROBES)
    )


@quick
@given(digests, npst.arrays(np.int16, st.integers(0, 60), elements=st.integers(-QMAX, QMAX)))
def test_probe_update_equals_python_integers(beacon: bytes, q: NDArray[np.int16]) -> None:
    assert probe_update(beacon, q) == reference(beacon, q)


@quick
@given(
    digests,
    npst.arrays(np.int64, st.integers(0, 60), elements=st.integers(-(2**63), 2**63 - 1)),
)
def test_probe_sum_equals_python_integers(beacon: bytes, total: NDArray[np.int64]) -> None:
    assert probe_sum(beacon, total) == reference(beacon, total)


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5])
def test_extremes_across_chunks_are_exact(size: int) -> None:
    """Signs equal to the probe's, magnitudes at the limit: the largest partial sums there are."""
    signs = np.sign(np.array(reference_vector(BEACON, 0, size)) + 0.5).astype(np.int64)
    q = (signs * QMAX).astype(np.int16)
    assert probe_update(BEACON, q) == reference(BEACON, q)
    for top in (2**45, 2**63 - 1):
        total = signs * top
        assert probe_sum(BEACON, total) == reference(BEACON, total)


@quick
@given(
    st.integers(1, 200),
    st.data(),
)
def test_changing_any_coordinate_changes_the_probes(size: int, data: st.DataObject) -> None:
    q = update(size, 3)
    at = data.draw(st.integers(0, size - 1))
    other = q.copy()
    other[at] = data.draw(st.integers(-QMAX, QMAX).filter(lambda x: x != int(q[at])))
    a, b = probe_update(BEACON, q), probe_update(BEACON, other)
    assert sum(x != y for x, y in zip(a, b, strict=True)) >= PROBES - 1


@quick
@given(st.lists(st.integers(0, 3 * CHUNK), max_size=4))
def test_pieces_total_to_the_whole(cuts: list[int]) -> None:
    q = update(3 * CHUNK, 1)
    prober = Prober(BEACON)
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), 3 * CHUNK], strict=True):
        prober.feed(q[begin:end])
    assert prober.totals() == probe_update(BEACON, q)


@quick
@given(st.lists(st.tuples(st.integers(1, 2**24 - 1), st.integers(0, 9)), min_size=1, max_size=6))
def test_the_contracts_total_is_the_probe_of_the_sum(rows: list[tuple[int, int]]) -> None:
    """T_j = sum_i w_i t_ij = <r_j, S>: what lets a hospital check a sum it cannot see into."""
    updates = [(weight, update(100, seed)) for weight, seed in rows]
    total = np.zeros(100, np.int64)
    for weight, q in updates:
        total += weight * q.astype(np.int64)
    probes = [(weight, probe_update(BEACON, q)) for weight, q in updates]
    assert probe_sum(BEACON, total) == tuple(
        sum(weight * t[j] for weight, t in probes) for j in range(PROBES)
    )
    total[50] += 1
    assert probe_sum(BEACON, total) != tuple(
        sum(weight * t[j] for weight, t in probes) for j in range(PROBES)
    )


def test_beacons_and_probes_are_independent() -> None:
    rows = [reference_vector(bytes([b]) * 32, j, 32) for b in range(3) for j in range(PROBES)]
    assert len({tuple(row) for row in rows}) == 3 * PROBES


def test_an_honest_norm_passes_the_cap_and_a_far_larger_one_does_not() -> None:
    q = update(5000, 2) // 40
    squares = sum(int(x) ** 2 for x in q)
    bound = int(squares**0.5) + 1
    assert 12 * sum(t * t for t in probe_update(BEACON, q)) <= norm_cap(bound)
    assert 12 * sum(t * t for t in probe_update(BEACON, q * 20)) > norm_cap(bound)


def test_the_mean_square_is_that_of_the_protocol() -> None:
    """E[t²] = ||q||² (2^32 - 1) / 12 for zero-sum q; 16 probes of 40 beacons: 4 % deviation."""
    q = update(400, 5)
    q[-1] = 0
    squares = sum(int(x) ** 2 for x in q)
    found = [t * t for b in range(40) for t in probe_update(bytes([b]) * 32, q)]
    ratio = sum(found) / len(found) / (squares * (2**32 - 1) / 12)
    assert 0.8 < ratio < 1.2


def test_probes_fit_what_the_contract_stores() -> None:
    packed = pack_probes([probe_update(BEACON, update(1000))])
    assert len(packed) == 8 * PROBES
    first = int.from_bytes(packed[:8], "big", signed=True)
    assert first == probe_update(BEACON, update(1000))[0]


def test_memory_is_constant() -> None:
    q = update(2_000_000)
    tracemalloc.start()
    probe_update(BEACON, q)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_strided_input_is_read_by_value() -> None:
    q = update(100)
    assert probe_update(BEACON, np.repeat(q, 2)[::2]) == probe_update(BEACON, q)


@pytest.mark.parametrize("beacon", [b"", bytes(31), bytes(33), "0" * 32])
def test_bad_beacons(beacon: bytes) -> None:
    with pytest.raises(InvalidStatement):
        probe_update(beacon, update(3))


def test_other_kinds_are_refused() -> None:
    with pytest.raises(SpecMismatch):
        probe_update(BEACON, np.zeros(3, np.int64))
    with pytest.raises(SpecMismatch):
        probe_sum(BEACON, np.zeros(3, np.int16))
    with pytest.raises(SpecMismatch):
        Prober(BEACON).feed(np.zeros((1, 3), np.int16))
    with pytest.raises(SpecMismatch):
        Prober(BEACON).feed(np.zeros(3, np.uint16))  # type: ignore[arg-type]
