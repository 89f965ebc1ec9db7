"""The hospital from order to reply, and every way an order can be wrong."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from client.agent import Hospital
from client.guard import Charge
from client.policy import Policy
from ledger.canonical import canonical_json, sha256
from ledger.chain import Ledger
from ledger.errors import (
    AlreadyCommitted,
    AlreadyRegistered,
    BadKey,
    BudgetExhausted,
    CommitWindowClosed,
    LedgerRollback,
    LedgerUnavailable,
    MemberRevoked,
    ModelDigestMismatch,
    ModelNotFinal,
    NonFiniteUpdate,
    NotMember,
    ParentMismatch,
    PolicyError,
    PolicyViolation,
    ProbeMismatch,
    RoundClosed,
    RoundLive,
    RunBusy,
    SpecMismatch,
    StaleModel,
    StandingMismatch,
    SumMismatch,
    ThoracleError,
    WrongPhase,
    WrongRound,
)
from ledger.manifest import encode_model
from ledger.messages import TrainOrder
from ledger.seal import new_key
from ledger.statement import Ballot, Outcome, Unit
from ledger.txlog import TransactionLog
from tests.client.federation import Federation, account, initial_model


@pytest.fixture
def world(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


def test_rounds_end_verified_and_memory_stays_bounded_and_private(tmp_path: Path) -> None:
    world = Federation(tmp_path, policy=Policy(keep_rounds=1))
    for number in (1, 2):
        before = world.base
        replies, answers, draft = world.whole_round()
        closing = world.ledger.closing(number)
        assert closing is not None
        assert closing.outcome is Outcome.SUM_VERIFIED
        assert world.ledger.model() == draft.model_digest != sha256(before)
        assert all(answer.attested for answer in answers)
        assert {a.model_digest for a in answers} == {draft.model_digest}
        assert all(r.metrics == {} for r in replies)
    home = tmp_path / "0"
    assert [path.name for path in (home / "spool").iterdir()] == ["00000002"]
    assert len(list((home / "models").iterdir())) == 2  # the last base, and what was attested
    private = [home, home / "spool", *(home / "spool").glob("*/update")]
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)


def test_same_seed_gives_the_same_model_in_any_federation(tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        world = Federation(tmp_path / name)
        world.open()
        digests.add(world.draft(world.train()).model_digest)
    assert len(digests) == 1


def test_identical_order_gives_identical_reply_without_training(world: Federation) -> None:
    order = world.open()
    first = world.hospitals[0].train(order)
    second = world.hospitals[0].train(order)
    restarted = world.hospital(0).train(order)
    assert first == second == restarted
    assert world.trainers[0].calls == 1
    assert len(world.ledger.commits(1)) == 1


def test_identical_proposal_gives_identical_answer(world: Federation) -> None:
    world.open()
    order = world.propose(world.draft(world.train()))
    first = world.hospitals[0].attest(order)
    assert world.hospitals[0].attest(order) == first == world.hospital(0).attest(order)


# ---- crashes ----


class Crash(Exception):
    """Stands for the process dying here."""


def test_crash_before_the_commit_resends_the_spooled_update(
    world: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = world.open()

    def die(*args: object, **kwargs: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "commit", die)
        with pytest.raises(Crash):
            world.hospitals[0].train(order)
    assert world.ledger.commits(1) == {}
    reply = world.hospital(0).train(order)
    assert world.trainers[0].calls == 1
    assert sha256(reply.ciphertext) == world.ledger.commits(1)[reply.hospital].seal_digest


def test_crash_after_the_commit_was_mined(
    world: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = world.open()
    commit = Ledger.commit

    def mine_and_die(*args: object, **kwargs: object) -> None:
        commit(*args, **kwargs)  # type: ignore[arg-type]
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "commit", mine_and_die)
        with pytest.raises(Crash):
            world.hospitals[0].train(order)
    reply = world.hospital(0).train(order)
    assert world.trainers[0].calls == 1
    assert list(world.ledger.commits(1)) == [reply.hospital]


@pytest.mark.parametrize("name", ["keep_config", "keep_update", "mark_committed"])
def test_crash_in_any_storage_step_of_training(
    world: Federation, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from client.spool import Spool

    order = world.open()
    step = getattr(Spool, name)
    for persisted in (False, True):

        def die(*args: object, persisted: bool = persisted) -> None:
            if persisted:
                step(*args)
            raise Crash

        with monkeypatch.context() as patch:
            patch.setattr(Spool, name, die)
            with pytest.raises(Crash):
                world.hospital(0).train(order)
    reply = world.hospital(0).train(order)
    assert world.ledger.commits(1)[reply.hospital].seal_digest == sha256(reply.ciphertext)
    world.hospitals = [world.hospital(n) for n in range(2)]
    proposal = world.propose(world.draft(world.train()))
    assert world.hospital(0).attest(proposal).attested


def test_crash_while_answering(world: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    from client.spool import Spool

    world.open()
    order = world.propose(world.draft(world.train()))
    attest, step = Ledger.attest, Spool.keep_verdict

    def mine_and_die(*args: object) -> None:
        attest(*args)  # type: ignore[arg-type]
        raise Crash

    def keep_and_die(*args: object) -> None:
        step(*args)  # type: ignore[arg-type]
        raise Crash

    for target, method, dying in (
        (Spool, "keep_verdict", keep_and_die),
        (Ledger, "attest", mine_and_die),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(target, method, dying)
            with pytest.raises(Crash):
                world.hospital(0).attest(order)
    assert world.hospital(0).attest(order).attested
    assert world.ledger.answers(1)[world.accounts[0].address].kind == "attested"


def test_two_messages_at_once_wait_for_each_other(world: Federation) -> None:
    impatient = world.hospital(0, patience=0.05)
    with FileLock(world.folder / "0" / "lock"), pytest.raises(RunBusy):
        impatient.train(world.open())
    assert world.trainers[0].calls == 0


def test_a_second_message_gets_its_turn(world: Federation) -> None:
    patient = world.hospital(0, patience=30)
    order, replies = world.open(), []
    with FileLock(world.folder / "0" / "lock"):
        thread = threading.Thread(target=lambda: replies.append(patient.train(order)))
        thread.start()
        thread.join(0.2)
        assert not replies
    thread.join()
    assert [reply.round for reply in replies] == [1]


# ---- an order that is not the chain's ----


def _refuses(world: Federation, order: TrainOrder, error: type[ThoracleError]) -> None:
    """The order is refused, and nothing was trained, spooled or committed."""
    with pytest.raises(error):
        world.hospitals[0].train(order)
    assert world.trainers[0].calls == 0
    assert world.accounts[0].address not in world.ledger.commits(order.round)
    assert not list((world.folder / "0" / "spool").glob("*/entry.json"))


def test_order_without_a_live_round(world: Federation) -> None:
    world.number = 1
    world.config = world.round_config()
    _refuses(world, world.order(), WrongRound)


def test_order_for_a_finished_round(world: Federation) -> None:
    world.open()
    world.ledger.abort(world.coordinator, 1)
    _refuses(world, world.order(), RoundClosed)


def test_order_for_another_round(world: Federation) -> None:
    world.open()
    _refuses(world, world.order(round=2), WrongRound)


def test_substituted_hpke_key(world: Federation) -> None:
    world.open()
    _refuses(world, world.order(public_keys=(new_key().public,)), BadKey)


def test_added_hpke_key(world: Federation) -> None:
    world.open()
    _refuses(world, world.order(public_keys=(world.key.public, new_key().public)), BadKey)


def test_other_key_epoch(world: Federation) -> None:
    world.open()
    _refuses(world, world.order(key_epoch=4), BadKey)


def test_malicious_initial_model(world: Federation) -> None:
    world.open()
    model = initial_model()
    model["b.bias"][0] += 1
    _refuses(world, world.order(base_model_bytes=encode_model(model)), ParentMismatch)


def test_initial_model_of_another_manifest(tmp_path: Path) -> None:
    world = Federation(tmp_path)
    world.open(manifest=[["a.weight", "F32", [7, 5]], ["b.bias", "F32", [12]]])
    _refuses(world, world.order(), SpecMismatch)


def test_frozen_old_model_and_equivocation(world: Federation) -> None:
    old = world.base
    world.whole_round()
    world.open()
    with pytest.raises(StaleModel):
        world.hospitals[0].train(world.order(base_model_bytes=old))
    other = world.base_model()
    other["b.bias"] = other["b.bias"] + np.float32(1)
    with pytest.raises(ModelDigestMismatch):
        world.hospitals[0].train(world.order(base_model_bytes=encode_model(other)))
    assert world.trainers[0].calls == 1


def test_unfinalised_model(world: Federation) -> None:
    world.open()
    draft = world.draft(world.train())
    world.propose(draft)
    world.give_up()
    world.open()
    with pytest.raises(ModelNotFinal):
        world.hospitals[0].train(world.order(base_model_bytes=draft.model_bytes))


@pytest.mark.parametrize("allowed", [False, True])
def test_quorum_only_base_needs_the_hospitals_own_policy(tmp_path: Path, allowed: bool) -> None:
    world = Federation(tmp_path, silent_share=5000, policy=Policy(accept_quorum_only=allowed))
    world.open(attest_window=60)
    draft = world.draft(world.train())
    order = world.propose(draft)
    for hospital in world.hospitals[1:]:
        assert hospital.attest(order).attested
    world.chain.travel(120)
    world.finalise(draft)
    closing = world.ledger.closing(1)
    assert closing is not None
    assert closing.outcome is Outcome.QUORUM_ONLY
    world.open()
    if allowed:
        assert world.hospitals[0].train(world.order()).round == 2
    else:
        with pytest.raises(PolicyViolation, match="quorum"):
            world.hospitals[0].train(world.order())


def test_hospital_that_missed_a_round_takes_the_chains_model(world: Federation) -> None:
    late = world.hospitals.pop(0)
    world.whole_round()
    world.open()
    assert late.train(world.order()).round == 2


def test_configuration_that_is_not_on_the_chain(world: Federation) -> None:
    world.open()
    looser = canonical_json(world.round_config(metrics=["images"]))
    _refuses(world, world.order(config=looser), PolicyViolation)


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": ["auc"]},
        {"upload": "hospital.json"},
        {"train": {"epochs": 1, "threads": 1000}},
        {"train": {"epochs": 10_000}},
        {"learner": {}},
        {"quantiser": {"step_exponent": 0, "norm_bound": 1_310_728}},
        {"privacy": {"unit": "patient"}},
        {"metrics": "auc"},
    ],
)
def test_configuration_beyond_the_policy(world: Federation, change: dict[str, Any]) -> None:
    """malicious_app_code: even a configuration on the chain cannot loosen the policy."""
    world.open(**change)
    _refuses(world, world.order(), PolicyViolation)


def test_policy_that_wants_privacy(tmp_path: Path) -> None:
    world = Federation(tmp_path, policy=Policy(privacy="patient"))
    world.open()
    _refuses(world, world.order(), PolicyViolation)


def test_norm_bound_differs_from_the_chain(world: Federation) -> None:
    quantiser = {"step_exponent": world.quantiser.step_exponent, "norm_bound": 5}
    world.open(quantiser=quantiser)
    _refuses(world, world.order(), PolicyViolation)


def test_late_order_is_not_trained(world: Federation) -> None:
    world.open()
    world.chain.travel(700)
    _refuses(world, world.order(), CommitWindowClosed)


def test_stranger_does_not_train(world: Federation) -> None:
    world.accounts[0] = account("stranger")
    world.hospitals[0] = world.hospital(0)
    world.open()
    _refuses(world, world.order(), NotMember)


def test_removed_member_does_not_train(tmp_path: Path) -> None:
    world = Federation(tmp_path, 3)
    subject = world.accounts[0].address
    for voter in world.accounts[1:]:
        world.ledger.vote(voter, Ballot.REMOVE, subject)
    world.ledger.enact(world.accounts[1], Ballot.REMOVE, subject)
    world.open()
    _refuses(world, world.order(), MemberRevoked)


# ---- own update, budget and outputs ----


@pytest.mark.parametrize("fault", [float("nan"), float("inf")])
def test_non_finite_delta(world: Federation, fault: float) -> None:
    world.trainers[0].fault = fault
    order = world.open()
    with pytest.raises(NonFiniteUpdate):
        world.hospitals[0].train(order)
    assert world.ledger.commits(1) == {}


def test_exhausted_budget_stops_before_training(world: Federation) -> None:
    class Empty:
        def authorise(self, *args: object, **kwargs: object) -> Charge:
            raise BudgetExhausted("nothing is left")

        def settle(self, *args: object) -> None:
            raise AssertionError

    world.hospitals[0] = world.hospital(0, guard=Empty())
    world.open()
    _refuses(world, world.order(), BudgetExhausted)


def test_undeclared_mechanism_is_not_committed(world: Federation) -> None:
    from ledger.statement import Mechanism

    world.trainers[0].mechanism = Mechanism(epsilon=1)
    with pytest.raises(PolicyError):
        world.hospitals[0].train(world.open())
    assert world.ledger.commits(1) == {}


def test_privacy_federation_refuses_a_round_without(tmp_path: Path) -> None:
    world = Federation(tmp_path, unit=Unit.PATIENT)
    world.open()
    _refuses(world, world.order(), PolicyViolation)


def test_only_allowed_metrics_leave(tmp_path: Path) -> None:
    world = Federation(tmp_path, policy=Policy(metrics=frozenset({"train_loss", "auc", "x"})))
    world.trainers[0].metrics = {"train_loss": 0.5, "secret": 1.0, "x": float("nan")}
    world.hospitals[0] = world.hospital(
        0, evaluator=lambda model, config: {"auc": 0.75, "patients": 12.0}
    )
    world.open(metrics=["auc", "train_loss", "x"])
    replies = world.train()
    assert replies[0].metrics == {"train_loss": 0.5}
    order = world.propose(world.draft(replies))
    assert world.hospitals[0].attest(order).metrics == {"auc": 0.75}
    assert world.hospitals[1].attest(order).metrics == {}


def test_a_model_is_scored_once(tmp_path: Path) -> None:
    world = Federation(tmp_path, policy=Policy(metrics=frozenset({"auc"})))
    scores = iter([0.6, 0.7])
    evaluator = lambda model, config: {"auc": next(scores)}  # noqa: E731
    world.open(metrics=["auc"])
    order = world.propose(world.draft(world.train()))
    first = world.hospital(0, evaluator=evaluator).attest(order)
    assert world.hospital(0, evaluator=evaluator).attest(order) == first


# ---- proposals ----


def test_refused_hospital_contests_what_it_can_check(world: Federation) -> None:
    from ledger.errors import NormExceeded, OutlierUpdate

    world.open()
    draft = world.draft(world.train(), refuse={0: NormExceeded.code})
    order = world.propose(draft)
    reply = world.hospitals[0].attest(order)
    assert (reply.attested, reply.code) == (False, StandingMismatch.code)
    assert reply.model_digest == draft.model_digest
    assert world.ledger.answers(1)[reply.hospital].kind == "contested"
    assert world.hospitals[1].attest(order).attested
    world.finalise(draft)

    world.open()
    order = world.propose(world.draft(world.train(), refuse={0: OutlierUpdate.code}))
    reply = world.hospitals[0].attest(order)
    assert (reply.attested, reply.code) == (False, 0)
    assert world.accounts[0].address not in world.ledger.answers(2)


def test_policy_may_forbid_contesting(tmp_path: Path) -> None:
    from ledger.errors import NormExceeded

    world = Federation(tmp_path, policy=Policy(contest=False))
    world.open()
    order = world.propose(world.draft(world.train(), refuse={0: NormExceeded.code}))
    assert world.hospitals[0].attest(order).code == 0


def test_hospital_that_sent_nothing_stays_silent(world: Federation) -> None:
    world.open()
    bystander = world.hospitals.pop(0)
    draft = world.draft(world.train())
    reply = bystander.attest(world.propose(draft))
    assert (reply.attested, reply.code) == (False, 0)
    assert world.accounts[0].address not in world.ledger.answers(1)


def test_commit_in_a_hospitals_name_that_it_knows_nothing_of(world: Federation) -> None:
    world.open()
    order = world.propose(world.draft(world.train()))
    world.folder /= "elsewhere"  # the hospital lost its home
    reply = world.hospital(0).attest(order)
    assert reply.code == StandingMismatch.code
    assert world.ledger.answers(1)[reply.hospital].code == StandingMismatch.code


def test_somebody_else_committed_with_the_hospitals_key(world: Federation) -> None:
    order = world.open()
    opening = world.ledger.opening(1)
    world.ledger.commit(
        world.accounts[0],
        open_head=opening.open_head,
        seal_digest=bytes(32),
        opening_digest=bytes(32),
    )
    with pytest.raises(AlreadyCommitted):
        world.hospitals[0].train(order)


def test_wrong_sum_is_dissented_by_every_hospital(world: Federation) -> None:
    world.open()
    replies = world.train()
    updates = {seat: world.opened(reply) for seat, reply in enumerate(replies)}
    draft = world.draft(replies)
    draft.total[3] += 1
    order = world.propose(world.complete(draft, updates))
    answers = [hospital.attest(order) for hospital in world.hospitals]
    assert [a.code for a in answers] == [SumMismatch.code] * 2
    assert {a.kind for a in world.ledger.answers(1).values()} == {"dissented"}


def test_false_probe_for_an_honest_hospital(world: Federation) -> None:
    world.open()
    replies = world.train()
    updates = {seat: world.opened(reply) for seat, reply in enumerate(replies)}
    draft = world.draft(replies)
    updates[1] = -updates[1]
    world.probe(draft, updates)
    order = world.propose(draft)
    assert world.hospitals[1].attest(order).code == ProbeMismatch.code
    assert world.hospitals[0].attest(order).code == SumMismatch.code


def test_served_sum_differs_from_the_proposed(world: Federation) -> None:
    world.open()
    order = world.propose(world.draft(world.train()))
    cut = replace(order, sum_bytes=order.sum_bytes[:-1])
    assert world.hospitals[0].attest(cut).code == SumMismatch.code


def test_proposal_that_does_not_exist(world: Federation) -> None:
    from ledger.messages import ProposalOrder

    world.open()
    world.train()
    with pytest.raises(WrongPhase):
        world.hospitals[0].attest(ProposalOrder(round=1, sum_bytes=b""))


def test_damaged_spool_says_nothing_rather_than_accuse(world: Federation) -> None:
    from ledger.errors import EvidenceMismatch

    world.open()
    order = world.propose(world.draft(world.train()))
    path = next((world.folder / "0" / "spool").glob("*/update"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(EvidenceMismatch):
        world.hospitals[0].attest(order)
    assert world.ledger.answers(1) == {}


# ---- registration and outages ----


def test_registration_is_once_and_weights_are_bucketed(world: Federation) -> None:
    assert [world.ledger.member(a.address).weight for a in world.accounts] == [96, 192]
    with pytest.raises(AlreadyRegistered):
        world.hospitals[0].register(cap=1, examples=5)
    world.hospitals[0].set_examples(1000)
    assert world.ledger.member(world.accounts[0].address).weight == 896
    world.open()
    world.hospitals[0].set_examples(1001)  # the same bucket: nothing to say
    with pytest.raises(RoundLive):
        world.hospitals[0].set_examples(10)


def test_node_down_stops_the_hospital(world: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    order = world.open()

    def down(*args: object, **kwargs: object) -> None:
        raise LedgerUnavailable("the node is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "commit", down)
        with pytest.raises(LedgerUnavailable):
            world.hospitals[0].train(order)
    assert world.hospitals[0].train(order).round == 1
    assert world.trainers[0].calls == 1


def test_rolled_back_chain_is_refused(world: Federation) -> None:
    moment = world.chain.snapshot()
    world.hospitals[0].train(world.open())
    world.ledger.abort(world.coordinator, 1)
    world.hospitals[0].train(world.open())
    world.chain.revert(moment)
    world.number = 0
    order = world.open()
    with pytest.raises(LedgerRollback):
        world.hospital(0).train(order)


def test_chain_that_lost_the_commit_is_refused(world: Federation) -> None:
    order = world.open()
    moment = world.chain.snapshot()
    world.train()
    world.chain.revert(moment)
    replies = [hospital.train(order) for hospital in world.hospitals[1:]]
    proposal = world.propose(world.draft(replies))
    with pytest.raises(LedgerRollback):
        world.hospitals[0].attest(proposal)


def test_lost_commit_is_replayed_from_the_journal(world: Federation, tmp_path: Path) -> None:
    """receipt_seen_then_lost: no error, exactly one commit, same head."""
    journal = TransactionLog(tmp_path / "transactions.jsonl")
    ledger = Ledger(world.chain.web3, world.ledger.anchors, journal=journal)
    hospital = world.hospital(0, ledger=ledger)
    order = world.open()
    moment = world.chain.snapshot()
    reply, head = hospital.train(order), world.ledger.head()
    world.chain.revert(moment)
    assert world.ledger.commits(1) == {}
    assert hospital.train(order) == reply
    assert list(world.ledger.commits(1)) == [reply.hospital]
    assert world.ledger.head() == head
    assert world.trainers[0].calls == 1
    world.hospitals[1].train(order)
    assert hospital.attest(world.propose(world.draft(world.train()))).attested
    journal.close()


def test_home_is_keyed_by_folder_not_by_object(world: Federation) -> None:
    assert isinstance(world.hospital(1), Hospital)
    assert world.hospital(1).address == world.accounts[1].address
