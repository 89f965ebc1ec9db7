"""crash_between_each_step: wherever a process ends, the run goes on as if it had not.

The list of steps comes from the code: an undisturbed run is listened to (``ledger.steps``), and
``test_steps`` refuses any file written past the primitives that announce themselves. In every test
run one round is stopped at *each* of its steps, in one of the step's modes (which, changes with
the week), and some places are tried alone. ``make faults`` tries every step in every mode alone.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ledger.audit import audit
from tests.attacks.auditing import facts_of
from tests.faults.injector import Step, modes
from tests.faults.play import ROUNDS, Reference, stopped_everywhere, stopped_once
from tests.faults.world import comparable

SEED = os.environ.get("THORACLE_FAULT_SEED") or datetime.now(UTC).strftime("%G-W%V")
ALONE = int(os.environ.get("THORACLE_FAULTS", "4"))
"""How many places are tried alone; ``make faults`` says 0, for all of them."""


@pytest.fixture(scope="module")
def reference() -> Iterator[Reference]:
    memory = Path("/dev/shm")  # noqa: S108 - thousands of fsyncs, nothing secret
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    with comparable():
        played = Reference.play(folder)
        yield played
        played.world.close()
    shutil.rmtree(folder)


def this_week(step: Step) -> tuple[str]:
    """Return one of a step's modes: by the seed, so that all are tried within some weeks."""
    choice = modes(step)
    return (choice[zlib.crc32(f"{SEED}/{step.label}".encode()) % len(choice)],)


@pytest.mark.timeout(600)
def test_crash_between_each_step(reference: Reference) -> None:
    """Stopped at every step, one after another, and taken up each time: the same to the byte."""
    watcher, differences = stopped_everywhere(reference, ROUNDS, this_week)
    assert not differences, f"with THORACLE_FAULT_SEED={SEED}: {differences}"
    assert all(count <= 1 + len(watcher.done) for count in reference.world.trained.values())
    missed = {
        (step.kind, step.what, mode)
        for step in reference.steps[ROUNDS - 1]
        for mode in this_week(step)
        if step.kind != "broadcast"  # stopped after journalling, the restart sends it instead
    } - watcher.done
    assert not missed, "the run ended without coming to every step"
    assert {kind for kind, _, _ in watcher.done} >= {"write", "append", "record", "remove"}
    report = audit(facts_of(reference.world))
    assert report.clean, report.failures
    assert report.reached == ("chain", "models", "replay")


@pytest.mark.timeout(7200)
def test_each_alone(reference: Reference) -> None:
    """Stopped once: no other stop can hide, or heal, what this one does."""
    places = reference.stops()
    random.Random(SEED).shuffle(places)
    places = places[: ALONE or len(places)]
    broken = {
        f"round {number}: {stop}": found
        for number, stop in places
        if (found := stopped_once(reference, number, stop))
    }
    assert not broken, f"{len(broken)} of {len(places)} places: {broken}"


def test_the_injector_can_fail(reference: Reference) -> None:
    """An outcome that differs in one file is told apart: the comparison is not empty."""
    outcome = reference.outcomes[-1]
    name = next(name for name in outcome.files if name.startswith("run/sums/"))
    other = type(outcome)(**{**vars(outcome), "files": {**outcome.files, name: "0" * 64}})
    assert outcome.differences(other) == [name]
    kinds = {step.kind for steps in reference.steps for step in steps}
    assert kinds == {"write", "rename", "append", "record", "remove", "broadcast"}
    who = {step.seat for steps in reference.steps for step in steps}
    assert who == {None, 0, 1}
