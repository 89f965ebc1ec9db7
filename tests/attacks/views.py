"""Rows of the chain as parties see it, and of a hospital that protects itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from web3 import HTTPProvider, Web3

from ledger.chain import Ledger
from ledger.chain_rpc import Patience
from ledger.errors import (
    ClockSkew,
    HeadMismatch,
    LedgerRollback,
    LedgerUnavailable,
    ModelDigestMismatch,
    ModelNotFinal,
    ParentMismatch,
    StaleModel,
    ThoracleError,
    Unconfirmed,
    WrongLedger,
)
from ledger.manifest import encode_model
from ledger.statement import Outcome
from ledger.txlog import TransactionLog
from ledger.witness import compare, read_witness
from tests.attacks.case import CLOSED, CLOSED_FILES, FILES, Case, Scene
from tests.attacks.forge import ROGUE
from tests.world import World, initial_model

CHAIN = "chain"
TRUST = "hospital trust"
CODE_OF_ONE_BYTE = bytes.fromhex("60016000526001601ff3")
"""Deploys the contract whose code is the one byte 01."""


def _row(
    name: str,
    room: str,
    tampers: str,
    error: type[ThoracleError] | None,
    play: Callable[[Scene], None],
    **parts: Any,
) -> Case:
    settings: dict[str, Any] = {"caught": "hospital" if error else "", "stage": "open"} | parts
    return Case(name=name, room=room, tampers=tampers, error=error, play=play, **settings)


# ---- what a node shows ----


def _early_read(scene: Scene) -> None:
    world = scene.world
    careful = Ledger(world.chain.web3, world.ledger.anchors, confirmations=3)
    with scene.caught_by("hospital"):
        careful.opening(2)


def _reorganised(scene: Scene) -> None:
    """The node forgets a record that a hospital has already seen."""
    world = scene.world
    before = world.chain.snapshot()
    world.hospitals[0].train(world.coordinator.open_round())
    world.chain.revert(before)
    world.restart()
    order = replace(_last_order(world), round=2)
    with scene.caught_by("hospital"):
        world.hospitals[0].train(order)


def _last_order(world: World) -> Any:
    """Return an order whose round the rewound chain no longer has."""
    from ledger.messages import TrainOrder

    stored = world.store.get_config(world.ledger.opening(1).config_digest)
    return TrainOrder(
        round=2,
        base_model_bytes=world.store.models.get(world.ledger.model()),
        config=stored,
        public_keys=(world.key.public,),
        key_epoch=1,
    )


def _split_view(scene: Scene) -> None:
    """Two hospitals are shown two histories; their witness files name the first difference."""
    world = scene.world
    before = world.chain.snapshot()
    world.hospitals[0].train(world.coordinator.open_round())
    world.chain.revert(before)
    world.restart()
    other = replace(world.setting.plan, attest_window=601)
    world.coordinator = world.make_coordinator(plan=other)
    order = world.coordinator.open_round()
    world.hospitals[1].train(order)
    with scene.caught_by("hospital"):
        world.hospitals[0].train(order)
    first, second = (
        read_witness(world.folder / "hospitals" / str(seat) / "witness.json") for seat in (0, 1)
    )
    assert compare(first, second).split == world.ledger.sequence()


def _anchors(**changes: Any) -> Callable[[Scene], None]:
    def play(scene: Scene) -> None:
        world = scene.world
        with scene.caught_by("hospital"):
            Ledger.attach(world.chain.web3, replace(world.ledger.anchors, **changes))

    return play


def _wrong_bytecode(scene: Scene) -> None:
    world = scene.world
    _, receipt = world.ledger._sender.send(world.boss, CODE_OF_ONE_BYTE, None)
    contract = receipt["contractAddress"]
    assert contract is not None
    with scene.caught_by("hospital"):
        Ledger.attach(world.chain.web3, replace(world.ledger.anchors, contract=contract))


def _node_down(scene: Scene) -> None:
    world = scene.world
    dead = Ledger(
        Web3(HTTPProvider("http://127.0.0.1:9")),
        world.ledger.anchors,
        patience=Patience(outage=0.2),
    )
    hospital = world.make_hospital(0, ledger=dead)
    with scene.caught_by("hospital"):
        hospital.train(world.coordinator.order())


def _time_warp(scene: Scene) -> None:
    world = scene.world
    now = world.chain.clock()
    world.chain.travel(500)
    hospital = world.make_hospital(0, clock=lambda: now)
    with scene.caught_by("hospital"):
        hospital.train(world.coordinator.order())


# ---- receipts that are lost ----


@contextmanager
def _no_receipts(world: World) -> Iterator[None]:
    """The node mines what it is sent, but its answers about receipts are lost."""

    def deaf(method: str) -> None:
        if method == "eth_getTransactionReceipt":
            raise ConnectionError("the answer is lost")

    honest, world.node.fault = world.node.fault, deaf
    try:
        yield
    finally:
        world.node.fault = honest


@contextmanager
def _journalled(world: World) -> Iterator[Ledger]:
    """Open the rogue seat's own view, with its journal of signed transactions."""
    home = world.folder / "hospitals" / str(ROGUE)
    home.mkdir(parents=True, exist_ok=True)
    log = TransactionLog(home / "transactions.jsonl")
    patience = Patience(outage=0.3)
    yield Ledger(world.chain.web3, world.ledger.anchors, journal=log, patience=patience)
    log.close()


def _receipt_lost(scene: Scene) -> None:
    """The commit is mined, its receipt is lost, the hospital starts again."""
    world = scene.world
    order = world.coordinator.order()
    stopped = False
    with _no_receipts(world), _journalled(world) as ledger:
        try:
            world.make_hospital(ROGUE, ledger=ledger).train(order)
        except LedgerUnavailable:
            stopped = True
    assert stopped, "it went on without a receipt"
    with _journalled(world) as ledger:
        ledger.recover()
        reply = world.make_hospital(ROGUE, ledger=ledger).train(order)
    _ends_with_one_commit(scene, reply)


