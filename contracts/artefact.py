"""The committed build of the contract: what is deployed, and what an auditor compares with.

The artefact is one JSON file beside this module, written by ``contracts.build``; reading it needs
neither the Solidity sources nor a compiler.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ARTEFACT = Path(__file__).with_name("AggregationLedger.json")
FORMAT = "thoracle/artefact/v1"


class ArtefactError(ValueError):
    """The committed artefact is missing, damaged, or not that of the sources."""


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A compiled contract.

    Attributes:
        abi: The contract's interface, as the compiler's JSON.
        bytecode: What a deployment sends, without the constructor's arguments.
        deployed_bytecode: What then stands on the chain, with every immutable zero.
        immutables: ``(start, length)`` in bytes of every immutable in ``deployed_bytecode``.
        sources: SHA-256 (hex) of every source file by its name.
        compiler: The compiler's version and settings.
    """

    abi: tuple[dict[str, Any], ...]
    bytecode: bytes
    deployed_bytecode: bytes
    immutables: tuple[tuple[int, int], ...]
    sources: dict[str, str]
    compiler: dict[str, Any]

    def matches(self, code: bytes) -> bool:
        """Tell whether code found on a chain is this contract, whatever its immutables hold."""
        if len(code) != len(self.deployed_bytecode):
            return False
        blank = bytearray(code)
        for start, length in self.immutables:
            blank[start : start + length] = bytes(length)
        return bytes(blank) == self.deployed_bytecode


def parse_artefact(text: str) -> Artefact:
    """Parse an artefact.

    Raises:
        ArtefactError: it is not one.
    """
    try:
        record = json.loads(text)
        if record["format"] != FORMAT:
            raise ArtefactError(f"the artefact's format is {record['format']!r}, not {FORMAT!r}")
        return Artefact(
            abi=tuple(record["abi"]),
            bytecode=bytes.fromhex(record["bytecode"]),
            deployed_bytecode=bytes.fromhex(record["deployedBytecode"]),
            immutables=tuple(
                (int(place["start"]), int(place["length"]))
                for place in record["immutableReferences"]
            ),
            sources=dict(record["sources"]),
            compiler=dict(record["compiler"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ArtefactError):
            raise
        raise ArtefactError("the contract's artefact is damaged; rebuild it") from error


@cache
def load_artefact() -> Artefact:
    """Return the committed artefact.

    Raises:
        ArtefactError: it is missing or damaged.
    """
    try:
        text = ARTEFACT.read_text(encoding="ascii")
    except OSError as error:
        raise ArtefactError("the contract's artefact is missing; run contracts.build") from error
    return parse_artefact(text)
