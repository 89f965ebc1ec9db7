"""The offline bundle: ``chain/bundle.json``, a whole chain in one canonical, bounded file.

One line of canonical JSON (sorted keys, no spaces, ASCII):

    {"format": "thoracle/bundle/v1", "anchors": {...}, "blocks": [{"header": HEX, "transactions":
    [HEX, ...], "receipts": [HEX, ...]}, ...], "code": HEX, "proof": {"nodes": [HEX, ...], "nonce":
    INT, "balance": INT, "storage_root": HEX, "code_hash": HEX} or null, "digest": HEX}

``digest`` is the tagged SHA-256 of the rest. It catches damage (a bit, a truncation) before
anything is believed; it is no signature. What an *edited* bundle cannot get past are the hashes
inside it and the hospitals' signatures, which `ledger.audit` checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from web3 import Web3

from ledger.anchors import Anchors
from ledger.canonical import canonical_json, parse_json, tagged_digest
from ledger.collect import collect_rpc
from ledger.errors import BundleInvalid, CodecError, ConfigError
from ledger.facts import AccountProof, BlockRecord, ChainRecord
from ledger.files import atomic_write

FORMAT = "thoracle/bundle/v1"
FILE = "chain/bundle.json"
MAX_BUNDLE = 1 << 30


def encode_bundle(record: ChainRecord, anchors: Anchors) -> bytes:
    """Return a chain record as the bytes of ``chain/bundle.json``."""
    proof = record.proof
    body: dict[str, object] = {
        "format": FORMAT,
        "anchors": anchors.to_record(),
        "blocks": [
            {
                "header": block.header.hex(),
                "transactions": [raw.hex() for raw in block.transactions],
                "receipts": [raw.hex() for raw in block.receipts],
            }
            for block in record.blocks
        ],
        "code": record.code.hex(),
        "proof": None
        if proof is None
        else {
            "nodes": [node.hex() for node in proof.nodes],
            "nonce": proof.nonce,
            "balance": proof.balance,
            "storage_root": proof.storage_root.hex(),
            "code_hash": proof.code_hash.hex(),
        },
    }
    return canonical_json({**body, "digest": _digest(body)}) + b"\n"


def _digest(body: Mapping[str, object]) -> str:
    return tagged_digest("thoracle/bundle/v1", canonical_json(dict(body))).hex()


def decode_bundle(data: bytes) -> tuple[ChainRecord, Anchors]:
    """Read the bytes of ``chain/bundle.json``: the record, and the anchors it claims.

    Raises:
        BundleInvalid: too long, truncated, damaged, not canonical, or of another format.
    """
    try:
        value = parse_json(data, MAX_BUNDLE)
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise BundleInvalid(f"the chain bundle is not of the format {FORMAT}")
        stated = value.pop("digest", None)
        if _digest(value) != stated:
            raise BundleInvalid("the chain bundle's bytes are not those of its digest")
        if canonical_json({**value, "digest": stated}) + b"\n" != data:
            raise BundleInvalid("the chain bundle is not written canonically")
        return _record(value), Anchors.from_record(value["anchors"])
    except (CodecError, ConfigError) as error:
        raise BundleInvalid(f"the chain bundle cannot be read: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleInvalid(f"the chain bundle lacks or misstates a field: {error}") from None


def _record(value: Mapping[str, Any]) -> ChainRecord:
    proof = value["proof"]
    return ChainRecord(
        blocks=tuple(
            BlockRecord(
                header=bytes.fromhex(block["header"]),
                transactions=tuple(bytes.fromhex(raw) for raw in block["transactions"]),
                receipts=tuple(bytes.fromhex(raw) for raw in block["receipts"]),
            )
            for block in value["blocks"]
        ),
        code=bytes.fromhex(value["code"]),
        proof=None
        if proof is None
        else AccountProof(
            nodes=tuple(bytes.fromhex(node) for node in proof["nodes"]),
            nonce=_natural(proof["nonce"]),
            balance=_natural(proof["balance"]),
            storage_root=bytes.fromhex(proof["storage_root"]),
            code_hash=bytes.fromhex(proof["code_hash"]),
        ),
    )


def _natural(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 256:
        raise ValueError("a number is outside its range")
    return value


def export_bundle(
    web3: Web3,
    anchors: Anchors,
    run: Path,
    *,
    track: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Path:
    """Collect a chain from its node and write ``chain/bundle.json`` of a run folder, atomically.

    Call it when the run's last transaction is mined; ``track`` wraps the block numbers, to show
    progress.

    Raises:
        LedgerUnavailable: the node cannot be reached.
        BundleInvalid: what it answers does not hash to what it claims.
        OutputError: the file cannot be written.
    """
    path = run / FILE
    atomic_write(path, encode_bundle(collect_rpc(web3, anchors, track=track), anchors))
    return path
