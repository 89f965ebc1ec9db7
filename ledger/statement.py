"""The typed statements of one round: what parties say to the chain, and to each other.

Every class is frozen and keyword-only, checks its own ranges and knows its contract form. Digests
are 32 raw bytes, addresses are EIP-55 strings, epsilon is in micro-units (1e-6) rounded up.
``BEACON_TAG`` and the hashing rules below must stay equal to ``AggregationLedger.sol``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum

from eth_abi.abi import encode as abi_encode
from eth_utils.crypto import keccak

from ledger.errors import InvalidStatement
from ledger.fields import Checked, address, check_digest, check_uint, digest, uint

QMAX = 32767
"""Largest magnitude of a quantised coordinate (-32768 is never valid)."""
PROBES = 16
"""Probe vectors a round (K)."""
MAX_SEATS = 64
"""Hospitals a contract can ever seat: bitmaps are uint64."""
MAX_WEIGHT = 2**24 - 1
BASIS = 10_000
"""Basis points in a whole."""
BEACON_TAG = keccak(b"thoracle/beacon/v1")
COMMIT_TAG = keccak(b"thoracle/commit/v1")
HEAD_TAG = keccak(b"thoracle/head/v1")


class Phase(IntEnum):
    """Where the live round stands."""

    IDLE = 0
    COMMITTING = 1
    ATTESTING = 2


class Outcome(IntEnum):
    """How a round ended."""

    NONE = 0
    SUM_VERIFIED = 1
    QUORUM_ONLY = 2
    ABORTED = 3


class Unit(IntEnum):
    """Whom the privacy guarantee protects."""

    NONE = 0
    IMAGE = 1
    PATIENT = 2


class Ballot(IntEnum):
    """What members vote on."""

    ENROL = 0
    REMOVE = 1
    SET_COORDINATOR = 2


class Kind(IntEnum):
    """What a head record records."""

    DEPLOYED = 0
    REGISTERED = 1
    CAP_LOWERED = 2
    WEIGHT_SET = 3
    ENACTED = 4
    OPENED = 5
    PROPOSED = 6
    FINALISED = 7
    ABORTED = 8


@dataclass(frozen=True, kw_only=True)
class Domain(Checked):
    """One federation on one contract on one chain; bound into every hash and seal."""

    federation_id: bytes = digest()
    chain_id: int = uint(64)
    contract: str = address()


@dataclass(frozen=True, kw_only=True)
class Rules(Checked):
    """The federation's rules, fixed at deployment (shares in basis points)."""

    federation_id: bytes = digest()
    initial_model: bytes = digest()
    privacy_unit: Unit = Unit.PATIENT
    min_accepted_of_commits: int = uint(16, default=5000)
    min_accepted_of_members: int = uint(16, default=5000)
    max_silent_share: int = uint(16, default=0)
    share_cap: int = uint(16, default=6000)
    vote_share: int = uint(16, default=5000)
    min_commit_window: int = uint(32, default=0)

    def __post_init__(self) -> None:
        """Check that shares are at most a whole, the silent one below it (``InvalidStatement``)."""
        super().__post_init__()
        for item in (
            "min_accepted_of_commits",
            "min_accepted_of_members",
            "max_silent_share",
            "share_cap",
            "vote_share",
        ):
            if getattr(self, item) > BASIS:
                raise InvalidStatement(f"{item} is in basis points: at most {BASIS}")
        if self.max_silent_share == BASIS:
            raise InvalidStatement("max_silent_share must be below a whole: someone must attest")

    def abi(self) -> tuple[object, ...]:
        """Return the tuple that Solidity's ``Rules`` takes."""
        return tuple(
            int(v) if isinstance(v, int) else v
            for v in (getattr(self, item.name) for item in fields(self))
        )


@dataclass(frozen=True, kw_only=True)
class Mechanism(Checked):
    """The privacy mechanism a hospital ran in one round, and its cumulative cost.

    ``epsilon`` is cumulative over all rounds, in micro-units, rounded up; ``noise_multiplier`` in
    1e-6; ``sample_rate`` in 1e-9, rounded up; ``delta`` in 1e-12. All zero without privacy.
    """

    epsilon: int = uint(40, default=0)
    noise_multiplier: int = uint(32, default=0)
    sample_rate: int = uint(32, default=0)
    steps: int = uint(32, default=0)
    delta: int = uint(40, default=0)
    list_digest: bytes = digest(default=bytes(32))

    def abi(self) -> tuple[object, ...]:
        """Return the tuple that Solidity's ``Mechanism`` takes."""
        return tuple(getattr(self, item.name) for item in fields(self))


@dataclass(frozen=True, kw_only=True)
class Opening(Checked):
    """A round as the chain opened it."""

    round: int = uint(32)
    open_head: bytes = digest()
    base_model: bytes = digest()
    config_digest: bytes = digest()
    key_digest: bytes = digest()
    norm_bound: int = uint(40)
    commit_deadline: int = uint(40)
    attest_window: int = uint(32)
    weight_cap: int = uint(24)
    roster_count: int = uint(8)
    roster_weight: int = uint(32)


