"""Statements: ranges checked, and the same bytes that Solidity hashes."""

from dataclasses import fields, replace
from typing import Any

import pytest
from eth_abi.abi import encode as abi_encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import CodecError, InvalidStatement
from ledger.statement import (
    BASIS,
    BEACON_TAG,
    COMMIT_TAG,
    MAX_SEATS,
    PROBES,
    Commit,
    Domain,
    Mechanism,
    Opening,
    Rules,
    Unit,
    beacon_of,
    bitmap_of,
    norm_cap,
    pack_probes,
    seats_of,
)
from tests.ledger.samples import DOMAIN, HOSPITAL, OTHER, addresses, digests, quick

MECHANISM = Mechanism(
    epsilon=1_234_567, noise_multiplier=1_640_000, sample_rate=5 * 10**8, steps=20, delta=10**7
)
COMMIT = Commit(
    round=3,
    hospital=HOSPITAL,
    seat=2,
    seal_digest=bytes([1]) * 32,
    opening_digest=bytes([2]) * 32,
    weight=1024,
    mechanism=MECHANISM,
)
OPENING = Opening(
    round=1,
    open_head=bytes(32),
    base_model=bytes(32),
    config_digest=bytes(32),
    key_digest=bytes(32),
    norm_bound=1,
    commit_deadline=1,
    attest_window=1,
    weight_cap=1,
    roster_count=1,
    roster_weight=1,
)
RULES = Rules(federation_id=bytes([7]) * 32, initial_model=bytes([8]) * 32)
SAMPLES: list[Any] = [DOMAIN, RULES, MECHANISM, COMMIT, OPENING]
UINTS = [
    (sample, item.name, item.metadata["uint"])
    for sample in SAMPLES
    for item in fields(sample)
    if "uint" in item.metadata
]
KINDS = [
    (sample, item.name, item.metadata["kind"])
    for sample in SAMPLES
    for item in fields(sample)
    if "kind" in item.metadata
]


def label(value: object) -> str:
    return value if isinstance(value, str) else type(value).__name__


@pytest.mark.parametrize(("sample", "name", "bits"), UINTS, ids=label)
def test_integers_are_bounded_by_their_solidity_type(sample: Any, name: str, bits: int) -> None:
    for bad in (-1, 1 << bits, True, 1.0, "1", None):
        with pytest.raises(InvalidStatement, match=name):
            replace(sample, **{name: bad})
    assert getattr(replace(sample, **{name: 0}), name) == 0
    top = BASIS if bits == 16 else (1 << bits) - 1
    top -= name == "max_silent_share"  # somebody must attest
    assert getattr(replace(sample, **{name: top}), name) == top


@pytest.mark.parametrize(("sample", "name", "kind"), KINDS, ids=label)
def test_digests_and_addresses_are_checked(sample: Any, name: str, kind: str) -> None:
    bad: list[Any] = [b"", bytes(31), bytes(33), "00" * 32, None, bytearray(32)]
    if kind == "address":
        bad = ["", HOSPITAL.lower(), HOSPITAL[:-1], "0x" + "G" * 40, bytes(20), None]
    for value in bad:
        with pytest.raises(InvalidStatement, match=name):
            replace(sample, **{name: value})


@pytest.mark.parametrize(
    "name",
    [
        "min_accepted_of_commits",
        "min_accepted_of_members",
        "max_silent_share",
        "share_cap",
        "vote_share",
    ],
)
def test_shares_are_at_most_a_whole(name: str) -> None:
    over: dict[str, Any] = {name: BASIS + 1}
    with pytest.raises(InvalidStatement, match=name):
        replace(RULES, **over)


def test_statements_are_frozen_and_keyword_only() -> None:
    with pytest.raises(AttributeError):
        MECHANISM.epsilon = 0  # type: ignore[misc]
    with pytest.raises(TypeError):
        Domain(bytes(32), 1, HOSPITAL)  # type: ignore[call-arg]


def test_abi_tuples_follow_the_interface() -> None:
    assert MECHANISM.abi() == (1_234_567, 1_640_000, 5 * 10**8, 20, 10**7, bytes(32))
    rules = replace(RULES, privacy_unit=Unit.IMAGE, min_commit_window=9)
    expected = (bytes([7]) * 32, bytes([8]) * 32, 1, 5000, 5000, 0, 6000, 5000, 9)
    assert rules.abi() == expected
    abi_encode(["(bytes32,bytes32,uint8,uint16,uint16,uint16,uint16,uint16,uint32)"], [rules.abi()])


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def test_the_commit_hash_is_the_documented_bytes() -> None:
    """By hand, word by word, as ``abi.encode`` lays a static tuple out."""
    by_hand = keccak(
        keccak(b"thoracle/commit/v1")
        + DOMAIN.federation_id
        + word(3)
        + bytes(12)
        + bytes.fromhex(HOSPITAL[2:])
        + bytes([1]) * 32
        + bytes([2]) * 32
        + word(1_234_567)
        + word(1_640_000)
        + word(5 * 10**8)
        + word(20)
        + word(10**7)
        + bytes(32)
    )
    assert keccak(b"thoracle/commit/v1") == COMMIT_TAG
    assert COMMIT.commit_hash(DOMAIN.federation_id) == by_hand


