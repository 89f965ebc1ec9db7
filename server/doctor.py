"""What can be wrong with a run folder, from the coordinator's side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ledger.doctor import (
    Symptom,
    examine_database,
    examine_journal,
    examine_lock,
    examine_objects,
    examine_private,
    examine_storage,
    examine_witness,
    of_error,
)
from ledger.errors import EvidenceMissing, ThoracleError
from ledger.files import ObjectStore
from ledger.keys import check_not_erased
from server.home import CoordinatorSpec
from server.store import LOCK


def diagnose_run(run: Path) -> Iterator[Symptom]:
    """Examine a run folder: disk, locks, journals, stored objects and the coordinator's keys."""
    models = ObjectStore(run / "models", ".safetensors")
    sizes = [path.stat().st_size for path in models.folder.glob("*.safetensors")]
    yield from examine_storage(run, 16 * max(sizes, default=0))
    yield from examine_lock(run, LOCK, "this run")
    yield from examine_lock(run / "chain", "node", "its chain")
    for path in (run / "chain" / "transactions.jsonl", run / "keys" / "transactions.jsonl"):
        if path.is_file():
            yield from examine_journal(path, run)
    if (run / "coordinator.sqlite").is_file():
        yield from examine_database(run / "coordinator.sqlite", run)
    yield from examine_witness(run / "witness.json", run)
    sums = ObjectStore(run / "sums", ".safetensors")
    for store in (models, sums, ObjectStore(run / "evidence")):
        yield from examine_objects(store, run)
    yield from _keys(run)


def _keys(run: Path) -> Iterator[Symptom]:
    try:
        spec = CoordinatorSpec.read(run)
    except EvidenceMissing:
        yield Symptom(
            error=EvidenceMissing.__name__,
            where="coordinator.json",
            sentence="the run was never fully prepared, or its description is gone",
            remedy="prepare it anew with thoracle simulate --out, or restore the file",
        )
        return
    except ThoracleError as error:
        yield of_error(error, "coordinator.json", "restore it from a copy of the run")
        return
    wanted = [run / spec.keystore]
    if spec.password_file:
        wanted.append(run / spec.password_file)
    seals = sorted((run / "keys").glob("seal-*.json"))
    yield from examine_private([*wanted, *seals], run)
    erased = sorted((run / "keys").glob("seal-*.json.erased"))
    if not seals and not erased:
        yield from examine_private([run / "keys" / "seal-1.json"], run)
    for path in seals:
        try:
            check_not_erased(path)
        except ThoracleError as error:
            yield of_error(error, path.name, "erase it again: its removal was cut short")
