"""Dataclass fields that check their own range: Solidity's integers, digests, addresses."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any

from eth_utils.address import is_checksum_address

from ledger.errors import InvalidStatement


def check_uint(name: str, value: object, bits: int) -> None:
    """Raise ``InvalidStatement`` unless ``value`` is an unsigned integer of ``bits`` bits."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << bits:
        raise InvalidStatement(f"{name} must be an unsigned integer of {bits} bits{_not(value)}")


def check_digest(name: str, value: object) -> None:
    """Raise ``InvalidStatement`` unless ``value`` is 32 bytes."""
    if not isinstance(value, bytes) or len(value) != 32:
        raise InvalidStatement(f"{name} must be 32 bytes{_not(value)}")


def check_address(name: str, value: object) -> None:
    """Raise ``InvalidStatement`` unless ``value`` is an EIP-55 address."""
    # The library also takes bytes and other lengths; one address has one form here.
    if not isinstance(value, str) or len(value) != 42 or not is_checksum_address(value):
        raise InvalidStatement(f"{name} must be an EIP-55 address{_not(value)}")


def _not(value: object) -> str:
    """Return what was sent instead, short whatever it is (Python refuses to print some)."""
    if isinstance(value, bytes | str):
        return f", not {value[:40]!r}"
    if (
        value is None
        or isinstance(value, float)
        or (isinstance(value, int) and abs(value) < 1 << 256)
    ):
        return f", not {value!r}"
    return f", not this {type(value).__name__}"


class Checked:
    """Checks every field by the function in its dataclass metadata, if it has one."""

    def __post_init__(self) -> None:
        """Check every field."""
        for item in fields(self):  # type: ignore[arg-type]
            if "check" in item.metadata:
                item.metadata["check"](item.name, getattr(self, item.name))


def uint(bits: int, *, default: int | None = None) -> Any:
    """Declare a field that holds an unsigned integer of ``bits`` bits."""

    def check(name: str, value: object) -> None:
        check_uint(name, value, bits)

    metadata = {"check": check, "uint": bits}
    return (
        field(metadata=metadata) if default is None else field(default=default, metadata=metadata)
    )


def digest(*, default: bytes | None = None) -> Any:
    """Declare a field that holds 32 raw bytes."""
    metadata = {"check": check_digest, "kind": "digest"}
    return (
        field(metadata=metadata) if default is None else field(default=default, metadata=metadata)
    )


def address() -> Any:
    """Declare a field that holds an EIP-55 address."""
    return field(metadata={"check": check_address, "kind": "address"})