def test_the_commit_hash_binds_all_but_seat_and_weight() -> None:
    mechanisms: dict[str, Any] = {
        "epsilon": 1,
        "noise_multiplier": 1,
        "sample_rate": 1,
        "steps": 1,
        "delta": 1,
        "list_digest": bytes([1]) * 32,
    }
    changed = [
        replace(COMMIT, round=4),
        replace(COMMIT, hospital=OTHER),
        replace(COMMIT, seal_digest=bytes(32)),
        replace(COMMIT, opening_digest=bytes(32)),
        *(
            replace(COMMIT, mechanism=replace(MECHANISM, **{name: value}))
            for name, value in mechanisms.items()
        ),
    ]
    hashes = {c.commit_hash(DOMAIN.federation_id) for c in [COMMIT, *changed]}
    assert len(hashes) == len(changed) + 1
    # The contract holds those two itself; a hospital does not state them.
    assert replace(COMMIT, seat=0, weight=1).commit_hash(bytes(32)) == COMMIT.commit_hash(bytes(32))


BEACON_FIELDS: dict[str, Any] = {
    "federation_id": bytes([7]) * 32,
    "round": 3,
    "sum_digest": bytes([1]) * 32,
    "model_digest": bytes([2]) * 32,
    "accepted": 0b101,
    "commit_hashes": [bytes([3]) * 32, bytes([4]) * 32],
}


def test_the_beacon_is_the_documented_bytes() -> None:
    by_hand = keccak(
        keccak(b"thoracle/beacon/v1")
        + bytes([7]) * 32
        + word(3)
        + bytes([1]) * 32
        + bytes([2]) * 32
        + word(5)
        + keccak(bytes([3]) * 32 + bytes([4]) * 32)
    )
    assert keccak(b"thoracle/beacon/v1") == BEACON_TAG
    assert beacon_of(**BEACON_FIELDS) == by_hand


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("federation_id", bytes(32)),
        ("round", 4),
        ("sum_digest", bytes(32)),
        ("model_digest", bytes(32)),
        ("accepted", 0b110),
        ("commit_hashes", [bytes([4]) * 32, bytes([3]) * 32]),
        ("commit_hashes", [bytes([3]) * 32]),
    ],
)
def test_the_beacon_binds_every_field(name: str, value: object) -> None:
    assert beacon_of(**{**BEACON_FIELDS, name: value}) != beacon_of(**BEACON_FIELDS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("federation_id", bytes(31)),
        ("sum_digest", b""),
        ("model_digest", bytes(33)),
        ("commit_hashes", [bytes(31)]),
        ("round", -1),
        ("round", 2**32),
        ("accepted", 2**64),
    ],
)
def test_a_beacon_of_bad_fields_is_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidStatement):
        beacon_of(**{**BEACON_FIELDS, name: value})
    with pytest.raises(InvalidStatement):
        COMMIT.commit_hash(bytes(31))


@quick
@given(st.sets(st.integers(0, MAX_SEATS - 1)))
def test_bitmaps_round_trip(seats: set[int]) -> None:
    assert seats_of(bitmap_of(sorted(seats, reverse=True))) == tuple(sorted(seats))


@pytest.mark.parametrize("seats", [[64], [-1], [3, 3]])
def test_bad_seats(seats: list[int]) -> None:
    with pytest.raises(InvalidStatement):
        bitmap_of(seats)


@quick
@given(
    st.lists(
        st.lists(st.integers(-(2**63), 2**63 - 1), min_size=PROBES, max_size=PROBES).map(tuple),
        max_size=4,
    )
)
def test_probes_are_packed_as_the_contract_reads_them(probes: list[tuple[int, ...]]) -> None:
    packed = pack_probes(probes)
    numbers = [
        int.from_bytes(packed[at : at + 8], "big", signed=True) for at in range(0, len(packed), 8)
    ]
    assert numbers == [t for row in probes for t in row]


@pytest.mark.parametrize("row", [(0,) * 15, (0,) * 17, (2**63,) + (0,) * 15, (-(2**63) - 1,) * 16])
def test_probes_that_do_not_fit_are_refused(row: tuple[int, ...]) -> None:
    with pytest.raises(InvalidStatement):
        pack_probes([row])


def test_the_norm_cap_is_integer_arithmetic() -> None:
    assert norm_cap(1) == 59 * (2**32 - 1)
    assert norm_cap(2**40 - 1) == 59 * (2**40 - 1) ** 2 * (2**32 - 1) < 2**256


@quick
@given(
    digests,
    st.integers(-(2**70), 2**70),
    addresses | st.text(max_size=50),
    st.binary(max_size=40),
)
def test_any_values_make_a_statement_or_a_codec_error(
    federation: bytes, number: int, hospital: str, digest: bytes
) -> None:
    try:
        domain = Domain(federation_id=federation, chain_id=number, contract=hospital)
        commit = replace(COMMIT, round=number, hospital=hospital, opening_digest=digest)
    except CodecError:
        return
    assert 0 <= number < 2**32
    assert len(commit.commit_hash(domain.federation_id)) == 32
