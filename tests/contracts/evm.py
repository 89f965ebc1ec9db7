"""The contract in a bare py-evm state: no blocks, no signatures, so ten thousand steps are cheap.

Gas is what a node charges (intrinsic, calldata and execution, cold and warm accounted by
transaction); only block building and signature recovery are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth.db.atomic import AtomicDB
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.prague import PragueVM
from eth.vm.spoof import SpoofTransaction
from eth_abi.abi import decode, encode
from eth_typing import Address, BlockNumber, Hash32
from eth_utils.abi import collapse_if_tuple
from eth_utils.address import to_canonical_address, to_checksum_address
from eth_utils.crypto import keccak
from trie.constants import BLANK_NODE_HASH

from contracts.artefact import Artefact, load_artefact

CREATE = Address(b"")
GAS_LIMIT = 29_000_000
CHAIN_ID = 31337
START = 1_800_000_000
DEPLOYER = to_checksum_address("0x" + "de" * 20)


class Reverted(Exception):
    """A call reverted with one of the contract's errors."""

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        super().__init__(f"{name}{arguments}")
        self.name = name
        self.arguments = arguments


@dataclass(frozen=True, kw_only=True)
class Event:
    """A decoded event."""

    name: str
    args: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What a transaction left behind."""

    gas_used: int
    events: tuple[Event, ...]

    def event(self, name: str) -> dict[str, Any]:
        """Return the arguments of its one event of this name."""
        (found,) = [event.args for event in self.events if event.name == name]
        return found


def _types(inputs: list[dict[str, Any]]) -> list[str]:
    return [collapse_if_tuple(item) for item in inputs]


def _decode(types: list[str], data: bytes) -> tuple[Any, ...]:
    """Decode, with addresses in EIP-55 form."""
    values = list(decode(types, data))
    for i, kind in enumerate(types):
        if kind == "address":
            values[i] = to_checksum_address(values[i])
        elif kind == "address[]":
            values[i] = [to_checksum_address(item) for item in values[i]]
    return tuple(values)


def _signature(item: dict[str, Any]) -> bytes:
    return bytes(keccak(f"{item['name']}({','.join(_types(item['inputs']))})".encode()))


class Codec:
    """Encodes calls, decodes results, events and errors by the artefact's ABI."""

    def __init__(self, artefact: Artefact) -> None:
        kinds: dict[str, list[dict[str, Any]]] = {}
        for item in artefact.abi:
            kinds.setdefault(item["type"], []).append(item)
        self.constructor_types = _types(kinds["constructor"][0]["inputs"])
        self.functions = {
            item["name"]: (
                _signature(item)[:4],
                _types(item["inputs"]),
                _types(item["outputs"]),
            )
            for item in kinds["function"]
        }
        self.errors = {
            _signature(item)[:4]: (item["name"], _types(item["inputs"])) for item in kinds["error"]
        }
        self.events = {_signature(item): item for item in kinds["event"]}

    def revert(self, data: bytes) -> Reverted:
        """Decode revert data; anything but a custom error keeps its raw bytes."""
        if data[:4] not in self.errors:
            return Reverted("Unknown", (data,))
        name, types = self.errors[data[:4]]
        return Reverted(name, _decode(types, data[4:]))

    def event(self, topics: tuple[int, ...], data: bytes) -> Event:
        """Decode one log."""
        raw = [topic.to_bytes(32, "big") for topic in topics]
        item = self.events[raw[0]]
        indexed = [field for field in item["inputs"] if field["indexed"]]
        plain = [field for field in item["inputs"] if not field["indexed"]]
        args = {
            field["name"]: _decode(_types([field]), topic)[0]
            for field, topic in zip(indexed, raw[1:], strict=True)
        }
        values = _decode(_types(plain), data)
        args |= {field["name"]: value for field, value in zip(plain, values, strict=True)}
        return Event(name=item["name"], args=args)


class Evm:
    """One deployed contract, with a clock that tests set and state that they roll back."""

    codec = Codec(load_artefact())

    def __init__(self, rules: tuple[object, ...], coordinator: str, founders: list[str]) -> None:
        self._context = ExecutionContext(
            coinbase=Address(bytes(20)),
            timestamp=START,
            block_number=BlockNumber(1),
            difficulty=0,
            mix_hash=Hash32(bytes(32)),
            gas_limit=30_000_000,
            prev_hashes=(),
            chain_id=CHAIN_ID,
            base_fee_per_gas=0,
            excess_blob_gas=0,
        )
        self._state = PragueVM.get_state_class()(AtomicDB(), self._context, BLANK_NODE_HASH)
        arguments = encode(self.codec.constructor_types, [rules, coordinator, founders])
        computation, gas = self._run(DEPLOYER, CREATE, load_artefact().bytecode + arguments)
        self.address = Address(bytes(computation.msg.storage_address))
        self.deployment = self._receipt(computation, gas)

    @property
    def time(self) -> int:
        """Unix seconds of the next transaction."""
        return int(self._context.timestamp)

    @time.setter
    def time(self, value: int) -> None:
        self._context._timestamp = value

    @property
    def code(self) -> bytes:
        """The contract's code as it stands on the chain."""
        return bytes(self._state.get_code(self.address))

    def send(self, sender: str, function: str, *arguments: object) -> Receipt:
        """Send a transaction; ``Reverted`` with the contract's error if it reverts."""
        selector, types, _ = self.codec.functions[function]
        computation, gas = self._run(sender, self.address, selector + encode(types, arguments))
        return self._receipt(computation, gas)

    def call(self, function: str, *arguments: object) -> Any:
        """Read a view."""
        selector, types, outputs = self.codec.functions[function]
        snapshot = self._state.snapshot()
        computation, _ = self._run(
            DEPLOYER, self.address, selector + encode(types, arguments), keep=False
        )
        self._state.revert(snapshot)
        (value,) = _decode(outputs, computation.output)
        return value

    def _run(self, sender: str, to: Address, data: bytes, *, keep: bool = True) -> tuple[Any, int]:
        account = to_canonical_address(sender)
        transaction: Any = SpoofTransaction(
            PragueVM.get_transaction_builder().create_unsigned_transaction(
                nonce=self._state.get_nonce(account),
                gas_price=0,
                gas=GAS_LIMIT,
                to=to,
                value=0,
                data=data,
            ),
            from_=account,
        )
        computation = self._state.get_transaction_executor()(transaction)
        if keep:
            self._state.lock_changes()  # the next transaction starts cold
        gas = GAS_LIMIT - computation.get_gas_remaining()
        refund = min(computation.get_gas_refund(), gas // 5)
        if computation.is_error:
            raise self.codec.revert(bytes(computation.output))
        return computation, gas - refund + computation.data_floor_gas

    def _receipt(self, computation: Any, gas: int) -> Receipt:
        logs = computation.get_log_entries()
        return Receipt(
            gas_used=gas, events=tuple(self.codec.event(topics, data) for _, topics, data in logs)
        )
