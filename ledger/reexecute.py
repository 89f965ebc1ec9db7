"""Running a contract's signed transactions again, in an EVM of one's own, and comparing.

A node can show any history it likes; it cannot sign other parties' transactions. Whoever runs the
signed transactions from the deployment on, each at its block's number and time, obtains the same
logs, the same storage and the same head, or has found what the node changed. The EVM is py-evm, a
second implementation beside the node's own.

What is not re-executed: gas money and account nonces. Senders are given a balance and the
transaction's own nonce, because transactions that have nothing to do with the contract are not in
its history; a nonce used twice by one sender is refused. Calls through other contracts leave no
trace here and show up as missing logs: parties of this protocol sign their own transactions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import rlp
from eth.constants import BLANK_ROOT_HASH, ZERO_ADDRESS, ZERO_HASH32
from eth.db.atomic import AtomicDB
from eth.exceptions import PyEVMError
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.prague import PragueVM
from eth_keys.exceptions import BadSignature
from eth_typing import BlockNumber
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError
from rlp.exceptions import RLPException
from trie.hexary import HexaryTrie
from trie.iter import NodeIterator

from contracts.artefact import load_artefact
from ledger.errors import BundleInvalid, EventMismatch
from ledger.history import History, Step
from ledger.transactions import Log, to_hex

_MALFORMED = (PyEVMError, ValidationError, BadSignature, RLPException, ValueError, TypeError)
_GAS_LIMIT = 60_000_000
_BALANCE = 1 << 128
_HEAD = "HeadAdvanced"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing in which the chain's account and the re-execution differ.

    ``transaction`` is its position in the history, None for the final state.
    """

    transaction: int | None
    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        """Return the difference as one sentence."""
        where = "the final state" if self.transaction is None else f"transaction {self.transaction}"
        return f"{where}: {self.what} is {self.found} when re-executed, not {self.expected}"


@dataclass(frozen=True, kw_only=True)
class Reexecution:
    """What running the transactions again gave, computed and not read from the history.

    ``storage`` maps keccak(slot) to the slot's value (the trie holds no other name of a slot);
    ``seconds`` is the time spent in the EVM; ``gas_used`` the sum over all transactions, equal to
    ``gas_told`` where the node runs the same fork (the managed one does).
    """

    transactions: int
    head: bytes
    sequence: int
    storage_root: bytes
    storage: Mapping[bytes, int] = field(repr=False)
    code: bytes = field(repr=False)
    seconds: float
    gas_used: int
    gas_told: int
    differences: tuple[Difference, ...]

    def require(self) -> Reexecution:
        """Return itself where nothing differs.

        Raises:
            EventMismatch: naming the first difference.
        """
        if self.differences:
            raise EventMismatch(str(self.differences[0]))
        return self


class _Machine:
    """An EVM state that runs one signed transaction at a time."""

    def __init__(self, chain_id: int) -> None:
        self._chain_id = chain_id
        self._database = AtomicDB()
        self._root = BLANK_ROOT_HASH
        self._builder = PragueVM.get_transaction_builder()
        self._nonces: dict[bytes, int] = {}
        self._state: Any = self._at(0, 0)

    def _at(self, block: int, timestamp: int) -> Any:
        context = ExecutionContext(
            coinbase=ZERO_ADDRESS,
            timestamp=timestamp,
            block_number=BlockNumber(block),
            difficulty=0,
            mix_hash=ZERO_HASH32,
            gas_limit=_GAS_LIMIT,
            prev_hashes=(),
            chain_id=self._chain_id,
            base_fee_per_gas=0,
            excess_blob_gas=0,
        )
        return PragueVM.get_state_class()(self._database, context, self._root)

    def run(self, step: Step) -> tuple[int, int, tuple[Log, ...], bytes | None]:
        """Run one transaction; return status, gas, logs and the address it created.

        Raises:
            BundleInvalid: it is not a transaction, not of this chain, or its nonce was used.
        """
        try:
            transaction: Any = self._builder.decode(step.raw)
            transaction.validate()
            sender = bytes(transaction.sender)
        except _MALFORMED as error:
            raise BundleInvalid(f"not a signed transaction: {error}") from None
        if transaction.chain_id != self._chain_id:
            raise BundleInvalid(f"a transaction was signed for the chain {transaction.chain_id}")
        if transaction.nonce < self._nonces.get(sender, 0):
            raise BundleInvalid(f"{to_checksum_address(sender)} used a nonce twice")
        self._nonces[sender] = transaction.nonce + 1
        state = self._at(step.mined.block, step.mined.timestamp)
        state.set_balance(sender, _BALANCE)
        state.set_nonce(sender, transaction.nonce)
        state.persist()
        try:
            computation = state.apply_transaction(transaction)
        except _MALFORMED as error:
            raise BundleInvalid(f"a transaction cannot be executed: {error}") from None
        logs = tuple(
            Log(
                address=to_checksum_address(address),
                topics=tuple(topic.to_bytes(32, "big") for topic in topics),
                data=bytes(data),
            )
            for address, topics, data in computation.get_log_entries()
        )
        gas = _gas_used(transaction, computation)
        created = bytes(computation.msg.storage_address) if transaction.to == b"" else None
        state.persist()
        self._root, self._state = state.state_root, state
        return int(not computation.is_error), gas, logs, created

    def storage_root(self, contract: bytes) -> bytes:
        account = self._state._account_db._get_account(contract)  # noqa: SLF001 - no public way
        return bytes(account.storage_root)

    def storage(self, contract: bytes) -> dict[bytes, int]:
        trie: Any = HexaryTrie(self._database, self.storage_root(contract))
        return {
            bytes(key): int.from_bytes(rlp.decode(value), "big")
            for key, value in NodeIterator(trie).items()
        }

    def code(self, contract: bytes) -> bytes:
        return bytes(self._state.get_code(contract))


