"""Records the durable steps of a run, and stops a run at one of them.

A *stop* is a process that ends between two machine instructions: an exception that no handler of
the program catches (a `BaseException`), thrown from the step itself. ``failed`` is just before the
step, ``persisted`` just after it (done, but nobody heard), ``torn`` leaves half of a journal's
line behind. What the operating system loses of writes that were never flushed is not simulated
here; real processes are killed in ``tests/e2e`` and ``tests/ledger/test_node.py``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from ledger.steps import Kind, Phase

HALF_A_LINE = b'{"hash":"0x12'
_PARTY = re.compile(r"hospitals/(\d+)/")
_DIGEST = re.compile(r"(0x)?[0-9a-fA-F]{40,64}")


class Killed(BaseException):
    """The process ends here."""


@dataclass(frozen=True, order=True)
class Step:
    """One durable step of a run: what is done, to what, and for which time in that run."""

    kind: str
    what: str
    time: int

    @property
    def seat(self) -> int | None:
        """The hospital that takes it, None for the coordinator."""
        found = _PARTY.search(self.what)
        return int(found[1]) if found else None

    @property
    def label(self) -> str:
        """A short name: digests and addresses left out."""
        return f"{self.kind} {_DIGEST.sub('*', self.what)} #{self.time}"


@dataclass(frozen=True, order=True)
class Stop:
    """Where a run is stopped."""

    step: Step
    mode: str

    def __str__(self) -> str:
        return f"{self.step.label} {self.mode}"


@dataclass
class Recorder:
    """Hears of every step, and so lists them; ``parties`` names senders of transactions."""

    root: Path
    parties: dict[str, str]
    steps: list[Step] = field(default_factory=list)
    _seen: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __call__(self, kind: Kind, what: str, phase: Phase, /) -> None:
        """Note a step as it begins."""
        if phase == "before":
            self.steps.append(self.name(kind, what))

    def name(self, kind: Kind, what: str) -> Step:
        """Return the step's name, the same in every run, and count it."""
        plain = what.replace(f"{self.root}/", "")
        for address, party in self.parties.items():
            if plain.startswith(f"{address}/"):
                plain = plain.replace(address, party, 1)
        self._seen[kind, plain] += 1
        return Step(kind, plain, self._seen[kind, plain])


def modes(step: Step) -> tuple[str, ...]:
    """Return how a step can end: a rename is done exactly when its write is."""
    if step.kind == "append":
        return ("failed", "torn", "persisted")
    return ("failed",) if step.kind == "rename" else ("failed", "persisted")


@dataclass
class StopOnce(Recorder):
    """Stops the run the first time it comes to one place."""

    stop: Stop | None = None
    stopped: bool = False
    _under_way: list[Step] = field(default_factory=list)

    def __call__(self, kind: Kind, what: str, phase: Phase, /) -> None:
        """Stop here, or let it pass."""
        if phase == "before":
            step = self.name(kind, what)
            self.steps.append(step)
            self._under_way.append(step)
        else:
            step = self._under_way.pop()
        mode = self.stops(step, phase)
        if mode:
            self.stopped = True
            self._under_way.clear()
            if mode == "torn":
                with Path(what).open("ab") as stream:
                    stream.write(HALF_A_LINE)
            raise Killed(f"{step.label} {mode}")

    def stops(self, step: Step, phase: Phase) -> str:
        """Return how the run ends here, or nothing."""
        if self.stop is None or self.stopped or step != self.stop.step:
            return ""
        at = "after" if self.stop.mode == "persisted" else "before"
        return self.stop.mode if phase == at else ""


@dataclass
class StopEverywhere(StopOnce):
    """Stops the run at every step it comes to, each in turn in every mode that ``chosen`` lets."""

    chosen: Callable[[Step], Collection[str]] = modes
    done: set[tuple[str, str, str]] = field(default_factory=set)

    def stops(self, step: Step, phase: Phase) -> str:
        """Return how the run ends here, or nothing where that was done before."""
        for mode in modes(step):
            key = (step.kind, step.what, mode)
            at = "after" if mode == "persisted" else "before"
            if mode in self.chosen(step) and phase == at and key not in self.done:
                self.done.add(key)
                return mode
        return ""
