"""What can be wrong with a folder on a disk, and what to do; reads everything, mends nothing.

Each examination returns symptoms: a named error of `ledger.errors`, where it shows, one sentence
for what is wrong and one for what to do. A *fault* stops a run; a *note* is healed by taking the
run up, or is only worth knowing. Nothing here needs a node, a key or a password.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

from ledger.canonical import sha256
from ledger.errors import (
    ClockSkew,
    EvidenceMismatch,
    EvidenceMissing,
    HeadMismatch,
    JournalCorrupt,
    LedgerRollback,
    RunBusy,
    StorageFull,
    ThoracleError,
)
from ledger.files import MAX_OBJECT, TEMPORARY, ObjectStore, read_bounded, storage_error
from ledger.lock import RunLock
from ledger.private import check_private
from ledger.txlog import MAX_BYTES, Entry, read_entries
from ledger.witness import MAX_SKEW, WitnessRecord, compare, read_witness

SPARE: Final = 64 << 20
"""Bytes that should stay free beyond what a round writes."""
_PROBE: Final = 1 << 16
_RESUME: Final = "thoracle simulate --resume"

Severity = Literal["fault", "note"]


@dataclass(frozen=True, kw_only=True)
class Symptom:
    """One thing that is wrong, or worth knowing.

    Attributes:
        error: name of the error that work would end with.
        where: the file or folder, relative to what was examined.
        sentence: what is wrong.
        remedy: what to do.
        severity: whether it stops a run.
    """

    error: str
    where: str
    sentence: str
    remedy: str
    severity: Severity = "fault"


def of_error(error: ThoracleError, where: str, remedy: str) -> Symptom:
    """Return the symptom that an error, caught while examining, stands for."""
    return Symptom(error=error.name, where=where, sentence=str(error), remedy=remedy)


def examine_storage(folder: Path, needed: int = 0) -> Iterator[Symptom]:
    """Find a full disk or a folder that cannot be written, by writing 64 KiB and removing them.

    Args:
        folder: where a run writes.
        needed: bytes that a round is about to write.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as probe:
            probe.write(bytes(_PROBE))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        named = storage_error(folder, error)
        yield of_error(named, ".", "free space or make the folder writable; nothing is lost")
        return
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE:
        yield Symptom(
            error=StorageFull.__name__,
            where=".",
            sentence=f"only {free >> 20} MiB are free; a round needs {(needed + SPARE) >> 20}",
            remedy="free space, or move the folder to a larger disk",
        )
    stale = [path for path in folder.rglob(f".*{TEMPORARY}") if path.is_file()]
    if stale:
        yield Symptom(
            error="",
            where=stale[0].relative_to(folder).as_posix(),
            sentence=f"{len(stale)} writes were cut short; what they would have replaced stands",
            remedy="nothing: the leavings are removed when the run is taken up",
            severity="note",
        )


def examine_lock(folder: Path, name: str, what: str) -> Iterator[Symptom]:
    """Find another process at work."""
    if not (folder / f".{name}.lock").exists():
        return
    lock = RunLock(folder, name, what)
    try:
        if lock.held():
            yield Symptom(
                error=RunBusy.__name__,
                where=f".{name}.lock",
                sentence=f"{lock.holder()} is working on {what}",
                remedy="let it finish, or stop it; two processes never work on one run",
                severity="note",
            )
    except OSError:
        return  # a read-only folder: told by examine_storage


def examine_journal(path: Path, root: Path) -> Iterator[Symptom]:
    """Find a damaged or cut journal of transactions."""
    where = path.relative_to(root).as_posix()
    try:
        data = read_bounded(path, MAX_BYTES)
        _, kept = read_entries(data, path.name)
    except ThoracleError as error:
        yield of_error(error, where, "restore this file from a backup of the same run")
        return
    if kept != len(data):
        yield Symptom(
            error=JournalCorrupt.__name__,
            where=where,
            sentence=f"its last line is cut after {len(data) - kept} bytes: a write was cut short",
            remedy=f"nothing: a cut line was never acted on; {_RESUME} cuts it off",
            severity="note",
        )


def examine_database(path: Path, root: Path) -> Iterator[Symptom]:
    """Find a damaged database, without changing it."""
    where = path.relative_to(root).as_posix()
    try:
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            found = database.execute("PRAGMA quick_check").fetchone()
        finally:
            database.close()
        said = "" if found == ("ok",) else str(found)
    except sqlite3.Error as error:
        said = str(error)
    if said:
        yield Symptom(
            error=JournalCorrupt.__name__,
            where=where,
            sentence=f"the database is damaged: {said}",
            remedy="restore this file from a backup of the same run; never delete it",
        )


