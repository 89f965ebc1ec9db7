"""Flower's exchanges over the in-memory federation: real messages, delivered by hand."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from ledger.errors import HospitalFailed, LedgerUnavailable, ThoracleError
from ledger.messages import ProposalOrder, TrainOrder
from ledger.statement import Outcome
from server.results import RoundResult
from server.strategy import ORDER, REPLY, AuditedRounds
from tests.attacks.stages import Stages
from tests.world import World


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say who is sending, as Flower's process of the ServerApp does."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


Deliver = Callable[[int, Message], Message | None]


@pytest.fixture(scope="module")
def stages() -> Iterator[Stages]:
    memory = Path("/dev/shm")  # noqa: S108 - many fsyncs, nothing secret
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield Stages(folder)
    shutil.rmtree(folder)


def honest(world: World) -> Deliver:
    """Return what Flower's nodes do: hand the order to the hospital, send back its reply."""

    def deliver(seat: int, message: Message) -> Message:
        record = dict(message.content.config_records[ORDER])
        reply: Any
        try:
            if message.metadata.message_type == "train":
                reply = world.hospitals[seat].train(TrainOrder.from_record(record))
            else:
                reply = world.hospitals[seat].attest(ProposalOrder.from_record(record))
        except ThoracleError as error:
            return Message(Error(code=2, reason=error.name), reply_to=message)
        return Message(
            RecordDict({REPLY: ConfigRecord(cast("Any", reply.to_record()))}), reply_to=message
        )

    return deliver


class HandGrid(Grid):
    """Delivers each message at once; nodes join only when asked for the second time."""

    def __init__(self, deliver: Deliver, nodes: int = 3) -> None:
        self._deliver = deliver
        self._nodes = nodes
        self.asked = 0

    def get_node_ids(self) -> Iterable[int]:
        self.asked += 1
        return [100 + seat for seat in range(self._nodes)] if self.asked > 1 else []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        found = [self._deliver(m.metadata.dst_node_id - 100, m) for m in messages]
        return [message for message in reversed(found) if message is not None]

    def set_run(self, run: object) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError


def play(world: World, deliver: Deliver, rounds: int = 1) -> list[RoundResult]:
    strategy = AuditedRounds(world.coordinator, hospitals=3, joining=2.0)
    strategy.start(HandGrid(deliver), ArrayRecord(), num_rounds=rounds, timeout=1.0)
    return strategy.results


def test_two_rounds(stages: Stages) -> None:
    results = play(world := stages.world("idle"), honest(world), rounds=2)
    assert [result.outcome for result in results] == [Outcome.SUM_VERIFIED] * 2
    assert all(len(result.accepted) == 3 for result in results)
    assert world.ledger.model() == results[-1].model


@pytest.mark.parametrize("stage", ["two", "proposed", "attested"])
def test_a_live_round_is_taken_up(stages: Stages, stage: str) -> None:
    world = stages.world(stage)
    (result,) = play(world, honest(world))
    assert (result.round, result.outcome) == (2, Outcome.SUM_VERIFIED)


@pytest.mark.parametrize("fault", ["error", "silence", "rubbish", "no reply"])
def test_a_failing_hospital_costs_only_its_own_place(stages: Stages, fault: str) -> None:
    world = stages.world("idle")
    good = honest(world)

    def deliver(seat: int, message: Message) -> Message | None:
        if seat != 1:
            return good(seat, message)
        match fault:
            case "error":
                return Message(Error(code=2, reason="DataError"), reply_to=message)
            case "silence":
                return None
            case "rubbish":
                content = RecordDict({REPLY: ConfigRecord({"hospital": "me", "x": b"\0"})})
                return Message(content, reply_to=message)
            case _:
                return Message(RecordDict({}), reply_to=message)

    (result,) = play(world, deliver)
    assert result.outcome is Outcome.SUM_VERIFIED
    assert len(result.accepted) == 2
    assert list(result.failed) == ["101"]


def test_a_hospital_without_the_chain_stops_the_run(stages: Stages) -> None:
    world = stages.world("idle")
    good = honest(world)

    def deliver(seat: int, message: Message) -> Message | None:
        if seat:
            return good(seat, message)
        return Message(Error(code=2, reason="LedgerUnavailable"), reply_to=message)

    with pytest.raises(LedgerUnavailable):
        play(world, deliver)
    assert world.ledger.proposal(2) is None


def test_no_hospital_at_all_is_an_error(stages: Stages) -> None:
    world = stages.world("idle")
    strategy = AuditedRounds(world.coordinator, hospitals=3, joining=0.2)
    grid = HandGrid(lambda *_: None, nodes=0)
    with pytest.raises(HospitalFailed):
        strategy.start(grid, ArrayRecord(), num_rounds=1, timeout=1.0)
    assert world.ledger.round().number == 1, "no round was opened for nobody"