def _receipt_forgotten(scene: Scene) -> None:
    """The commit's receipt was seen; then the node died and lost its last block."""
    world = scene.world
    order = world.coordinator.order()
    before = world.chain.snapshot()
    with _journalled(world) as ledger:
        reply = world.make_hospital(ROGUE, ledger=ledger).train(order)
    world.chain.revert(before)
    world.restart()
    assert world.accounts[ROGUE].address not in world.ledger.commits(2)
    with _journalled(world) as ledger:
        assert ledger.recover() == 1
        again = world.make_hospital(ROGUE, ledger=ledger).train(order)
    assert again == reply
    _ends_with_one_commit(scene, again)


def _ends_with_one_commit(scene: Scene, reply: Any) -> None:
    world = scene.world
    world.restart()
    sent = [
        event
        for event in world.ledger.events()
        if event.name == "Committed"
        and event.args["round"] == 2
        and event.args["hospital"] == world.accounts[ROGUE].address
    ]
    assert len(sent) == 1
    assert world.ledger.round().open_head == world.ledger.head()
    world.coordinator.receive(reply)
    assert len(scene.finish(seats=(0, 1, 2)).accepted) == 3


# ---- a hospital protecting itself ----


def _unfinalised(scene: Scene) -> None:
    """The next round's order carries a model that was proposed and never became final."""
    world = scene.world
    proposal = world.ledger.proposal(2)
    assert proposal is not None
    world.ledger.dissent(world.accounts[ROGUE], 2, 40)
    assert world.coordinator.finish().outcome is Outcome.ABORTED
    order = world.coordinator.open_round()
    false = world.store.models.get(proposal.model_digest)
    with scene.caught_by("hospital"):
        world.hospitals[0].train(replace(order, base_model_bytes=false))


def _other_model() -> bytes:
    model = initial_model()
    return encode_model({name: np.flip(array).copy() for name, array in model.items()})


def _equivocation(scene: Scene) -> None:
    """Two hospitals are sent two base models; one of them is not the chain's."""
    world = scene.world
    order = world.coordinator.order()
    world.hospitals[0].train(order)
    with scene.caught_by("hospital"):
        world.hospitals[1].train(replace(order, base_model_bytes=_other_model()))


def _frozen(scene: Scene) -> None:
    world = scene.world
    order = world.coordinator.order()
    old = world.store.models.get(world.ledger.rules().initial_model)
    with scene.caught_by("hospital"):
        world.hospitals[0].train(replace(order, base_model_bytes=old))


def _malicious_start(scene: Scene) -> None:
    world = scene.world
    order = world.coordinator.open_round()
    with scene.caught_by("hospital"):
        world.hospitals[0].train(replace(order, base_model_bytes=_other_model()))


ONE_COMMIT = {**CLOSED, "Committed": 1}

CASES = (
    _row(
        "read_before_confirmations",
        CHAIN,
        "a record younger than the asked confirmations is read",
        Unconfirmed,
        _early_read,
    ),
    _row(
        "reorg_past_highwater",
        CHAIN,
        "the chain falls back behind what a hospital has seen",
        LedgerRollback,
        _reorganised,
        stage="idle",
        files={"configs": 1},
    ),
    _row(
        "split_view",
        CHAIN,
        "two hospitals are shown two chains",
        HeadMismatch,
        _split_view,
        stage="idle",
        records={"RoundOpened": 1, "Committed": 1},
        files={"configs": 1},
    ),
    _row(
        "wrong_chain",
        CHAIN,
        "the node is of another chain",
        WrongLedger,
        _anchors(chain_id=1),
    ),
    _row("wrong_bytecode", CHAIN, "the contract's code is another", WrongLedger, _wrong_bytecode),
    _row(
        "wrong_federation",
        CHAIN,
        "the contract is another federation's",
        WrongLedger,
        _anchors(federation_id=bytes(31) + b"\1"),
    ),
    _row("node_down", CHAIN, "the node is down", LedgerUnavailable, _node_down),
    _row(
        "receipt_lost_but_persisted",
        CHAIN,
        "a mined commit's receipt never arrives",
        None,
        _receipt_lost,
        stage="two",
        records=ONE_COMMIT,
        files=FILES,
        lasting=True,
    ),
    _row(
        "receipt_seen_then_lost",
        CHAIN,
        "the node loses the block of a commit it confirmed",
        None,
        _receipt_forgotten,
        stage="two",
        records=ONE_COMMIT,
        files={**CLOSED_FILES, "evidence": 1},
        lasting=True,
    ),
    _row("time_warp", CHAIN, "the chain's clock runs ahead", ClockSkew, _time_warp),
    _row(
        "unfinalised_model",
        TRUST,
        "the base was proposed, but never became final",
        ModelNotFinal,
        _unfinalised,
        stage="proposed",
        records={"Dissented": 1, "RoundAborted": 1, "RoundOpened": 1},
        files={"configs": 1},
        lasting=True,
    ),
    _row(
        "equivocation",
        TRUST,
        "two hospitals are sent two base models",
        ModelDigestMismatch,
        _equivocation,
        records={"Committed": 1},
    ),
    _row("frozen_old_model", TRUST, "the base is an older final model", StaleModel, _frozen),
    _row(
        "malicious_initial_model",
        TRUST,
        "the first round starts from another model",
        ParentMismatch,
        _malicious_start,
        stage="fresh",
        records={"RoundOpened": 1},
        files={"configs": 1},
    ),
)
