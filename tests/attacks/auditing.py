"""Rows of the audit: the run that a coordinator left behind, tampered with afterwards.

The audit reads the same folder and chain as everybody; it holds the sealing key, and trust anchors
that came from outside. Rows that tamper with proofs and events of a bundle byte by byte, at every
level, are in ``tests/ledger/test_audit.py`` and ``tests/ledger/test_bundle.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ledger.archive import FolderSource
from ledger.audit import AuditReport, audit
from ledger.bundle import decode_bundle, encode_bundle
from ledger.collect import collect_backend
from ledger.errors import (
    BundleInvalid,
    EvidenceMismatch,
    EvidenceMissing,
    OriginUnproven,
    ThoracleError,
    by_name,
)
from ledger.facts import ChainRecord, Facts, HeldKey
from ledger.run_facts import RunObjects
from tests.attacks.case import Case, Scene
from tests.world import World

ROOM = "audit"


def record_of(world: World) -> ChainRecord:
    """Return the whole chain as an auditor collects it."""
    return collect_backend(world.chain.tester.backend, world.ledger.anchors)


def facts_of(world: World, **changes: Any) -> Facts:
    """Return the facts of an audit of a world's run, with key and outside anchors."""
    facts = Facts(
        record=record_of(world),
        claimed=world.ledger.anchors,
        trusted=world.ledger.anchors,
        objects=RunObjects(FolderSource(world.run)),
        keys=(HeldKey(seed=world.key.seed, epoch=1),),
    )
    return replace(facts, **changes)


FILES = ("EvidenceMismatch", "EvidenceMissing")


def found_by(scene: Scene, report: AuditReport) -> None:
    """Note what the audit failed on; where a file is at fault, its consequences come after it."""
    names = {finding.error for finding in report.failures}
    (name,) = names & set(FILES) or names
    kind = by_name(name)
    assert kind is not None
    scene.caught.append(("auditor", kind))


def _clean(scene: Scene) -> None:
    """What an honest coordinator leaves behind holds at every level."""
    report = audit(facts_of(scene.world))
    assert report.clean, [finding.sentence for finding in report.failures]
    assert report.origin_proven
    assert report.reached == ("chain", "models", "replay")


def _edited(folder: str, change: Callable[[Path], object]) -> Callable[[Scene], None]:
    """Tamper with one file of round 1 in a copy of the run."""

    def play(scene: Scene) -> None:
        world = scene.world
        model = world.ledger.model()
        proposal = world.ledger.proposal(1)
        assert proposal is not None
        commit = world.ledger.commits(1)[str(world.accounts[0].address)]
        paths = {
            "models": world.store.models.path(model),
            "sums": world.store.sums.path(proposal.sum_digest),
            "evidence": world.store.evidence.path(commit.seal_digest),
        }
        kept = paths[folder].read_bytes()
        change(paths[folder])
        found_by(scene, audit(facts_of(world)))
        paths[folder].write_bytes(kept)

    return play


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def _bundle(change: Callable[[bytes], bytes]) -> Callable[[Scene], None]:
    def play(scene: Scene) -> None:
        world = scene.world
        data = encode_bundle(record_of(world), world.ledger.anchors)
        assert decode_bundle(data)[0] == record_of(world)
        with scene.caught_by("auditor"):
            decode_bundle(change(data))

    return play


def _bitflip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _fabricated(scene: Scene) -> None:
    """The same history, consistent in itself, held against another federation's anchors."""
    world = scene.world
    other = replace(world.ledger.anchors, genesis_hash=bytes(31) + b"\1")
    report = audit(facts_of(world, trusted=other), "chain")
    assert not report.origin_proven
    found_by(scene, report)


def _row(
    name: str, tampers: str, error: type[ThoracleError] | None, play: Callable[[Scene], None]
) -> Case:
    return Case(
        name=name,
        room=ROOM,
        tampers=tampers,
        caught="auditor" if error else "",
        error=error,
        stage="idle",
        play=play,
    )


CASES = (
    _row("honest_run_audited", "nothing: the control of this room", None, _clean),
    _row(
        "stored_model_edited",
        "one bit of a stored model",
        EvidenceMismatch,
        _edited("models", _flip),
    ),
    _row("stored_sum_edited", "one bit of a stored sum", EvidenceMismatch, _edited("sums", _flip)),
    _row(
        "evidence_edited",
        "one bit of a sealed update",
        EvidenceMismatch,
        _edited("evidence", _flip),
    ),
    _row(
        "evidence_deleted",
        "a sealed update is deleted",
        EvidenceMissing,
        _edited("evidence", Path.unlink),
    ),
    _row("bundle_bitflip", "one bit of the offline bundle", BundleInvalid, _bundle(_bitflip)),
    _row(
        "bundle_truncated",
        "the offline bundle's last byte",
        BundleInvalid,
        _bundle(lambda data: data[:-1]),
    ),
    _row(
        "fabricated_chain",
        "a consistent history that is not of the anchors",
        OriginUnproven,
        _fabricated,
    ),
)
