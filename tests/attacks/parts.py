"""Rows of phases: a round updates one part of the model, and nobody may reach for another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ledger.audit import audit
from ledger.errors import (
    ConfigError,
    EvidenceMismatch,
    ModelDigestMismatch,
    PolicyViolation,
    SpecMismatch,
    SumMismatch,
    ThoracleError,
)
from ledger.manifest import Manifest, Model, encode_tensors
from ledger.statement import Outcome
from server.plan import RoundPlan
from tests.attacks import forge
from tests.attacks.auditing import facts_of, found_by
from tests.attacks.case import FILES, REFUSED, Case, Scene
from tests.attacks.forge import ROGUE, Forgery
from tests.attacks.the_sum import LEFT, attest_by_hand, everybody_dissents

ROOM = "phases"
DISSENTED = {"Proposed": 1, "Dissented": 3, "RoundAborted": 1}
FROZEN = "conv.weight"
"""Does not travel in round 2 of the phased federation."""


def _nudge(model: Model) -> Model:
    """Return a model with one number changed that does not travel."""
    changed = model[FROZEN].copy()
    changed[0, 0] += np.float32(0.25)
    return {**model, FROZEN: changed}


def _frozen(scene: Scene) -> None:
    forge.propose(scene.world, edit=_nudge)
    everybody_dissents(scene)


def _frozen_with_all(scene: Scene) -> None:
    """Every hospital attests without looking; the auditor computes the model again."""
    world = scene.world
    forge.propose(world, edit=_nudge)
    attest_by_hand(world, 0, 1, 2)
    assert world.coordinator.finish().outcome is Outcome.SUM_VERIFIED
    found_by(scene, audit(facts_of(world)))


def _other_update(scene: Scene) -> None:
    """An update over the whole model, with room for what does not travel."""
    manifest = scene.world.manifest
    whole = encode_tensors(manifest, np.ones(manifest.size, dtype=np.int16))
    Forgery(scene.world, update=lambda _: whole).submit()
    scene.finish()
    scene.refused(ROGUE)


def _other_sum(scene: Scene) -> None:
    """The same numbers, said to be of the tensor that does not travel."""
    world = scene.world
    spec = next(s for s in world.manifest.tensors if s.name == FROZEN)

    def file(total: np.ndarray) -> bytes:
        return encode_tensors(Manifest((replace(spec, shape=(total.size,)),)), total)

    forge.propose(world, file=file)
    everybody_dissents(scene)


def _plan_saying(said: list[str]) -> type[RoundPlan]:
    """Return a plan that writes this into ``travels``, unchecked."""

    class Reaching(RoundPlan):
        def config(self, manifest: Manifest, number: int) -> dict[str, object]:
            return super().config(manifest, number) | {"travels": said}

    return Reaching


def _malformed(said: list[str]) -> Callable[[Scene], None]:
    """The configuration's list is refused by hospital, coordinator and auditor, each by name."""

    def play(scene: Scene) -> None:
        world = scene.world
        plan = world.setting.plan
        values = {name: getattr(plan, name) for name in plan.__dataclass_fields__}
        coordinator = world.make_coordinator(plan=_plan_saying(said)(**values))
        order = coordinator.open_round()
        with scene.caught_by("hospital"):
            world.hospitals[0].train(order)
        with scene.caught_by("coordinator"):
            coordinator.bench.take_up(order.round)
        world.clear()
        found_by(scene, audit(facts_of(world)))
        where = {"hospital": PolicyViolation, "coordinator": ConfigError}
        assert dict(scene.caught) == {**where, "auditor": EvidenceMismatch}
        scene.caught = scene.caught[:1]

    return play


def _row(
    name: str,
    tampers: str,
    caught: str,
    error: type[ThoracleError],
    play: Callable[[Scene], None],
    records: dict[str, int],
    stage: str = "all",
    files: dict[str, int] = LEFT,
) -> Case:
    return Case(
        name=name,
        room=ROOM,
        tampers=tampers,
        caught=caught,
        error=error,
        stage=f"phased/{stage}",
        play=play,
        records=records,
        files=files,
    )


CASES = (
    _row(
        "frozen_tensor_changed",
        "the proposed model: a number that does not travel in this round",
        "hospital",
        ModelDigestMismatch,
        _frozen,
        DISSENTED,
    ),
    _row(
        "frozen_tensor_changed_by_all",
        "the same, and every hospital attests without looking",
        "auditor",
        ModelDigestMismatch,
        _frozen_with_all,
        {"Proposed": 1, "Attested": 3, "Finalised": 1},
    ),
    _row(
        "update_of_another_part",
        "an update of the whole model, where a part of it travels",
        "coordinator",
        SpecMismatch,
        _other_update,
        dict(REFUSED),
        "two",
        dict(FILES),
    ),
    _row(
        "sum_of_another_part",
        "the sum says that it is of a tensor that does not travel",
        "hospital",
        SumMismatch,
        _other_sum,
        DISSENTED,
    ),
    *(
        _row(
            f"travels_{name}",
            f"the configuration's list of what travels {tampers}",
            "hospital",
            PolicyViolation,
            _malformed(said),
            {"RoundOpened": 1, "RoundAborted": 1},
            "idle",
            {"configs": 1},
        )
        for name, tampers, said in (
            ("unknown", "names a tensor that the model has not", ["head.bias", "zz"]),
            ("unsorted", "is not in order", ["norm", "head.bias"]),
            ("twice", "names a tensor twice", ["norm", "norm"]),
            ("moment", "names one of the server's moments", ["norm", "server_m/norm"]),
        )
    ),
)
