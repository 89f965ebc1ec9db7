"""What became of a signed transaction: the part of a receipt that does not depend on the node.

Block hashes are left out on purpose: a chain that is re-created from its signed transactions may
have others. Block number and time, status, gas and logs are what the contract's history is made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eth_utils.address import to_checksum_address
from web3.types import TxReceipt


@dataclass(frozen=True, kw_only=True)
class Log:
    """One log as the chain holds it: EIP-55 address, topics (32 bytes each) and data."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes

    def to_record(self) -> dict[str, object]:
        """Return plain JSON values (bytes as 0x-hex)."""
        return {
            "address": self.address,
            "topics": [to_hex(topic) for topic in self.topics],
            "data": to_hex(self.data),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Log:
        """Read what `to_record` wrote (KeyError, ValueError or TypeError where it cannot)."""
        return cls(
            address=to_checksum_address(record["address"]),
            topics=tuple(unhex(topic) for topic in record["topics"]),
            data=unhex(record["data"]),
        )


@dataclass(frozen=True, kw_only=True)
class Mined:
    """What became of a transaction: block number and time (Unix seconds), status, gas, logs."""

    tx_hash: bytes
    block: int
    timestamp: int
    status: int
    gas_used: int
    logs: tuple[Log, ...]

    @classmethod
    def of_receipt(cls, receipt: TxReceipt, timestamp: int) -> Mined:
        """Read a node's receipt; ``timestamp`` is its block's."""
        return cls(
            tx_hash=bytes(receipt["transactionHash"]),
            block=int(receipt["blockNumber"]),
            timestamp=int(timestamp),
            status=int(receipt["status"]),
            gas_used=int(receipt["gasUsed"]),
            logs=tuple(
                Log(
                    address=to_checksum_address(log["address"]),
                    topics=tuple(bytes(topic) for topic in log["topics"]),
                    data=bytes(log["data"]),
                )
                for log in receipt["logs"]
            ),
        )

    def to_record(self) -> dict[str, object]:
        """Return plain JSON values, without the hash."""
        return {
            "block": self.block,
            "timestamp": self.timestamp,
            "status": self.status,
            "gas_used": self.gas_used,
            "logs": [log.to_record() for log in self.logs],
        }

    @classmethod
    def of_rpc(cls, receipt: Mapping[str, Any], timestamp: int) -> Mined:
        """Read a receipt as JSON-RPC gives it (KeyError, ValueError or TypeError otherwise)."""
        return cls(
            tx_hash=unhex(receipt["transactionHash"]),
            block=int(receipt["blockNumber"], 16),
            timestamp=timestamp,
            status=int(receipt["status"], 16),
            gas_used=int(receipt["gasUsed"], 16),
            logs=tuple(Log.from_record(log) for log in receipt["logs"]),
        )

    @classmethod
    def from_record(cls, tx_hash: bytes, record: Mapping[str, Any]) -> Mined:
        """Read what `to_record` wrote (KeyError, ValueError or TypeError where it cannot)."""
        numbers = {key: record[key] for key in ("block", "timestamp", "status", "gas_used")}
        if not all(type(value) is int and 0 <= value < 1 << 64 for value in numbers.values()):
            raise ValueError("a number is outside its range")
        logs = tuple(Log.from_record(log) for log in record["logs"])
        return cls(tx_hash=tx_hash, logs=logs, **numbers)


def to_hex(data: bytes) -> str:
    """Return bytes as 0x-hex."""
    return "0x" + data.hex()


def unhex(text: object) -> bytes:
    """Return the bytes of a 0x-hex text (ValueError otherwise)."""
    if not isinstance(text, str) or not text.startswith("0x"):
        raise ValueError("not 0x-hex")
    return bytes.fromhex(text[2:])
