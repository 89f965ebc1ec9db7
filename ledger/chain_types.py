"""What the chain adapter answers with: typed mirrors of Solidity's structs and events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from ledger.statement import Outcome, Phase


@dataclass(frozen=True, kw_only=True)
class RoundState:
    """The live (or last) round: Solidity's ``Round``, field by field.

    ``commit_deadline`` and ``attest_deadline`` are Unix seconds (while committing,
    ``attest_deadline`` holds the attest window's length); ``committed``, ``accepted``,
    ``attested`` and ``against`` are bitmaps by seat; weights are effective ones. ``proposed_head``
    is the head right after the proposal (while committing, the one of the last proposal).
    """

    number: int
    phase: Phase
    commit_deadline: int
    attest_deadline: int
    weight_cap: int
    norm_bound: int
    roster_count: int
    roster_weight: int
    accepted_weight: int
    committed: int
    accepted: int
    attested: int
    against: int
    open_head: bytes
    proposed_head: bytes
    proposed_model: bytes

    @classmethod
    def of(cls, values: tuple[Any, ...]) -> RoundState:
        """Read the tuple that web3 returns for ``Round``."""
        named = dict(zip((item.name for item in fields(cls)), values, strict=True))
        return cls(**{**named, "phase": Phase(named["phase"])})


@dataclass(frozen=True, kw_only=True)
class MemberState:
    """One hospital's standing: Solidity's ``Member``, field by field.

    ``cap`` and ``spent`` are cumulative epsilon in micro-units; ``active_from`` and
    ``active_until`` are the first round it may, and may no longer, take part in.
    """

    seat: int
    registered: bool
    weight: int
    cap: int
    spent: int
    active_from: int
    active_until: int
    commit_hash: bytes

    @classmethod
    def of(cls, values: tuple[Any, ...]) -> MemberState:
        """Read the tuple that web3 returns for ``Member``."""
        return cls(**dict(zip((item.name for item in fields(cls)), values, strict=True)))

    def active_in(self, number: int) -> bool:
        """Say whether this hospital may take part in round ``number``."""
        return self.registered and self.active_from <= number < self.active_until


@dataclass(frozen=True, kw_only=True)
class LedgerEvent:
    """One event of the contract.

    ``args`` go by Solidity's names; bytes32 are 32 raw bytes, addresses EIP-55, structs the
    statements of `ledger.statement`. ``log_index`` is the position within the block.
    """

    name: str
    args: Mapping[str, Any]
    block: int
    log_index: int
    tx_hash: bytes


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one hospital said of a proposal; ``code`` is an error code, 0 for an attestation."""

    round: int
    hospital: str
    kind: Literal["attested", "dissented", "contested"]
    code: int
    block: int


@dataclass(frozen=True, kw_only=True)
class Closing:
    """How a round ended.

    ``model`` is the digest that became final, None for an aborted round; ``unattested_weight``
    is the effective weight that stayed silent (0 unless the outcome is QUORUM_ONLY).
    """

    round: int
    outcome: Outcome
    model: bytes | None
    attested: int
    against: int
    unattested_weight: int
    block: int


@dataclass(frozen=True, kw_only=True)
class Tip:
    """The ledger at one block: all four read at the same height.

    ``time`` is the block's timestamp, in Unix seconds.
    """

    sequence: int
    head: bytes
    block: int
    time: int


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """A mined transaction: its hash (32 bytes), block number and gas."""

    tx_hash: bytes
    block: int
    gas_used: int
