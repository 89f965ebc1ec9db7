"""One row of the attack table, and the rules by which every row is run.

Each row starts from one of a few honest moments (a *stage*), tampers with exactly one thing and
says where that must be caught, as which error, and exactly which records it may leave on the
chain and in the run folder. Two honest reruns frame it. The *control*, once a stage: the same
moment, untampered, ends with every hospital accepted, so the tampering alone made the difference.
And in the *same world*, for rows that could do lasting harm (``lasting``; for all rows when
``THORACLE_ATTACK_RERUNS=all``): after the attack every process restarts and a further honest round
is played, in which every hospital, the attacker's too, is accepted and attests.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ledger.errors import ThoracleError, by_code, by_name
from ledger.statement import Outcome
from server.results import RoundResult
from tests.attacks.stages import Stages
from tests.world import World

CONTENT = ("models", "sums", "evidence", "configs", "evidence/decisions")
"""Folders whose files are named by content (or written once a round)."""

REFUSED: Mapping[str, int] = {"Committed": 1, "Proposed": 1, "Attested": 2, "Finalised": 1}
"""From stage ``two``: the third hospital commits, is refused, and the round goes on."""
ACCEPTED: Mapping[str, int] = {"Committed": 1, "Proposed": 1, "Attested": 3, "Finalised": 1}
"""From stage ``two``: the third hospital commits and is accepted."""
FILES: Mapping[str, int] = {"models": 1, "sums": 1, "evidence": 1, "evidence/decisions": 1}
"""What a round leaves in the run folder from stage ``two`` on."""
CLOSED: Mapping[str, int] = {"Proposed": 1, "Attested": 3, "Finalised": 1}
"""From stage ``all``: the rest of an honest round."""
CLOSED_FILES: Mapping[str, int] = {"models": 1, "sums": 1, "evidence/decisions": 1}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row.

    Attributes:
        name: the field's name of the attack or fault.
        room: which part of the catalogue it belongs to.
        tampers: the one thing that is tampered with.
        caught: who catches it; empty where nothing is to be caught.
        error: the exact class; None where there is none.
        stage: the honest moment it starts from (see ``tests.attacks.stages``).
        play: the attack.
        records: events it leaves on the chain, by name (heads aside).
        files: new files it leaves in the run folder, by folder.
        lasting: whether the honest rerun is also played in the attacked world.
    """

    name: str
    room: str
    tampers: str
    caught: str
    error: type[ThoracleError] | None
    stage: str
    play: Callable[[Scene], None]
    records: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
    lasting: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass
class Scene:
    """What a row has in hand while it plays.

    Attributes:
        world: the federation, at the row's stage.
        folder: an empty folder of its own.
        caught: where something was caught, and as what.
    """

    world: World
    folder: Path
    caught: list[tuple[str, type[ThoracleError]]] = field(default_factory=list)

    @contextmanager
    def caught_by(self, where: str) -> Iterator[None]:
        """Expect a deliberate error inside, and note who raised it."""
        try:
            yield
        except ThoracleError as error:
            self.caught.append((where, type(error)))
            self.sentence = str(error)
        else:
            raise AssertionError(f"the {where} let it pass")

    def reasons(self) -> dict[int, str]:
        """Return the recorded reason of every refused hospital of the last round, by seat."""
        record = self.world.store.get_decisions(self.world.ledger.round().number) or {}
        decisions = record["decisions"]
        assert isinstance(decisions, list)
        seats = [str(signer.address) for signer in self.world.accounts]
        return {
            seats.index(str(item["hospital"])): str(item["reason"])
            for item in decisions
            if not item["accepted"]
        }

    def refused(self, seat: int) -> None:
        """Note the reason for which the coordinator refused a hospital, on disk and on chain."""
        kind = by_name(self.reasons()[seat])
        assert kind is not None
        number = self.world.ledger.round().number
        proposal = self.world.ledger.proposal(number)
        committed = str(self.world.accounts[seat].address) in self.world.ledger.commits(number)
        if proposal is not None and committed:
            assert proposal.reasons == {seat: kind.code}
            assert by_code(proposal.reasons[seat]) is kind
        self.caught.append(("coordinator", kind))

    def dissented(self, *seats: int) -> None:
        """Note the code with which hospitals dissented: each of ``seats``, and nobody else."""
        answers = self.world.ledger.answers(self.world.ledger.round().number)
        against = {a.hospital: a.code for a in answers.values() if a.kind == "dissented"}
        assert set(against) == {str(self.world.accounts[seat].address) for seat in seats}
        (code,) = set(against.values())
        self.caught.append(("hospital", by_code(code)))

    def finish(
        self, outcome: Outcome = Outcome.SUM_VERIFIED, seats: Iterable[int] = (0, 1)
    ) -> RoundResult:
        """End the round, with ``seats`` attesting, and check how it ended."""
        result = self.world.conclude(seats)
        assert result.outcome is outcome
        return result


@dataclass(frozen=True)
class Trace:
    """What chain and run folder hold: counted events, and files by folder with their bytes."""

    events: Counter[str]
    files: dict[str, dict[str, bytes]]

    @classmethod
    def of(cls, world: World) -> Trace:
        """Look at a world."""
        events = Counter(e.name for e in world.ledger.events() if e.name != "HeadAdvanced")
        files = {
            part: {p.name: p.read_bytes() for p in (world.run / part).glob("*") if p.is_file()}
            for part in CONTENT
        }
        return cls(events, files)

    def since(self, before: Trace) -> tuple[dict[str, int], dict[str, int]]:
        """Return new events and new files by folder; no old file may have changed."""
        for part, old in before.files.items():
            for name, data in old.items():
                assert self.files[part].get(name) == data, f"{part}/{name} was changed"
        events = dict(self.events - before.events)
        assert not before.events - self.events, "the chain lost events"
        new = {part: len(set(self.files[part]) - set(before.files[part])) for part in CONTENT}
        return events, {part: count for part, count in new.items() if count}


def run_case(case: Case, stages: Stages, folder: Path) -> None:
    """Run one row by the rules of the module's docstring (``AssertionError`` if it fails)."""
    folder.mkdir(parents=True)
    scene = Scene(stages.world(case.stage), folder)
    before = Trace.of(scene.world)
    case.play(scene)
    expected = [(case.caught, case.error)] if case.error else []
    assert scene.caught == expected, f"caught {scene.caught}, expected {expected}"
    events, files = Trace.of(scene.world).since(before)
    assert events == dict(case.records), f"left {events} on the chain"
    assert files == dict(case.files), f"left {files} in the run folder"
    if case.lasting or os.environ.get("THORACLE_ATTACK_RERUNS") == "all":
        honest_rerun(scene.world)
    stages.control(case.stage)


def honest_rerun(world: World) -> None:
    """Play an honest round in which every hospital takes part and attests."""
    world.restart()
    world.clear()
    result = world.play()
    assert result.outcome is Outcome.SUM_VERIFIED
    assert len(result.accepted) == len(world.hospitals)
    assert not result.refused
