"""A federation whose every process can be killed at any durable step, and taken up again.

As ``tests.world``, and in addition what makes two runs comparable to the last byte: every party
has its own journal of transactions and its own view of the chain, patients are protected (so the
accountant is at work), blocks are one second apart whatever the clock says, and sealing the same
update twice gives the same bytes (the real seal draws fresh randomness; here its first answer is
remembered).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import client.contributor
from client.accountant import Accountant
from client.agent import Hospital
from client.policy import Policy
from client.roles import TrainedUpdate
from client.spool import Spool
from client.update import SealedUpdate, UpdateContext, seal_update
from ledger.canonical import sha256, tagged_digest
from ledger.chain import Ledger
from ledger.files import sweep
from ledger.manifest import Model
from ledger.statement import Phase, Unit
from ledger.txlog import TransactionLog, read_entries
from ledger.witness import read_witness
from server.rounds import Coordinator
from tests.world import PRIVACY, Setting, TinyTrainer, World

SETTING = Setting(hospitals=2, plan=replace(Setting().plan, privacy=PRIVACY), unit=Unit.PATIENT)
POLICY = Policy(
    metrics=frozenset({"loss"}), accept_quorum_only=True, privacy="patient", keep_rounds=1
)
_FORKS = ("frontier", "byzantium", "london")
_ROOTS = ("number", "timestamp", "stateRoot", "receiptsRoot", "transactionsRoot")


@contextmanager
def steady_blocks() -> Iterator[None]:
    """Let every block be one second after its parent, so that a history is the same again."""
    with ExitStack() as stack:
        for fork in _FORKS:
            name = f"eth.vm.forks.{fork}.headers.new_timestamp_from_parent"
            stack.enter_context(mock.patch(name, lambda parent: parent.timestamp + 1))
        yield


class SealOnce:
    """Seals each update with the real seal, and the same update again to the same bytes."""

    def __init__(self) -> None:
        self._made: dict[bytes, SealedUpdate] = {}

    def __call__(self, trained: Model, base: Model, context: UpdateContext) -> SealedUpdate:
        salt = tagged_digest("thoracle/test-salt", context.hospital, context.round)
        drift = b"".join(trained[name].tobytes() for name in sorted(trained))
        key = sha256(drift, context.base_model, salt, *context.public_keys)
        if key not in self._made:
            self._made[key] = seal_update(trained, base, context, salt=salt)
        return self._made[key]


@contextmanager
def comparable() -> Iterator[None]:
    """Everything that lets two runs be compared, for as long as the block runs."""
    with steady_blocks(), mock.patch.object(client.contributor, "seal_update", SealOnce()):
        yield


class CountingTrainer:
    """Counts trainings, and refuses one whose result is already on the disk."""

    def __init__(self, name: str, home: Path, count: dict[tuple[str, int], int]) -> None:
        self._inner = TinyTrainer(name)
        self._name, self._home, self._count = name, home, count

    def __call__(self, base: Model, config: Mapping[str, object], seed: int, /) -> TrainedUpdate:
        number = int(str(config["round"]))
        assert Spool(self._home / "spool").entry(number) is None, "retrained after its spool"
        key = (self._name, number)
        self._count[key] = self._count.get(key, 0) + 1
        return self._inner(base, config, seed)


class FaultWorld(World):
    """A federation that is killed and taken up again."""

    def __init__(self, folder: Path) -> None:
        self._durable = False
        self._logs: list[TransactionLog] = []
        self.trained: dict[tuple[str, int], int] = {}
        super().__init__(folder, SETTING)
        self._durable = True
        self.restart()

    def close(self) -> None:
        """Let go of every file."""
        self.store.close()
        self._close_logs()

    def _close_logs(self) -> None:
        for log in self._logs:
            log.close()
        self._logs.clear()

    def _rebuild(self) -> None:
        self._close_logs()
        super()._rebuild()

    def _own_ledger(self, path: Path) -> Ledger:
        """Return one party's own view of the chain, as its process opens it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        log = TransactionLog(path)
        self._logs.append(log)
        ledger = Ledger(self.chain.web3, self._anchors, journal=log)
        ledger.recover()
        return ledger

    def make_coordinator(self, **changes: object) -> Coordinator:
        """As the coordinator's own process opens it."""
        if self._durable:
            self.ledger = self._own_ledger(self.run / "keys" / "transactions.jsonl")
            changes = {"ledger": self.ledger, **changes}
        return super().make_coordinator(**changes)

    def make_hospital(self, seat: int, **changes: object) -> Hospital:
        """As a hospital's own process opens it."""
        home = self.folder / "hospitals" / str(seat)
        if self._durable:
            changes = {
                "ledger": self._own_ledger(home / "transactions.jsonl"),
                "trainer": CountingTrainer(f"hospital {seat}", home, self.trained),
                "policy": POLICY,
                **changes,
            }
        return super().make_hospital(seat, **changes)

    def take_up(self, rounds: int) -> None:
        """Do what is left of so many rounds, as ``simulate --resume`` does."""
        self.coordinator.catch_up()
        while self._closed() < rounds:
            if self.ledger.round().phase is not Phase.ATTESTING:
                self.submit(self.train(self.coordinator.open_round()))
            self.conclude()

    def rebuild_hospital(self, seat: int) -> None:
        """Let one hospital's process die and start again; everybody else lives on."""
        self.hospitals[seat] = self.make_hospital(seat)

    def _closed(self) -> int:
        state = self.ledger.round()
        return state.number if state.phase is Phase.IDLE else state.number - 1


