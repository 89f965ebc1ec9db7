"""``make soak``: hundreds of rounds, on a real node, while everything keeps being killed.

Five hospitals and a coordinator train a tiny private model on anvil. At random durable steps the
process at work ends (before the step, after it, or in the middle of a journal's line) and starts
again from its disk; now and then the node is killed too (kill -9) and re-created from its journal.
Old evidence is erased as its rounds declared. At the end every round must be verified, nothing
retrained after its spool, every charge taken once, no leavings on the disk, memory and disk within
bounds, and the audit clean. ``python -m tests.faults.soak --help`` has the numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from client.accountant import Accountant
from client.agent import Hospital
from client.private_guard import PrivacyAccountGuard
from ledger.archive import FolderSource
from ledger.audit import audit
from ledger.audit_record import open_record
from ledger.canonical import sha256, tagged_digest
from ledger.chain import Ledger
from ledger.chain_rpc import connect
from ledger.collect import collect_rpc
from ledger.console import err, out
from ledger.facts import Facts, HeldKey
from ledger.files import TEMPORARY, sweep
from ledger.findings import Book
from ledger.keys import StoredSealKey
from ledger.manifest import Manifest, encode_model
from ledger.node import ManagedAnvil
from ledger.replica import History, replay_events
from ledger.retention import Retention
from ledger.run_facts import RunObjects
from ledger.statement import Outcome, Phase, Rules, Unit
from ledger.steps import Kind, watched
from ledger.steps import Phase as Side
from ledger.txlog import TransactionLog
from ledger.witness import Witness
from server.plan import Keyring, RoundPlan
from server.retention import erase, plan_erasure
from server.rounds import Coordinator
from server.store import RunStore
from tests.faults.injector import HALF_A_LINE, Killed
from tests.faults.world import POLICY, SETTING, CountingTrainer
from tests.world import CAP, EXAMPLES, account, initial_model, seal_key

T = TypeVar("T")
LIVES = Retention(evidence=10, models=10)
ERASE_EVERY = 20
NODE_EVERY = 10
"""Of so many kills one takes the node as well."""


@dataclass
class RandomKills:
    """Ends whoever is at work, at random steps and in random modes."""

    chance: float
    rng: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    asleep: bool = False

    def __call__(self, kind: Kind, what: str, phase: Side, /) -> None:
        """Hear of a step; sometimes end there. (The node's own threads: it is killed for real.)"""
        if self.asleep or threading.current_thread() is not threading.main_thread():
            return
        self.steps += phase == "before"
        if self.rng.random() > self.chance / 2:
            return
        mode = "persisted" if phase == "after" else self.rng.choice(("failed", "torn"))
        if mode == "torn" and kind == "append":
            with Path(what).open("ab") as stream:
                stream.write(HALF_A_LINE)
        elif mode == "torn":
            mode = "failed"
        self.kills[mode] += 1
        raise Killed


class Soak:
    """One federation on a real node, whose every process can be killed."""

    def __init__(self, folder: Path, hospitals: int, rounds: int) -> None:
        self.run, self.folder = folder / "run", folder
        self.node = ManagedAnvil(self.run / "chain").start()
        self.boss = account("coordinator")
        self.signers = [account(f"hospital {seat}") for seat in range(hospitals)]
        self.key = seal_key("coordinator")
        self.manifest = Manifest.of_model(initial_model())
        self.plan: RoundPlan = replace(SETTING.plan, rounds=rounds, retention=LIVES)
        self.trained: dict[tuple[str, int], int] = {}
        data = encode_model(initial_model())
        rules = Rules(
            federation_id=tagged_digest("thoracle/soak"),
            initial_model=sha256(data),
            privacy_unit=Unit.PATIENT,
            **SETTING.rules,
        )
        ledger = Ledger.deploy(
            connect(self.node.url), self.boss, rules, [str(s.address) for s in self.signers]
        )
        self.anchors = ledger.anchors
        for seat, signer in enumerate(self.signers):
            ledger.register(signer, CAP, 0, EXAMPLES[seat % len(EXAMPLES)])
        self._logs: dict[int, TransactionLog] = {}
        self.store = RunStore(self.run)
        self.store.models.put(data)
        self.coordinator = self._coordinator()
        self.hospitals = [self._hospital(seat) for seat in range(hospitals)]

    def _ledger(self, who: int, path: Path) -> Ledger:
        path.parent.mkdir(parents=True, exist_ok=True)
        if who in self._logs:
            self._logs.pop(who).close()
        self._logs[who] = TransactionLog(path)
        ledger = Ledger(connect(self.node.url), self.anchors, journal=self._logs[who])
        ledger.recover()
        return ledger

    def home(self, seat: int) -> Path:
        """Return a hospital's folder."""
        return self.run / "hospitals" / str(seat)

    def _coordinator(self) -> Coordinator:
        ledger = self._ledger(-1, self.run / "keys" / "transactions.jsonl")
        witness = Witness(self.run / "witness.json", ledger)
        witness.advance()
        return Coordinator(
            store=self.store,
            ledger=ledger,
            account=self.boss,
            keyring=Keyring(keys=(StoredSealKey(epoch=1, retired=False, key=self.key),)),
            plan=self.plan,
            manifest=self.manifest,
            witness=witness,
        )

    def _hospital(self, seat: int) -> Hospital:
        home = self.home(seat)
        for part in (home, home / "models", *sorted((home / "spool").glob("*"))):
            sweep(part)
        return Hospital(
            home,
            self._ledger(seat, home / "transactions.jsonl"),
            self.signers[seat],
            CountingTrainer(f"hospital {seat}", home, self.trained),
            POLICY,
            guard=PrivacyAccountGuard(home / "accountant.sqlite"),
            patience=0.0,
        )

    # ---- dying and living on ----

    def maybe_kill_node(self, rng: random.Random, killer: RandomKills) -> None:
        """Kill the node as a power cut does, and re-create it from its journal."""
        if rng.randrange(NODE_EVERY) == 0:
            os.kill(self.node.pid, signal.SIGKILL)
            killer.kills["node"] += 1
            killer.asleep = True  # the owner of the node is not at work in this soak
            self.node.restart()
            killer.asleep = False

    def reopen_coordinator(self) -> None:
        """Start the coordinator's process again."""
        self.store.close()
        self.store = RunStore(self.run)
        self.coordinator = self._coordinator()

    def reopen_hospital(self, seat: int) -> None:
        """Start one hospital's process again."""
        self.hospitals[seat] = self._hospital(seat)

    def close(self) -> None:
        """Let go of everything."""
        self.store.close()
        for log in self._logs.values():
            log.close()
        self.node.stop()


def until_done(step: Callable[[], T], again: Callable[[], None], died: Callable[[], None]) -> T:
    """Repeat a step, its process started again each time it is killed."""
    while True:
        try:
            return step()
        except Killed:
            died()
        while True:
            try:
                again()
                break
            except Killed:
                died()


def play_round(soak: Soak, number: int, died: Callable[[], None]) -> None:
    """Play one round to its end, whoever is killed."""

    def ask(seat: int, name: str, order: object) -> object:
        return until_done(
            lambda: getattr(soak.hospitals[seat], name)(order),
            lambda: soak.reopen_hospital(seat),
            died,
        )

    def as_flower_does() -> None:
        soak.coordinator.catch_up()
        state = soak.coordinator.ledger.round()
        if state.phase is Phase.IDLE and state.number >= number:
            return
        seats = range(len(soak.hospitals))
        if state.phase is not Phase.ATTESTING:
            order = soak.coordinator.open_round()
            for reply in [ask(seat, "train", order) for seat in seats]:
                soak.coordinator.receive(reply)  # type: ignore[arg-type]
            soak.coordinator.close()
            soak.coordinator.propose()
        proposal = soak.coordinator.serve()
        for answer in [ask(seat, "attest", proposal) for seat in seats]:
            soak.coordinator.answered(answer)  # type: ignore[arg-type]
        soak.coordinator.finish()

    until_done(as_flower_does, soak.reopen_coordinator, died)


def history_of(soak: Soak) -> History:
    """Return what the chain says, as an auditor rebuilds it."""
    record = collect_rpc(connect(soak.node.url), soak.anchors)
    book = Book()
    opened = open_record(record, soak.anchors, book)
    history = replay_events(opened.events, soak.anchors.domain, book)
    assert history is not None, "the chain cannot be followed"
    assert not [f for f in book.findings if f.severity == "failure"], "the chain does not hold"
    return history


def resident() -> int:
    """Return this process's memory now, in bytes (Linux), or its peak elsewhere."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def bytes_of(folder: Path, *parts: str) -> int:
    """Return how many bytes lie in some parts of a folder."""
    places = [folder / part for part in parts] or [folder]
    return sum(p.stat().st_size for place in places for p in place.rglob("*") if p.is_file())


@dataclass
class Figures:
    """What a soak measured."""

    rounds: int = 0
    hospitals: int = 0
    seed: str = ""
    seconds: float = 0.0
    steps: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    memory: dict[int, int] = field(default_factory=dict)
    disk: dict[int, dict[str, int]] = field(default_factory=dict)
    erased_rounds: int = 0
    audit: str = ""
    audit_seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def soak(folder: Path, *, rounds: int, hospitals: int, seed: str, chance: float) -> Figures:
    """Run the whole soak and return its figures; what went wrong is in ``wrong``."""
    found = Figures(rounds=rounds, hospitals=hospitals, seed=seed)
    rng = random.Random(seed)
    world, killer = Soak(folder, hospitals, rounds), RandomKills(chance, rng)
    begun = time.monotonic()

    def died() -> None:
        world.maybe_kill_node(rng, killer)

    try:
        for number in range(1, rounds + 1):
            with watched(killer):
                play_round(world, number, died)
            if number % ERASE_EVERY == 0:
                plan = plan_erasure(world.store, history_of(world))
                erase(world.store, plan)
            if number % 10 == 0 or number == rounds:
                _measure(world, found, number)
                passed = time.monotonic() - begun
                kills = sum(killer.kills.values())
                err.print(f"round {number} of {rounds}, {passed:.0f} s, {kills} kills")
        found.seconds = time.monotonic() - begun
        found.steps, found.kills = killer.steps, dict(killer.kills)
        world.reopen_coordinator()
        for seat in range(hospitals):
            world.reopen_hospital(seat)
        _judge(world, found)
    finally:
        world.close()
    return found


def _measure(world: Soak, found: Figures, number: int) -> None:
    found.memory[number] = resident()
    found.disk[number] = {
        "results": bytes_of(world.run, "models", "sums", "evidence"),
        "hospitals": bytes_of(world.run, "hospitals"),
        "journals": bytes_of(world.run, "keys", "configs")
        + (world.run / "coordinator.sqlite").stat().st_size,
        "chain": bytes_of(world.run, "chain"),
    }


def _judge(world: Soak, found: Figures) -> None:
    """Write down everything that is not as it must be."""
    history = history_of(world)
    wrong = found.wrong
    verified = [p for p in history.rounds if p.outcome is Outcome.SUM_VERIFIED]
    if len(verified) != found.rounds:
        wrong.append(f"{len(verified)} of {found.rounds} rounds were verified")
    if any(len(past.commits) != found.hospitals for past in history.rounds):
        wrong.append("a commit is missing")
    rows = [int(row["round"]) for row in world.store.read_metrics()]
    if rows != list(range(1, found.rounds + 1)):
        wrong.append("metrics.csv lacks or repeats a round")
    for seat, signer in enumerate(world.signers):
        charges = Accountant(world.home(seat) / "accountant.sqlite").charges()
        spent = world.coordinator.ledger.member(str(signer.address)).spent
        if sorted(charges) != rows or max(c.epsilon for c in charges.values()) != spent:
            wrong.append(f"hospital {seat} was charged {len(charges)} times for {len(rows)} rounds")
    leavings = list(world.run.rglob(f".*{TEMPORARY}"))
    if leavings:
        wrong.append(f"{len(leavings)} cut writes are left")
    begun = time.monotonic()
    report = audit(
        Facts(
            record=collect_rpc(connect(world.node.url), world.anchors),
            claimed=world.anchors,
            trusted=world.anchors,
            objects=RunObjects(FolderSource(world.run)),
            keys=(HeldKey(seed=world.key.seed, epoch=1),),
        )
    )
    found.audit, found.audit_seconds = report.verdict, time.monotonic() - begun
    found.erased_rounds = len(report.erased)
    if not report.clean or report.reached[-1] != "replay":
        wrong.append(report.verdict)
    _bounded(found)


def _bounded(found: Figures) -> None:
    """Compare the end with an early moment: what erasing bounds must not grow with the rounds."""
    numbers = sorted(found.disk)
    early = next((n for n in numbers if n >= ERASE_EVERY), numbers[0])
    last = numbers[-1]
    grown = found.memory[last] - found.memory[early]
    if grown > (150 << 20):
        found.wrong.append(f"memory grew by {grown >> 20} MiB between rounds {early} and {last}")
    kept = ERASE_EVERY + LIVES.evidence + 1
    a_round = found.disk[early]["results"] / early
    if last > 2 * early and found.disk[last]["results"] > 3 * kept * max(a_round, 1.0):
        found.wrong.append("erasing does not bound models, sums and evidence")


def main() -> int:
    """Run a soak and print its figures as JSON; 0 only if nothing was wrong."""
    parser = argparse.ArgumentParser(prog="tests.faults.soak", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--hospitals", type=int, default=5)
    parser.add_argument("--seed", default="soak")
    parser.add_argument("--chance", type=float, default=0.005, help="that a step is the last one")
    asked = parser.parse_args()
    memory = Path("/dev/shm")  # noqa: S108 - tens of thousands of fsyncs, nothing secret
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        found = soak(
            Path(folder), rounds=asked.rounds, hospitals=asked.hospitals, seed=asked.seed,
            chance=asked.chance,
        )  # fmt: skip
    out.print_json(json.dumps(vars(found)))
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