def reexecute(
    history: Mapping[str, Any] | History, *, progress: Callable[[int, int], None] | None = None
) -> Reexecution:
    """Run a history again and compare status, every log, code, storage root and head.

    Args:
        history: what `ledger.history.export_history` returned, perhaps from another party.
        progress: called with (transactions done, of how many).

    Raises:
        BundleInvalid: the history cannot be run at all.
    """
    told = history if isinstance(history, History) else History.from_record(history)
    machine, contract = _Machine(told.chain_id), bytes.fromhex(told.contract[2:])
    differences: list[Difference] = []
    heads: list[tuple[int, bytes]] = []
    seconds, gas_used = 0.0, 0
    for number, step in enumerate(told.steps):
        begin = time.perf_counter()
        status, gas, logs, created = machine.run(step)
        seconds += time.perf_counter() - begin
        gas_used += gas
        if number == 0 and created != contract:
            raise BundleInvalid("the first transaction does not deploy the contract")
        differences += _compare(number, step, status, logs)
        heads += _heads(logs, told.contract)
        if progress is not None:
            progress(number + 1, len(told.steps))
    if not heads:
        raise BundleInvalid("the history holds no record of the contract")
    sequence, head = heads[-1]
    found = Reexecution(
        transactions=len(told.steps),
        head=head,
        sequence=sequence,
        storage_root=machine.storage_root(contract),
        storage=machine.storage(contract),
        code=machine.code(contract),
        seconds=seconds,
        gas_used=gas_used,
        gas_told=sum(step.mined.gas_used for step in told.steps),
        differences=(),
    )
    differences += _compare_ends(told, found)
    return replace(found, differences=tuple(differences))


def _compare(number: int, step: Step, status: int, logs: tuple[Log, ...]) -> list[Difference]:
    told = step.mined
    pairs = [("the status", told.status, status), ("the number of logs", len(told.logs), len(logs))]
    found = [
        Difference(transaction=number, what=what, expected=str(expected), found=str(value))
        for what, expected, value in pairs
        if expected != value
    ]
    for index, (ours, theirs) in enumerate(zip(logs, told.logs, strict=False)):
        if ours != theirs:
            found.append(
                Difference(
                    transaction=number,
                    what=f"log {index}",
                    expected=_brief(theirs),
                    found=_brief(ours),
                )
            )
    return found


def _brief(log: Log) -> str:
    topics = ",".join(topic.hex()[:16] for topic in log.topics)
    return f"{log.address}[{topics}] {log.data.hex()[:256]}"


def _heads(logs: tuple[Log, ...], contract: str) -> list[tuple[int, bytes]]:
    topic = _head_topic()
    return [
        (int.from_bytes(log.topics[1], "big"), log.data[32:64])
        for log in logs
        if log.address == contract and log.topics and log.topics[0] == topic
    ]


def _compare_ends(told: History, found: Reexecution) -> list[Difference]:
    pairs: list[tuple[str, object, object]] = [
        ("the head", to_hex(told.head), to_hex(found.head)),
        ("the sequence", told.sequence, found.sequence),
    ]
    if told.storage_root is not None:
        roots = to_hex(told.storage_root), to_hex(found.storage_root)
        pairs.append(("the storage root", *roots))
    differences = [
        Difference(transaction=None, what=what, expected=str(expected), found=str(value))
        for what, expected, value in pairs
        if expected != value
    ]
    if told.code != found.code:
        differences.append(
            Difference(
                transaction=None,
                what="the code's keccak",
                expected=to_hex(keccak(told.code)),
                found=to_hex(keccak(found.code)),
            )
        )
    if not load_artefact().matches(found.code):
        differences.append(
            Difference(
                transaction=None,
                what="the deployed code",
                expected="the reviewed contract",
                found="another",
            )
        )
    return differences


def _gas_used(transaction: Any, computation: Any) -> int:
    """Gas after refunds (EIP-3529) and the floor on call data (EIP-7623)."""
    used = int(transaction.gas - computation.get_gas_remaining())
    refund = min(int(computation.get_gas_refund()), used // 5)
    return used - refund + int(computation.data_floor_gas)


@cache
def _head_topic() -> bytes:
    event = next(e for e in load_artefact().abi if e.get("name") == _HEAD)
    types = ",".join(field["type"] for field in event["inputs"])
    return keccak(f"{_HEAD}({types})".encode())
