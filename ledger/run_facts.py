"""Gathers the facts of one audit from a run folder or an offline bundle; all the audit's I/O.

Every file is bounded before it is parsed; objects are read one at a time, when the audit asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ledger.anchors import Anchors
from ledger.archive import ArchiveSource, FolderSource, Source
from ledger.bundle import FILE, MAX_BUNDLE, decode_bundle
from ledger.canonical import parse_json, sha256
from ledger.collect import header_bytes
from ledger.errors import (
    BundleInvalid,
    CodecError,
    ConfigError,
    EvidenceMismatch,
    EvidenceMissing,
    JournalCorrupt,
)
from ledger.facts import ChainRecord, Facts, HeldKey, Journalled, StateDump
from ledger.files import MAX_OBJECT, read_bounded
from ledger.keys import load_seal_key, read_password
from ledger.transactions import unhex
from ledger.txlog import Entry, read_entries

MAX_RUN = 1 << 26
MAX_STATE = 1 << 30
MAX_LINE = 1 << 20
_SUFFIX = {"models": ".safetensors", "sums": ".safetensors", "configs": ".json", "evidence": ""}


class RunObjects:
    """The content-addressed files of a run, for ``Facts.objects``."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def get(self, folder: str, digest: bytes) -> bytes:
        """As ``Objects.get``."""
        name = f"{folder}/{digest.hex()}{_SUFFIX[folder]}"
        try:
            data = self._source.read(name, MAX_OBJECT)
        except BundleInvalid as error:
            raise EvidenceMismatch(str(error)) from None
        if data is None:
            raise EvidenceMissing(f"{name} is not there")
        return data

    def decisions(self, number: int) -> bytes | None:
        """As ``Objects.decisions``."""
        return self._source.read(f"evidence/decisions/{number}.json", 1 << 22)


def open_source(run: Path) -> Source:
    """Return where a run is read from: its folder, or an offline bundle.

    Raises:
        ConfigError: there is neither.
        BundleInvalid: the bundle is damaged.
    """
    if run.is_dir():
        return FolderSource(run)
    if run.is_file():
        return ArchiveSource(run)
    raise ConfigError(f"{run} is neither a run folder nor an offline bundle")


