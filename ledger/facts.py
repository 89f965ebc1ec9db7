"""What an audit is told, and what it answers: typed, frozen, without I/O.

`ChainRecord` is the smallest thing from which a stranger can check a chain offline: block headers,
signed transactions and receipts *as the bytes that were hashed*, and one account proof. Everything
else (senders, times, events, storage) is computed from those bytes, never read beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ledger.anchors import Anchors

Level = Literal["chain", "models", "replay"]
Severity = Literal["failure", "unproven", "note"]
LEVELS: tuple[Level, ...] = ("chain", "models", "replay")


@dataclass(frozen=True, kw_only=True)
class BlockRecord:
    """One block: the RLP of its header and, in order, its transactions and receipts.

    ``transactions[i]`` and ``receipts[i]`` are the canonical network encodings (EIP-2718), the
    values of the two tries whose roots stand in the header.
    """

    header: bytes
    transactions: tuple[bytes, ...] = ()
    receipts: tuple[bytes, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AccountProof:
    """The contract's account under the last block's state root (EIP-1186).

    ``nodes`` are the RLP trie nodes from the root to the account's leaf.
    """

    nodes: tuple[bytes, ...]
    nonce: int
    balance: int
    storage_root: bytes
    code_hash: bytes


@dataclass(frozen=True, kw_only=True)
class ChainRecord:
    """A whole chain, from block 0 to the block that ``proof`` is about.

    Attributes:
        blocks: every block, ascending and contiguous.
        code: the contract's runtime bytecode as the node served it.
        proof: None where the node offers none; the audit says so.
    """

    blocks: tuple[BlockRecord, ...]
    code: bytes
    proof: AccountProof | None


@dataclass(frozen=True, kw_only=True)
class StateDump:
    """What the local node's own state file holds.

    Attributes:
        headers: RLP of every block header in it.
        code: of the contract.
        storage: slot to value, of the contract.
        digest: SHA-256 of the file now.
        recorded: the digest noted when the node stopped, if it was.
    """

    headers: tuple[bytes, ...]
    code: bytes
    storage: Mapping[int, int]
    digest: bytes
    recorded: bytes | None


@dataclass(frozen=True, kw_only=True)
class Journalled:
    """One transaction as the node's journal holds it; the effects are None until it was mined."""

    raw: bytes
    timestamp: int | None = None
    succeeded: bool | None = None
    gas_used: int | None = None
    logs: tuple[tuple[str, tuple[bytes, ...], bytes], ...] | None = None
    """Address, topics and data of each, where the journal holds them."""


@dataclass(frozen=True, kw_only=True)
class HeldKey:
    """A private key that evidence may open to: its 96-byte seed and its epoch."""

    seed: bytes = field(repr=False)
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Event:
    """One decoded log of the contract, with what its transaction and block say about it."""

    name: str
    args: Mapping[str, Any]
    block: int
    index: int
    transaction: bytes
    sender: str
    time: int


class Objects(Protocol):
    """Content-addressed files of a run, read one at a time."""

    def get(self, folder: str, digest: bytes) -> bytes:
        """Return the file named by ``digest`` in ``folder``, its bytes not yet compared with it.

        Raises:
            EvidenceMissing: it is not there.
            EvidenceMismatch: it is over any bound.
        """

    def decisions(self, number: int) -> bytes | None:
        """Return the decision record of a round, or None."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything one audit is given.

    Attributes:
        record: the chain.
        claimed: the anchors that the run itself states.
        trusted: the anchors from outside the run; None: the origin stays unproven.
        objects: models, sums, configurations and evidence; None at chain level.
        dump: the local node's state file, where the run has one.
        journal: the node's journal, where the run has one.
        keys: private keys the evidence may open to.
        erased: what a tombstone says of a destroyed key, by file name.
        names: what people call an address.
        marks: what the run says of itself and an auditor must repeat (``insecure-test``).
    """

    record: ChainRecord
    claimed: Anchors
    trusted: Anchors | None = None
    objects: Objects | None = None
    dump: StateDump | None = None
    journal: tuple[Journalled, ...] | None = None
    keys: tuple[HeldKey, ...] = ()
    erased: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, order=True)
class Finding:
    """One thing that does not hold (``failure``), is not shown (``unproven``) or is worth knowing.

    ``expected`` and ``found`` are printable; ``error`` is a class name of `ledger.errors`.
    """

    level: Level
    round: int
    hospital: str
    check: str
    expected: str
    found: str
    error: str
    sentence: str
    severity: Severity = "failure"


@dataclass(frozen=True, kw_only=True)
class Credit:
    """What one hospital's declared examples earned it: declared, not verified.

    ``weight`` is its effective weight summed over the final rounds it attested, ``rounds`` how
    many those are, ``share`` its part of all credit in [0, 1].
    """

    hospital: str
    rounds: int
    weight: int
    share: float
