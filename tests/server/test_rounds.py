"""The coordinator over the in-memory federation: any order, any restart, any failure."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest

from ledger.errors import (
    CommitWindowClosed,
    EvidenceMismatch,
    LedgerUnavailable,
    RoundClosed,
    WrongPhase,
)
from ledger.messages import TrainReply
from ledger.statement import Outcome
from tests.attacks.stages import Stages
from tests.world import World


@pytest.fixture(scope="module")
def stages() -> Iterator[Stages]:
    memory = Path("/dev/shm")  # noqa: S108 - many fsyncs, nothing secret
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield Stages(folder)
    shutil.rmtree(folder)


def test_reply_order_cannot_matter(stages: Stages) -> None:
    digests = set()
    for order in permutations(range(3)):
        world = stages.world("open")
        world.submit(world.train(world.coordinator.order(), order))
        world.coordinator.close()
        proposal = world.coordinator.propose()
        assert proposal is not None
        digests.add((proposal.sum_digest, proposal.model_digest))
    assert len(digests) == 1


def test_a_restart_after_every_step_changes_nothing(stages: Stages) -> None:
    undisturbed = stages.world("idle").play()
    world = stages.world("idle")
    world.coordinator.open_round()
    world.restart()
    order = world.coordinator.open_round()  # taken up, not opened again
    for seat in range(3):
        world.submit(world.train(order, (seat,)))
        world.restart()
    world.coordinator.close()
    world.restart()
    assert world.coordinator.propose() is not None
    world.restart()
    assert world.coordinator.propose() is not None
    world.attest(world.coordinator.serve())
    world.restart()
    first = world.coordinator.finish()
    world.restart()
    again = world.coordinator.finish()
    assert first.model == again.model == undisturbed.model
    assert first.row() == again.row()
    assert first.outcome is Outcome.SUM_VERIFIED
    assert len(world.store.read_metrics()) == 2


def test_a_proposal_that_was_sent_but_not_seen_is_taken_up(stages: Stages) -> None:
    world = stages.world("all")

    def deaf(method: str) -> None:
        if method == "eth_getTransactionReceipt":
            raise ConnectionError("the answer is lost")

    world.coordinator.close()
    world.ledger._transport.patience = type(world.ledger._transport.patience)(outage=0.2)
    world.node.fault = deaf
    with pytest.raises(LedgerUnavailable):
        world.coordinator.propose()
    world.node.fault = lambda _: None
    world.restart()
    assert world.conclude().outcome is Outcome.SUM_VERIFIED
    events = [event.name for event in world.ledger.events() if event.args.get("round") == 2]
    assert events.count("Proposed") == 1


def test_a_failed_hospital_does_not_hold_up_the_round(stages: Stages) -> None:
    world = stages.world("two")
    deadline = world.ledger.round().commit_deadline
    world.coordinator.note_failure("node 7", "HospitalFailed")
    result = world.conclude((0, 1))
    assert result.outcome is Outcome.SUM_VERIFIED
    assert result.failed == {"node 7": "HospitalFailed"}
    assert len(result.accepted) == 2
    assert world.chain.time() < deadline


def test_a_late_hospital_is_waited_for_until_the_deadline(stages: Stages) -> None:
    world = stages.world("two")
    deadline = world.ledger.round().commit_deadline
    world.coordinator.close()
    assert world.chain.clock() >= deadline


def test_nobody_commits(stages: Stages) -> None:
    world = stages.world("open")
    base = world.ledger.model()
    result = world.conclude()
    assert (result.outcome, result.model) == (Outcome.ABORTED, base)
    assert result.accepted == ()


def test_a_reply_after_the_decision_is_too_late(stages: Stages) -> None:
    world = stages.world("proposed")
    committed = world.ledger.commits(2)[world.accounts[0].address]
    late = world.store.evidence.get(committed.seal_digest)
    with pytest.raises(CommitWindowClosed):
        world.coordinator.receive(
            TrainReply(hospital=committed.hospital, round=2, ciphertext=late, metrics={})
        )


def test_steps_out_of_order_are_refused(stages: Stages) -> None:
    world = stages.world("idle")
    with pytest.raises(RoundClosed):
        world.coordinator.order()
    with pytest.raises(RoundClosed):
        world.coordinator.serve()
    world = stages.world("two")
    with pytest.raises(WrongPhase):
        world.coordinator.serve()
    with pytest.raises(WrongPhase):
        world.coordinator.finish()
    world = stages.world("proposed")
    with pytest.raises(WrongPhase):
        world.coordinator.open_round()


def test_edited_evidence_is_not_summed(stages: Stages) -> None:
    world = stages.world("all")
    commit = world.ledger.commits(2)[world.accounts[0].address]
    path = world.store.evidence.path(commit.seal_digest)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    world.coordinator.close()
    with pytest.raises(EvidenceMismatch):
        world.coordinator.propose()


def test_the_result_says_what_the_chain_says(stages: Stages) -> None:
    world: World = stages.world("attested")
    result = world.coordinator.finish()
    proposal = world.ledger.proposal(2)
    assert proposal is not None
    assert result.model == world.ledger.model() == proposal.model_digest
    assert result.weight == proposal.accepted_weight
    assert set(result.gas) == {"open", "commit", "propose", "attest", "finalise"}
    (row,) = [row for row in world.store.read_metrics() if row["round"] == "2"]
    assert row["outcome"] == "SUM_VERIFIED"
    assert row["model"] == result.model.hex()
    assert int(row["gas"]) == result.total_gas > 0