def read_run(source: Source) -> Mapping[str, Any]:
    """Return ``run.json``.

    Raises:
        BundleInvalid: it is not there, or not readable.
    """
    data = source.read("run.json", MAX_RUN)
    if data is None:
        raise BundleInvalid("there is no run.json: this is not a run")
    try:
        value = parse_json(data, MAX_RUN)
    except CodecError as error:
        raise BundleInvalid(f"run.json cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise BundleInvalid("run.json is not an object")
    return value


def read_anchors(path: Path) -> Anchors:
    """Return trust anchors from a file: their own JSON, or a ``run.json`` that holds them.

    Raises:
        ConfigError: it is not one.
    """
    try:
        data = FolderSource(path.parent).read(path.name, MAX_RUN)
        value = None if data is None else parse_json(data, MAX_RUN)
    except (CodecError, BundleInvalid) as error:
        raise ConfigError(f"the anchors in {path} cannot be read: {error}") from None
    if value is None:
        raise ConfigError(f"there are no anchors at {path}")
    return Anchors.from_record(value.get("anchors", value) if isinstance(value, dict) else value)


def read_facts(
    source: Source,
    *,
    record: ChainRecord | None = None,
    trusted: Anchors | None = None,
    keys: tuple[HeldKey, ...] = (),
    erased: Mapping[str, str] | None = None,
) -> Facts:
    """Gather what one audit needs.

    Args:
        source: the run.
        record: its chain, where it was collected elsewhere; default: ``chain/bundle.json``.
        trusted: anchors from outside the run.
        keys: private keys the evidence may open to.
        erased: what tombstones say of destroyed keys.

    Raises:
        BundleInvalid: run or chain bundle cannot be read, or contradict each other's anchors.
        JournalCorrupt: the node's journal cannot be read back.
        ConfigError: the run's anchors are malformed.
    """
    run = read_run(source)
    claimed = Anchors.from_record(run.get("anchors"))
    if record is None:
        data = source.read(FILE, MAX_BUNDLE)
        if data is None:
            raise BundleInvalid(f"there is no {FILE}: the chain was not exported")
        record, stated = decode_bundle(data)
        if stated != claimed:
            raise BundleInvalid("run.json and the chain bundle name different anchors")
    hospitals = run.get("hospitals")
    names = {
        str(item["address"]): str(item["name"])
        for item in (hospitals if isinstance(hospitals, list) else [])
        if isinstance(item, dict) and "address" in item and "name" in item
    }
    return Facts(
        record=record,
        claimed=claimed,
        trusted=trusted,
        objects=RunObjects(source),
        dump=_read_dump(source, claimed),
        journal=_read_journal(source),
        keys=keys,
        erased=dict(erased or {}),
        names={claimed.coordinator: "coordinator", **names},
        marks=_marks(run),
    )


def _marks(run: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the run says of itself that an auditor must repeat."""
    found = run.get("marks")
    marks = tuple(map(str, found)) if isinstance(found, list) else ()
    privacy = run.get("privacy")
    if isinstance(privacy, dict) and privacy.get("noise") == "insecure-test":
        marks += ("insecure-test: the privacy noise came from a known seed and protects nobody",)
    return marks


# ---- the local node's files ----


def _read_dump(source: Source, anchors: Anchors) -> StateDump | None:
    """Return the contract's account from anvil's state file (the format of anvil 1.7)."""
    data = source.read("chain/anvil-state.json", MAX_STATE)
    if data is None:
        return None
    try:
        state = parse_json(data, MAX_STATE)
        if not isinstance(state, dict):
            raise TypeError("not an object")
        account = state["accounts"].get(anchors.contract.lower(), {"code": "0x", "storage": {}})
        return StateDump(
            headers=tuple(header_bytes(block["header"]) for block in state["blocks"]),
            code=unhex(account["code"]),
            storage={int(slot, 16): int(v, 16) for slot, v in account["storage"].items()},
            digest=sha256(data),
            recorded=_recorded(source),
        )
    except (CodecError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleInvalid(f"chain/anvil-state.json cannot be read: {error}") from None


def _recorded(source: Source) -> bytes | None:
    data = source.read("chain/node.json", MAX_LINE)
    if data is None:
        return None
    value = parse_json(data, MAX_LINE)
    text = value.get("state_sha256") if isinstance(value, dict) else None
    return bytes.fromhex(text) if isinstance(text, str) else None


def _read_journal(source: Source) -> tuple[Journalled, ...] | None:
    """Return the node's journal without opening it for writing, as its own reader would."""
    name = "chain/transactions.jsonl"
    data = source.read(name, MAX_STATE)
    if data is None:
        return None
    entries, kept = read_entries(data, name)
    if kept != len(data) and _recorded(source) is not None:
        raise JournalCorrupt(f"{name} ends within a line, though its node stopped cleanly")
    return tuple(map(_journalled, entries.values()))


def _journalled(entry: Entry) -> Journalled:
    mined = entry.mined
    if mined is None:
        return Journalled(raw=entry.raw)
    return Journalled(
        raw=entry.raw,
        timestamp=mined.timestamp,
        succeeded=mined.status == 1,
        gas_used=mined.gas_used,
        logs=tuple((log.address, log.topics, log.data) for log in mined.logs),
    )


# ---- keys ----


def held_keys(run: Path) -> tuple[tuple[HeldKey, ...], dict[str, str]]:
    """Return the sealing keys in a run's own ``keys/`` folder, and the tombstones of erased ones.

    A deployed coordinator's keys are not in the run folder: then there is nothing to find.
    """
    folder, password = run / "keys", run / "keys" / "password"
    if not folder.is_dir():
        return (), {}
    erased = {
        path.name.removesuffix(".erased"): _tombstone(path)
        for path in sorted(folder.glob("seal-*.json.erased"))
    }
    held = [path for path in sorted(folder.glob("seal-*.json")) if path.name not in erased]
    if not password.is_file():
        return (), erased
    return tuple(read_key(path, password_file=password) for path in held), erased


def _tombstone(path: Path) -> str:
    """Return the reason on a tombstone, for the report."""
    value = parse_json(read_bounded(path, MAX_LINE), MAX_LINE)
    return str(value.get("reason", ""))[:200] if isinstance(value, dict) else ""


def read_key(
    path: Path, *, password_file: Path | None = None, password_env: str | None = None
) -> HeldKey:
    """Return a sealing key from its file.

    Raises:
        EvidenceErased: it was destroyed after its retention.
        InsecureKeyFile, KeyLocked, BadKey, EvidenceMissing: as `ledger.keys.load_seal_key`.
    """
    stored = load_seal_key(path, read_password(file=password_file, env=password_env))
    return HeldKey(seed=stored.key.seed, epoch=stored.epoch)
