"""Plays runs that are stopped, takes them up, and compares them with an undisturbed one."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ledger.steps import watched
from tests.faults.injector import Killed, Recorder, Step, Stop, StopEverywhere, StopOnce, modes
from tests.faults.world import FaultWorld, Outcome, clean_up
from tests.world import Mark

T = TypeVar("T")
ROUNDS = 2


@dataclass
class Reference:
    """The undisturbed run: its steps and its outcome, round by round.

    Attributes:
        world: one federation, rewound again and again.
        marks: the moment before each round.
        steps: of each round.
        outcomes: after each round.
    """

    world: FaultWorld
    marks: list[Mark]
    steps: list[list[Step]]
    outcomes: list[Outcome]

    @classmethod
    def play(cls, folder: Path) -> Reference:
        """Deploy a federation and play its rounds, listening."""
        world = FaultWorld(folder / "world")
        found = cls(world=world, marks=[world.snapshot()], steps=[], outcomes=[])
        for number in range(1, ROUNDS + 1):
            recorder = Recorder(world.folder, parties(world))
            with watched(recorder):
                world.take_up(number)
            found.steps.append(recorder.steps)
            found.outcomes.append(Outcome.of(world))
            found.marks.append(world.snapshot())
        return found

    def stops(self) -> list[tuple[int, Stop]]:
        """Return every place where a run can be stopped, with its round."""
        return [
            (number, Stop(step, mode))
            for number, steps in enumerate(self.steps, start=1)
            for step in steps
            for mode in modes(step)
        ]


def parties(world: FaultWorld) -> dict[str, str]:
    """Return the folder of everybody who signs, by address."""
    named = {str(signer.address): f"hospitals/{i}" for i, signer in enumerate(world.accounts)}
    return {**named, str(world.boss.address): "run"}


def stopped_once(reference: Reference, number: int, stop: Stop) -> list[str]:
    """Stop a round once, take it up, end it; return what differs from the undisturbed run."""
    world = reference.world
    world.restore(reference.marks[number - 1])
    world.trained.clear()
    watcher = StopOnce(world.folder, parties(world), stop=stop)
    with watched(watcher):
        try:
            world.take_up(number)
        except Killed:
            world.restart()
            world.take_up(number)
    if not watcher.stopped:
        return ["the run never came there"]
    limit = 1 + _before_spool(stop)
    found = [f"{who} trained {n} times" for who, n in world.trained.items() if n > limit]
    clean_up(world)
    return found + reference.outcomes[number - 1].differences(Outcome.of(world))


def _before_spool(stop: Stop) -> int:
    """Return 1 where a training may lawfully be repeated: its result was not yet on the disk."""
    return int(stop.step.seat is not None)


def stopped_everywhere(
    reference: Reference, number: int, chosen: Callable[[Step], Collection[str]] = modes
) -> tuple[StopEverywhere, list[str]]:
    """Stop a round at each of its steps, one after another, in one run that is taken up each time.

    A hospital that is killed starts again and is asked again; with the coordinator, everything
    starts again. Returns the watcher, and what differs from the undisturbed run.
    """
    world = reference.world
    world.restore(reference.marks[number - 1])
    world.trained.clear()
    watcher = StopEverywhere(world.folder, parties(world), chosen=chosen)
    with watched(watcher):
        while True:
            try:
                _stubborn(world, number)
                break
            except Killed:
                _until_alive(world.restart)
    clean_up(world)
    return watcher, reference.outcomes[number - 1].differences(Outcome.of(world))


def _until_alive(step: Callable[[], T]) -> T:
    """Repeat what a restart itself does, for as long as it is killed."""
    while True:
        try:
            return step()
        except Killed:
            continue


def _stubborn(world: FaultWorld, number: int) -> None:
    """Take a round up; a killed hospital starts again, a killed coordinator ends this."""
    for seat in range(len(world.hospitals)):
        world.hospitals[seat] = Undying(world, seat)  # type: ignore[call-overload]
    world.take_up(number)


class Undying:
    """A hospital that is started again and asked again whenever it is killed."""

    def __init__(self, world: FaultWorld, seat: int) -> None:
        self._world, self._seat = world, seat
        self._hospital = world.hospitals[seat]

    def train(self, order: object) -> object:
        """As ``Hospital.train``."""
        return self._ask("train", order)

    def attest(self, order: object) -> object:
        """As ``Hospital.attest``."""
        return self._ask("attest", order)

    def _ask(self, name: str, order: object) -> object:
        while True:
            try:
                return getattr(self._hospital, name)(order)
            except Killed:
                self._hospital = _until_alive(lambda: self._world.make_hospital(self._seat))
