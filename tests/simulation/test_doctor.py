"""What goes wrong with disks, locks, clocks and backups: each a named error, and a remedy."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from client.accountant import Accountant
from client.home import HospitalSpec
from client.shard import write_shard
from ledger.canonical import canonical_json
from ledger.errors import (
    EvidenceMismatch,
    LedgerRollback,
    OutputError,
    RunBusy,
    StorageFull,
    StorageReadOnly,
    ThoracleError,
)
from ledger.files import ObjectStore, atomic_write, storage_error
from ledger.keys import SCRYPT_N_SIMULATION, create_account, save_seal_key
from ledger.statement import Mechanism
from ledger.txlog import TransactionLog
from ledger.witness import Witness
from server.home import CoordinatorSpec
from server.journal import Journal
from server.store import RunStore
from simulation.doctor_command import diagnose
from tests.client.test_app import shard
from tests.faults.world import FaultWorld, comparable
from thoracle import build_app


def dress(world: FaultWorld, run: Path) -> None:
    """Give a world's folder everything else that a simulated run has."""
    password = "correct horse"  # noqa: S105 - a test's
    for home in sorted((run / "hospitals").iterdir()):
        atomic_write(home / "password", password.encode(), mode=0o600)
        create_account(home / "account.json", password, scrypt_n=SCRYPT_N_SIMULATION)
        write_shard(home / "shard.npz", shard())
        HospitalSpec(name=home.name, rpc="http://127.0.0.1:9", anchors=world.ledger.anchors).write(
            home
        )
    CoordinatorSpec(
        rpc="http://127.0.0.1:9", anchors=world.ledger.anchors, plan=world.setting.plan,
        manifest=world.manifest,
    ).write(run)  # fmt: skip
    atomic_write(run / "keys" / "password", password.encode(), mode=0o600)
    create_account(run / "keys" / "coordinator.json", password, scrypt_n=SCRYPT_N_SIMULATION)
    save_seal_key(
        run / "keys" / "seal-1.json", world.key, password, epoch=1, scrypt_n=SCRYPT_N_SIMULATION
    )
    atomic_write(run / "run.json", canonical_json({}))
    atomic_write(run / "chain" / "node.json", canonical_json({}))
    (run / "chain" / "anvil.log").touch()
    with closing(TransactionLog(run / "chain" / "transactions.jsonl")) as node:
        for path in (run / "keys", *sorted((run / "hospitals").iterdir())):
            with closing(TransactionLog(path / "transactions.jsonl")) as own:
                for entry in own.entries():
                    node.signed(entry.raw)
                    assert entry.mined is not None
                    node.mined(entry.mined)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doctor")
    with comparable():
        world = FaultWorld(folder / "world")
        world.take_up(1)
        Witness(world.run / "witness.json", world.ledger, now=world.chain.clock).advance()
        world.close()
    shutil.copytree(world.run, folder / "run")
    shutil.copytree(world.folder / "hospitals", folder / "run" / "hospitals")
    dress(world, folder / "run")
    return folder / "run"


@pytest.fixture
def run(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path / "run")
    return tmp_path / "run"


def named(run: Path, **options: float) -> list[tuple[str, str]]:
    return [(s.error, s.where) for s in diagnose(run, **options) if s.severity == "fault"]


