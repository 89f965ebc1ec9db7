"""The trust anchors of a federation: what a party must know before it believes any node.

They are handed over out of band (a signed letter, a commissioning protocol). A node that shows
another chain, contract or founding is refused, however consistent its history looks.
"""

from __future__ import annotations

from dataclasses import dataclass

from eth_utils.address import is_checksum_address

from ledger.canonical import canonical_json, parse_json
from ledger.errors import CodecError, ConfigError
from ledger.statement import MAX_SEATS, Domain

FORMAT = "thoracle/anchors/v1"
MAX_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """Which federation, on which contract, on which chain.

    Attributes:
        chain_id: EIP-155 number of the chain.
        contract: EIP-55 address of the contract.
        federation_id: 32 random bytes fixed at deployment.
        genesis_hash: hash of block 0 (32 bytes).
        coordinator: EIP-55 address of the coordinator at deployment.
        founders: EIP-55 addresses of the founding hospitals, in seat order.
    """

    chain_id: int
    contract: str
    federation_id: bytes
    genesis_hash: bytes
    coordinator: str
    founders: tuple[str, ...]

    @property
    def domain(self) -> Domain:
        """What is bound into every hash and seal of this federation."""
        return Domain(
            federation_id=self.federation_id, chain_id=self.chain_id, contract=self.contract
        )

    def to_record(self) -> dict[str, object]:
        """Return the anchors as plain JSON values (digests as lower-case hex)."""
        return {
            "format": FORMAT,
            "chain_id": self.chain_id,
            "contract": self.contract,
            "federation_id": self.federation_id.hex(),
            "genesis_hash": self.genesis_hash.hex(),
            "coordinator": self.coordinator,
            "founders": list(self.founders),
        }

    def to_json(self) -> str:
        """Return the anchors as one line of canonical JSON."""
        return canonical_json(self.to_record()).decode("ascii")

    @classmethod
    def from_json(cls, text: str | bytes) -> Anchors:
        """Read anchors that `to_json` wrote, or any JSON of the same fields.

        Raises:
            ConfigError: not anchors, or a field is outside its range.
        """
        try:
            data = text.encode() if isinstance(text, str) else text
            value = parse_json(data, MAX_BYTES)
        except CodecError as error:
            raise ConfigError(f"the anchors are not readable: {error}") from None
        return cls.from_record(value)

    @classmethod
    def from_record(cls, value: object) -> Anchors:
        """Read anchors from plain JSON values.

        Raises:
            ConfigError: not anchors, or a field is outside its range.
        """
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise ConfigError(f"the anchors are not of the format {FORMAT}")
        founders = value.get("founders")
        if not isinstance(founders, list) or len(founders) > MAX_SEATS:
            raise ConfigError("the anchors' founders are not a list of addresses")
        chain_id = value.get("chain_id")
        if isinstance(chain_id, bool) or not isinstance(chain_id, int) or not 0 < chain_id < 2**64:
            raise ConfigError("the anchors' chain_id is not a positive integer of 64 bits")
        return cls(
            chain_id=chain_id,
            contract=_address("contract", value.get("contract")),
            federation_id=_digest("federation_id", value.get("federation_id")),
            genesis_hash=_digest("genesis_hash", value.get("genesis_hash")),
            coordinator=_address("coordinator", value.get("coordinator")),
            founders=tuple(_address("founders", item) for item in founders),
        )


def _address(name: str, value: object) -> str:
    if not isinstance(value, str) or not is_checksum_address(value):
        raise ConfigError(f"the anchors' {name} is not an EIP-55 address")
    return value


def _digest(name: str, value: object) -> bytes:
    text = value.removeprefix("0x") if isinstance(value, str) else ""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise ConfigError(f"the anchors' {name} is not 32 bytes of hex")
    return found