@dataclass(frozen=True, kw_only=True)
class Commit(Checked):
    """One hospital's commit, as the chain holds it (``weight`` is the effective one)."""

    round: int = uint(32)
    hospital: str = address()
    seat: int = uint(8)
    seal_digest: bytes = digest()
    opening_digest: bytes = digest()
    weight: int = uint(24)
    mechanism: Mechanism

    def commit_hash(self, federation_id: bytes) -> bytes:
        """keccak256(abi.encode(COMMIT_TAG, federationId, round, hospital, seal, opening, m)).

        Raises:
            InvalidStatement: the federation's id is not 32 bytes.
        """
        check_digest("federation_id", federation_id)
        return keccak(
            abi_encode(
                [
                    "bytes32",
                    "bytes32",
                    "uint32",
                    "address",
                    "bytes32",
                    "bytes32",
                    "(uint40,uint32,uint32,uint32,uint40,bytes32)",
                ],
                [
                    COMMIT_TAG,
                    federation_id,
                    self.round,
                    self.hospital,
                    self.seal_digest,
                    self.opening_digest,
                    self.mechanism.abi(),
                ],
            )
        )


@dataclass(frozen=True, kw_only=True)
class Proposal(Checked):
    """The coordinator's one proposal of a round, as the chain holds it.

    ``accepted`` and ``refused`` are bitmaps by seat; ``reasons`` maps refused seats to error
    codes; ``probes`` maps accepted seats to their 16 integers; ``totals`` are the contract's own
    weighted sums T_j of them.
    """

    round: int = uint(32)
    sum_digest: bytes = digest()
    model_digest: bytes = digest()
    beacon: bytes = digest()
    accepted: int = uint(64)
    refused: int = uint(64)
    accepted_weight: int = uint(32)
    attest_deadline: int = uint(40)
    reasons: dict[int, int]
    probes: dict[int, tuple[int, ...]]
    totals: tuple[int, ...]


def seats_of(bitmap: int) -> tuple[int, ...]:
    """Return the seats in a bitmap, ascending."""
    return tuple(seat for seat in range(MAX_SEATS) if bitmap >> seat & 1)


def bitmap_of(seats: tuple[int, ...] | list[int]) -> int:
    """Return the bitmap of some seats.

    Raises:
        InvalidStatement: a seat is out of range or listed twice.
    """
    bitmap = 0
    for seat in seats:
        if not 0 <= seat < MAX_SEATS or bitmap >> seat & 1:
            raise InvalidStatement(f"seat {seat} is out of range or listed twice")
        bitmap |= 1 << seat
    return bitmap


def beacon_of(
    *,
    federation_id: bytes,
    round: int,  # noqa: A002 - the protocol's word
    sum_digest: bytes,
    model_digest: bytes,
    accepted: int,
    commit_hashes: list[bytes],
) -> bytes:
    """Return the Fiat-Shamir beacon that keys the probes of a round.

    ``commit_hashes`` are the accepted hospitals', by ascending seat. Every committed update is
    fixed inside the hash (through its opening digest), so there is no nonce to withhold.

    Raises:
        InvalidStatement: a digest is not 32 bytes (the ABI would pad it), or a number is out of
            range.
    """
    for name, value in (("federation_id", federation_id), ("sum_digest", sum_digest)):
        check_digest(name, value)
    for value in (model_digest, *commit_hashes):
        check_digest("a digest inside the beacon", value)
    check_uint("round", round, 32)
    check_uint("accepted", accepted, 64)
    return keccak(
        abi_encode(
            ["bytes32", "bytes32", "uint32", "bytes32", "bytes32", "uint64", "bytes32"],
            [
                BEACON_TAG,
                federation_id,
                round,
                sum_digest,
                model_digest,
                accepted,
                keccak(b"".join(commit_hashes)),
            ],
        )
    )


def pack_probes(probes: list[tuple[int, ...]]) -> bytes:
    """Pack probes (accepted hospitals by ascending seat) as big-endian int64, 16 a hospital.

    Raises:
        InvalidStatement: a hospital has other than 16 probes, or one is no int64.
    """
    for row in probes:
        if len(row) != PROBES or not all(-(1 << 63) <= t < 1 << 63 for t in row):
            raise InvalidStatement(f"a hospital has {PROBES} probes, each a signed 64-bit integer")
    return b"".join(t.to_bytes(8, "big", signed=True) for row in probes for t in row)


def norm_cap(norm_bound: int) -> int:
    """Return the cap on 12 * sum_j t_ij^2: 59 B^2 (2^32 - 1); see docs/protocol.md for the odds."""
    return 59 * norm_bound**2 * (2**32 - 1)