def test_a_well_run_is_well(run: Path) -> None:
    assert diagnose(run) == []
    told = CliRunner().invoke(build_app(), ["doctor", str(run), "--json"])
    assert told.exit_code == 0
    assert json.loads(told.stdout) == {"well": True, "symptoms": []}
    assert diagnose(run / "hospitals" / "0") == []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def only(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


DAMAGE: dict[str, tuple[str, Callable[[Path], Path], Callable[[Path], object]]] = {
    "truncated model": ("EvidenceMismatch", lambda r: only(r / "models", "*.safe*"), cut),
    "empty sum": ("EvidenceMismatch", lambda r: only(r / "sums", "*"), empty),
    "evidence flipped": ("EvidenceMismatch", lambda r: only(r / "evidence", "?" * 64), cut),
    "spooled update cut": (
        "EvidenceMismatch", lambda r: r / "hospitals/0/spool/00000001/sealed", cut
    ),
    "entry cut": ("JournalCorrupt", lambda r: r / "hospitals/1/spool/00000001/entry.json", cut),
    "journal of rubbish": (
        "JournalCorrupt", lambda r: r / "coordinator.sqlite", lambda p: p.write_bytes(b"x" * 4096)
    ),
    "accountant of rubbish": (
        "JournalCorrupt",
        lambda r: r / "hospitals/0/accountant.sqlite",
        lambda p: p.write_bytes(b"x" * 4096),
    ),
    "journal's first line": (
        "JournalCorrupt",
        lambda r: r / "keys/transactions.jsonl",
        lambda p: p.write_bytes(b"{}\n" + p.read_bytes()),
    ),
    "witness cut": ("JournalCorrupt", lambda r: r / "hospitals/0/witness.json", cut),
    "key missing": ("EvidenceMissing", lambda r: r / "keys/seal-1.json", Path.unlink),
    "password missing": ("EvidenceMissing", lambda r: r / "hospitals/1/password", Path.unlink),
    "key open to all": ("InsecureKeyFile", lambda r: r / "keys/coordinator.json",
                        lambda p: p.chmod(0o644)),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE, ids=str)
def test_damage_is_named_and_placed(run: Path, what: str) -> None:
    error, find, harm = DAMAGE[what]
    path = find(run)
    harm(path)
    where = path.relative_to(run).as_posix()
    if "spool" in where:
        where = where.rsplit("/", 1)[0]
    assert named(run) == [(error, where)]
    told = CliRunner().invoke(build_app(), ["doctor", str(run)])
    assert told.exit_code == 1
    assert error in told.stdout
    assert "do: " in told.stdout


def test_a_torn_line_and_a_cut_write_are_notes(run: Path) -> None:
    with (run / "hospitals/0/transactions.jsonl").open("ab") as stream:
        stream.write(b'{"kind":"sig')
    (run / "models" / ".abc.tmp").write_bytes(b"half")
    found = diagnose(run)
    assert [s.severity for s in found] == ["note", "note"]
    assert {s.error for s in found} == {"", "JournalCorrupt"}
    RunStore(run).close()
    assert not (run / "models" / ".abc.tmp").exists(), "taking the run up clears it away"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("round,outcome\n1,SUM_VERIFIED\n", []),
        ("round,outcome\n1,SUM_VERIFIED\n2,ABORTED\n", ["1 of 2 rounds were not verified: 2"]),
        ("round\n1\n", ["the table of rounds cannot be read: 'outcome'"]),
        ("round,outcome\n1," + "9" * 200_000, ["the table of rounds cannot be read: field larger"]),
    ],
)
def test_rounds_that_taught_nothing_are_noted(run: Path, table: str, said: list[str]) -> None:
    """Every hospital may have refused every round, and each file be in order."""
    atomic_write(run / "metrics.csv", table.encode())
    found = diagnose(run)
    assert [symptom.severity for symptom in found] == ["note"] * len(said)
    for symptom, sentence in zip(found, said, strict=True):
        assert symptom.sentence.startswith(sentence)


def test_two_processes_on_one_run(run: Path) -> None:
    with RunStore(run):
        with pytest.raises(RunBusy, match=f"process {os.getpid()} .* is working on the run"):
            RunStore(run)
        (symptom,) = diagnose(run)
        assert (symptom.error, symptom.severity) == ("RunBusy", "note")
        assert str(os.getpid()) in symptom.sentence
    assert diagnose(run) == []


def test_a_chain_restored_from_an_old_backup(run: Path) -> None:
    journal = run / "chain" / "transactions.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:5]))
    assert set(named(run)) == {("LedgerRollback", "chain")}


def test_the_coordinator_refuses_an_older_chain(tmp_path: Path) -> None:
    with comparable():
        world = FaultWorld(tmp_path / "world")
        before = world.chain.snapshot()
        world.take_up(1)
        seen = Witness(tmp_path / "witness.json", world.ledger, now=world.chain.clock)
        seen.advance()
        world.chain.revert(before)
        with pytest.raises(LedgerRollback):
            Witness(tmp_path / "witness.json", world.ledger, now=world.chain.clock).advance()
        world.close()


