"""The honest moments that attacks start from: one federation, deployed once, rewound to each.

fresh       everybody is registered; no round yet
idle        one round is final; none is live
open        round 2 is open; nobody has committed
two         hospitals 0 and 1 have committed and submitted; hospital 2 has not
all         all three have
proposed    the sum is on the chain, S can be served; nobody has answered
attested    all three have attested; nobody has finalised
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ledger.statement import Outcome, Unit
from tests.world import PHASED, PRIVACY, Mark, Setting, World

SETTINGS: Mapping[str, Setting] = {
    "plain": Setting(),
    "private": Setting(
        plan=replace(Setting().plan, privacy=PRIVACY),
        unit=Unit.PATIENT,
    ),
    "phased": PHASED,
}


class Stages:
    """All stages of all federations, each built when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines: dict[str, Line] = {}

    def _line(self, stage: str) -> tuple[Line, str]:
        setting, _, name = stage.rpartition("/")
        setting = setting or "plain"
        if setting not in self._lines:
            self._lines[setting] = Line(self._folder / setting, SETTINGS[setting])
        return self._lines[setting], name

    def world(self, stage: str) -> World:
        """Return the federation at a stage, whatever was done to it before."""
        line, name = self._line(stage)
        return line.world(name)

    def control(self, stage: str) -> None:
        """Play a stage to its honest end, once: every hospital is accepted and attests."""
        line, name = self._line(stage)
        line.control(name)


class Line:
    """The stages of one federation: built once, rewound to."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        self._world = World(folder / "world", setting)
        self._marks: dict[str, Mark] = {}
        self._controlled: set[str] = set()
        self._steps: dict[str, Callable[[], object]] = {
            "fresh": lambda: None,
            "idle": self._world.play,
            "open": lambda: self._world.coordinator.open_round(),
            "two": lambda: self._submit(0, 1),
            "all": lambda: self._submit(2),
            "proposed": self._propose,
            "attested": lambda: self._world.attest(self._world.coordinator.serve()),
        }

    def _submit(self, *seats: int) -> None:
        self._world.submit(self._world.train(self._world.coordinator.order(), seats))

    def _propose(self) -> None:
        self._world.coordinator.close()
        self._world.coordinator.propose()

    def world(self, stage: str) -> World:
        """Return the federation at a stage, whatever was done to it before."""
        if stage not in self._marks:
            self._build(stage)
        self._world.restore(self._marks[stage])
        return self._world

    def control(self, stage: str) -> None:
        """Play a stage to its honest end, once: every hospital is accepted and attests."""
        if stage in self._controlled:
            return
        world = self.world(stage)
        names = list(self._steps)
        if stage in ("fresh", "idle"):
            result = world.play()
        else:
            for name in names[names.index(stage) + 1 :]:
                self._steps[name]()
            result = world.coordinator.finish()
        assert result.outcome is Outcome.SUM_VERIFIED
        assert len(result.accepted) == len(world.hospitals)
        assert not result.refused
        self._controlled.add(stage)

    def _build(self, stage: str) -> None:
        names = list(self._steps)
        done = [name for name in names if name in self._marks]
        if done:
            self._world.restore(self._marks[done[-1]])
        for name in names[len(done) : names.index(stage) + 1]:
            self._steps[name]()
            self._marks[name] = self._world.snapshot()