@dataclass(frozen=True)
class Outcome:
    """Everything a run leaves behind that must not depend on where it was interrupted."""

    blocks: tuple[str, ...]
    head: bytes
    files: Mapping[str, str]
    journal: Mapping[str, object]
    charges: tuple[object, ...]
    witnesses: tuple[Mapping[int, bytes], ...]
    sent: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, world: FaultWorld) -> Outcome:
        """Read it from chain and disk."""
        return cls(
            blocks=_blocks(world),
            head=world.ledger.head(),
            files=_files(world.folder),
            journal=_journal(world),
            charges=tuple(
                Accountant(home / "accountant.sqlite").charges() for home in _homes(world)
            ),
            witnesses=tuple(read_witness(h / "witness.json").heads for h in _homes(world)),
            sent=tuple(
                _sent(home / "transactions.jsonl") for home in (world.run / "keys", *_homes(world))
            ),
        )

    def differences(self, other: Outcome) -> list[str]:
        """Name what is not equal."""
        found = [
            name
            for name in ("blocks", "head", "journal", "charges", "sent")
            if getattr(self, name) != getattr(other, name)
        ]
        if not all(
            mine.items() <= theirs.items()
            for mine, theirs in zip(self.witnesses, other.witnesses, strict=True)
        ):
            found.append("witnesses")
        names = sorted(set(self.files) | set(other.files))
        return found + [name for name in names if self.files.get(name) != other.files.get(name)]


def _blocks(world: FaultWorld) -> tuple[str, ...]:
    """Return what every block holds (its hash also covers a random number)."""
    eth = world.chain.web3.eth
    blocks: list[Mapping[str, Any]] = [
        dict(eth.get_block(number)) for number in range(eth.block_number + 1)
    ]
    return tuple(str([block[name] for name in _ROOTS]) for block in blocks)


def _homes(world: FaultWorld) -> list[Path]:
    return [world.folder / "hospitals" / str(seat) for seat in range(len(world.accounts))]


def _files(folder: Path) -> dict[str, str]:
    """Return every file's digest; databases and journals are compared by their content."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or path.suffix in {".sqlite", ".jsonl", ".lock"}:
            continue
        if path.name in {"lock"} or path.name.endswith((".sqlite-journal", ".pid")):
            continue
        if path.name == "witness.json":
            continue  # who is asked again later has seen more: compared below
        data = path.read_bytes()
        if path.name == "metrics.csv":
            data = _without_seconds(data)
        found[name] = hashlib.sha256(data).hexdigest()
    return found


def _without_seconds(data: bytes) -> bytes:
    lines = [line.split(b",") for line in data.splitlines()]
    place = lines[0].index(b"seconds")
    return b"\n".join(b",".join(line[:place] + line[place + 1 :]) for line in lines)


def _journal(world: FaultWorld) -> dict[str, object]:
    journal = world.store.journal
    found: dict[str, object] = {}
    for number in journal.rounds():
        for step, value in journal.matching(number, "").items():
            found[f"{number}/{step}"] = None if step in {"opening", "closed"} else value
    return found


def _sent(path: Path) -> tuple[str, ...]:
    entries, kept = read_entries(path.read_bytes(), path.name)
    assert kept == path.stat().st_size, f"{path} ends within a line"
    return tuple(
        f"{entry.tx_hash.hex()} {entry.mined.block if entry.mined else None} {entry.rejected}"
        for entry in entries.values()
    )


def clean_up(world: FaultWorld) -> int:
    """Remove what cut writes left in the run's and the hospitals' folders."""
    return sum(sweep(path) for path in world.folder.rglob("*") if path.is_dir())