def test_a_clock_that_jumped_back(run: Path) -> None:
    assert named(run, now=time.time() - 10**6) == [("ClockSkew", "transactions.jsonl")]


def test_two_hospitals_with_two_histories(run: Path) -> None:
    path = run / "hospitals" / "1" / "witness.json"
    record = json.loads(path.read_bytes())
    record["heads"][-1][1] = "00" * 32
    path.write_bytes(canonical_json(record))
    assert ("HeadMismatch", "witness.json") in named(run)


def test_what_is_no_run(tmp_path: Path) -> None:
    told = CliRunner().invoke(build_app(), ["doctor", str(tmp_path)])
    assert told.exit_code != 0
    assert "neither a run folder nor" in str(told.exception)


# ---- the code's own paths, with the system's own refusals ----


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """Let the kernel refuse any file to grow past ``limit`` bytes (EFBIG, as a quota does)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only() -> Iterator[Path]:
    """Yield a folder that this process may read but not write: root becomes nobody meanwhile."""
    folder = Path(tempfile.mkdtemp())
    (folder / "old").write_bytes(b"old")
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic_write(path, b"old")
    with full_disk(1000), pytest.raises(StorageFull, match="no room to write"):
        atomic_write(path, bytes(5000))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path], "nothing half written"


def test_a_full_disk_leaves_a_journal_whole(tmp_path: Path) -> None:
    log = TransactionLog(tmp_path / "transactions.jsonl")
    log.signed(b"one")
    before = log.path.read_bytes()
    with full_disk(len(before) + 20), pytest.raises(StorageFull):
        log.signed(b"two")
    assert log.path.read_bytes() == before
    log.signed(b"three")  # there is room again: the next line follows the last whole one
    log.close()
    again = TransactionLog(tmp_path / "transactions.jsonl")
    assert [entry.raw for entry in again.entries()] == [b"one", b"three"]
    again.close()


def test_a_full_disk_under_the_databases(tmp_path: Path) -> None:
    with Journal(tmp_path / "coordinator.sqlite") as journal:
        journal.record(1, "one", {"a": 1})
        with full_disk(4096), pytest.raises(StorageFull):
            journal.record(2, "long", {"text": "x" * 50_000})
        journal.record(1, "one", {"a": 1})
        assert journal.read(1, "one") == {"a": 1}
    accountant = Accountant(tmp_path / "accountant.sqlite")
    run = Mechanism(noise_multiplier=10**6, sample_rate=10**7, steps=1, delta=10**7)
    with full_disk(4096), pytest.raises(ThoracleError) as caught:
        accountant.charge(1, run, on_chain=0, cap=10**12)
    assert isinstance(caught.value, StorageFull)
    assert accountant.charges() == {}, "a charge is there whole or not at all"


def test_a_read_only_folder_is_named() -> None:
    with read_only() as folder:
        with pytest.raises(StorageReadOnly, match="make the folder writable"):
            atomic_write(folder / "old", b"new")
        with pytest.raises(StorageReadOnly):
            TransactionLog(folder / "transactions.jsonl")
        with pytest.raises(StorageReadOnly):
            Journal(folder / "coordinator.sqlite")
        with pytest.raises(StorageReadOnly):
            Accountant(folder / "accountant.sqlite")
        with pytest.raises(StorageReadOnly):
            ObjectStore(folder / "models").put(b"data")
        with pytest.raises(OutputError):
            RunStore(folder / "run")
        assert (folder / "old").read_bytes() == b"old"
        assert sorted(path.name for path in folder.iterdir()) == ["old"]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EROFS, StorageReadOnly),
        (errno.EACCES, StorageReadOnly), (errno.EIO, OutputError),
    ],
)  # fmt: skip
def test_each_refusal_of_the_system_has_its_name(number: int, kind: type[OutputError]) -> None:
    error = storage_error(Path("run/models"), OSError(number, os.strerror(number)))
    assert type(error) is kind
    assert "run/models" in str(error)


def test_a_truncated_object_is_refused_when_it_is_read(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    digest = store.put(np.arange(100).tobytes())
    cut(store.path(digest))
    with pytest.raises(EvidenceMismatch):
        store.get(digest)
    assert store.put(np.arange(100).tobytes()) == digest, "writing it again heals it"
    store.get(digest)
