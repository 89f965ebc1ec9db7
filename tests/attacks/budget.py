"""Rows of the privacy budget that need no training: the accountant, the chain and a crash."""

from __future__ import annotations

import contextlib

from client.roles import TrainedUpdate
from ledger.chain import Ledger
from ledger.errors import AccountantRollback, BudgetExhausted, LedgerUnavailable
from ledger.statement import Mechanism
from tests.attacks.case import FILES, Case, Scene
from tests.attacks.forge import ROGUE
from tests.attacks.views import ONE_COMMIT
from tests.world import TinyTrainer, World

ROOM = "privacy"


def _never(*_: object) -> TrainedUpdate:
    raise AssertionError("it trained")


def _exhausted(scene: Scene) -> None:
    world = scene.world
    world.ledger.lower_cap(world.accounts[ROGUE], world.ledger.member(_rogue(world)).spent + 10)
    hospital = world.make_hospital(ROGUE, trainer=_never)
    with scene.caught_by("hospital"):
        hospital.train(world.coordinator.open_round())


def _rogue(world: World) -> str:
    return str(world.accounts[ROGUE].address)


def _rolled_back(scene: Scene) -> None:
    """The accountant's file is lost, or an old backup of it: the chain remembers."""
    world = scene.world
    (world.folder / "hospitals" / str(ROGUE) / "accountant.sqlite").unlink()
    hospital = world.make_hospital(ROGUE, trainer=_never)
    with scene.caught_by("hospital"):
        hospital.train(world.coordinator.open_round())


class _Dying(Ledger):
    """A view through which nothing can be committed any more."""

    def commit(self, *_: object, **__: object) -> object:  # type: ignore[override]
        raise LedgerUnavailable("the machine went down here")


def _crash(scene: Scene) -> None:
    """The machine dies between training and commit: the update is resent, nothing is recharged."""
    world = scene.world
    order = world.coordinator.order()
    trained: list[int] = []

    def counting(*args: object) -> TrainedUpdate:
        trained.append(1)
        return TinyTrainer("hospital 2")(*args)  # type: ignore[arg-type]

    dying = _Dying(world.chain.web3, world.ledger.anchors)
    with contextlib.suppress(LedgerUnavailable):
        world.make_hospital(ROGUE, trainer=counting, ledger=dying).train(order)
    charged = _charges(world)
    reply = world.make_hospital(ROGUE, trainer=_never).train(order)
    assert trained == [1]
    assert _charges(world) == charged
    assert world.ledger.member(_rogue(world)).spent == charged[2].epsilon
    world.coordinator.receive(reply)
    assert len(scene.finish(seats=(0, 1, 2)).accepted) == 3


def _charges(world: World) -> dict[int, Mechanism]:
    from client.accountant import Accountant

    path = world.folder / "hospitals" / str(ROGUE) / "accountant.sqlite"
    return Accountant(path).charges()


CASES = (
    Case(
        name="budget_exhausted",
        room=ROOM,
        tampers="a round would go past the hospital's cap",
        caught="hospital",
        error=BudgetExhausted,
        stage="private/idle",
        play=_exhausted,
        records={"CapLowered": 1, "RoundOpened": 1},
        files={"configs": 1},
    ),
    Case(
        name="accountant_rolled_back",
        room=ROOM,
        tampers="the accountant's file is lost: the chain records more than it knows",
        caught="hospital",
        error=AccountantRollback,
        stage="private/idle",
        play=_rolled_back,
        records={"RoundOpened": 1},
        files={"configs": 1},
    ),
    Case(
        name="crash_after_training",
        room=ROOM,
        tampers="the machine dies between training and commit",
        caught="",
        error=None,
        stage="private/two",
        play=_crash,
        records=ONE_COMMIT,
        files=FILES,
        lasting=True,
    ),
)
