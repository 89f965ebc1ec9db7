"""Decodes the contract's logs by the ABI of the reviewed artefact, without any node or web3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from ledger.chain_bytes import Log
from ledger.errors import EventMismatch

AbiItem = Mapping[str, Any]


def _type(item: AbiItem) -> str:
    """Return an ABI entry's canonical type: a struct as its parts in parentheses."""
    kind = str(item["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_type(part) for part in item['components'])}){kind[5:]}"


def _named(value: Any, item: AbiItem) -> Any:
    """Return a decoded value with structs as dicts and addresses in EIP-55."""
    kind = str(item["type"])
    if kind.endswith("]"):
        inner = {**item, "type": kind[: kind.rindex("[")]}
        return tuple(_named(entry, inner) for entry in value)
    if kind == "tuple":
        parts = item["components"]
        return {part["name"]: _named(entry, part) for part, entry in zip(parts, value, strict=True)}
    if kind == "address":
        return str(to_checksum_address(value))
    return value


class EventDecoder:
    """Knows every event of one ABI by its first topic."""

    def __init__(self, abi: Sequence[AbiItem]) -> None:
        self._events: dict[bytes, AbiItem] = {}
        for item in abi:
            if item["type"] == "event":
                types = ",".join(_type(entry) for entry in item["inputs"])
                self._events[keccak(text=f"{item['name']}({types})")] = item

    def decode(self, log: Log) -> tuple[str, dict[str, Any]]:
        """Return (name, arguments) of a log: structs are dicts, digests are bytes.

        Raises:
            EventMismatch: the log is none of the contract's events.
        """
        event = self._events.get(log.topics[0]) if log.topics else None
        if event is None:
            raise EventMismatch("the contract's address emitted a log that is none of its events")
        indexed = [item for item in event["inputs"] if item["indexed"]]
        plain = [item for item in event["inputs"] if not item["indexed"]]
        try:
            values = [
                next(iter(decode([_type(item)], topic)))
                for item, topic in zip(indexed, log.topics[1:], strict=True)
            ]
            values += decode([_type(item) for item in plain], log.data)
        except (DecodingError, ValueError, OverflowError, TypeError) as error:
            raise EventMismatch(f"a {event['name']} event does not decode: {error}") from None
        args = {
            item["name"]: _named(value, item)
            for item, value in zip([*indexed, *plain], values, strict=True)
        }
        return str(event["name"]), args