def examine_objects(store: ObjectStore, root: Path) -> Iterator[Symptom]:
    """Find stored objects that are not what their name says: cut, empty or edited."""
    if not store.folder.is_dir():
        return
    for digest in store.digests():
        path = store.path(digest)
        where = path.relative_to(root).as_posix()
        try:
            data = read_bounded(path, min(store.limit, MAX_OBJECT))
        except ThoracleError as error:
            yield of_error(error, where, "restore it from a copy of the run")
            continue
        if sha256(data) != digest:
            yield Symptom(
                error=EvidenceMismatch.__name__,
                where=where,
                sentence=f"its {len(data)} bytes are not those of its name: cut short or edited",
                remedy="restore it from a copy of the run; an audit will name it until then",
            )


def examine_private(paths: Iterable[Path], root: Path) -> Iterator[Symptom]:
    """Find keys that are missing, or open to others."""
    for path in paths:
        where = path.relative_to(root).as_posix()
        try:
            check_private(path)
        except EvidenceMissing:
            yield Symptom(
                error=EvidenceMissing.__name__,
                where=where,
                sentence="this key or password is missing; nobody can go on in its name",
                remedy="restore it from the place where keys are kept; it cannot be made again",
            )
        except ThoracleError as error:
            yield of_error(error, where, f"chmod 600 {path}")


def examine_history(
    chain: Path, parties: Mapping[str, Path], witnesses: Mapping[str, Path], *, now: float
) -> Iterator[Symptom]:
    """Find a chain that is older than what somebody has seen, split views and clocks that jumped.

    Args:
        chain: the node's own journal.
        parties: journals of those who sign, by name.
        witnesses: witness files, by name.
        now: this machine's clock, in Unix seconds.
    """
    known = _entries(chain)
    if known is not None:
        yield from _examine_rollback(known, parties)
        newest = max((e.mined for e in known.values() if e.mined), key=_block, default=None)
        ahead = (newest.timestamp if newest else 0) - now
        if ahead > MAX_SKEW:
            yield Symptom(
                error=ClockSkew.__name__,
                where=chain.name,
                sentence=f"the newest block is {ahead:.0f} s in this machine's future",
                remedy="set this machine's clock right (it jumped), then go on",
            )
    seen = {name: record for name, path in witnesses.items() if (record := _witness(path))}
    if known is not None:
        blocks = {entry.mined.block for entry in known.values() if entry.mined}
        for name, record in seen.items():
            if record.block > max(blocks, default=0):
                yield _rolled_back(f"{name} has seen block {record.block}")
    yield from _examine_views(seen)


def _examine_rollback(
    known: Mapping[bytes, Entry], parties: Mapping[str, Path]
) -> Iterator[Symptom]:
    for name, path in parties.items():
        mined = {h for h, entry in (_entries(path) or {}).items() if entry.mined is not None}
        lost = mined - set(known)
        if lost:
            yield _rolled_back(f"{name} saw {len(lost)} transactions mined that the chain lacks")


def _rolled_back(why: str) -> Symptom:
    return Symptom(
        error=LedgerRollback.__name__,
        where="chain",
        sentence=f"{why}: the chain was restored from an old backup",
        remedy="restore the newest copy of chain/transactions.jsonl (it re-creates the rest)",
    )


def _examine_views(seen: Mapping[str, WitnessRecord]) -> Iterator[Symptom]:
    for (name, first), (other, second) in pairwise(sorted(seen.items())):
        try:
            split = compare(first, second).split
        except ThoracleError as error:
            yield of_error(error, "witness.json", "each party belongs to one federation only")
            continue
        if split is not None:
            yield Symptom(
                error=HeadMismatch.__name__,
                where="witness.json",
                sentence=f"{name} and {other} were shown different records from {split} on",
                remedy="stop: whoever runs the chain showed two histories; compare the files",
            )


def _entries(path: Path) -> dict[bytes, Entry] | None:
    """Return a journal's transactions; None where it is missing or damaged (told elsewhere)."""
    if not path.is_file():
        return None
    try:
        return read_entries(read_bounded(path, MAX_BYTES), path.name)[0]
    except ThoracleError:
        return None


def _witness(path: Path) -> WitnessRecord | None:
    try:
        return read_witness(path) if path.is_file() else None
    except ThoracleError:
        return None


def _block(mined: object) -> int:
    return int(getattr(mined, "block", 0))


def examine_witness(path: Path, root: Path) -> Iterator[Symptom]:
    """Find a witness file that cannot be read."""
    if path.is_file():
        try:
            read_witness(path)
        except ThoracleError as error:
            where = path.relative_to(root).as_posix()
            yield of_error(error, where, "restore it: without it a rollback is unseen")
