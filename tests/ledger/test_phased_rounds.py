"""A federation in two phases, round by round: what travels, what stays, and what an audit finds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.roles import TrainedUpdate
from client.terms import RoundTerms
from ledger.audit import audit
from ledger.canonical import canonical_json
from ledger.epsilon import Release, micro_epsilon
from ledger.errors import PolicyViolation, SpecMismatch, UndeclaredOutput
from ledger.manifest import Manifest, Model, decode_model
from ledger.messages import AttestReply
from ledger.report import report_record
from ledger.report_html import render
from ledger.server_rule import FEDADAM, ServerRule, moment_names
from ledger.statement import Outcome, Unit
from ledger.tensors import header
from ledger.travels import update_manifest
from tests.attacks.auditing import facts_of
from tests.world import PHASED, PRIVACY, World, initial_model

SPANS = {1: ("conv.weight",), 2: ("head.bias", "norm"), 3: ("head.bias", "norm")}


def model_after(world: World) -> Model:
    return decode_model(world.store.models.get(world.ledger.model()), world.manifest)


@pytest.mark.parametrize("rule", ["fedavg", FEDADAM])
def test_each_round_moves_its_part_and_nothing_else(tmp_path: Path, rule: str) -> None:
    plan = replace(PHASED.plan, server=ServerRule(name=rule))
    world = World(tmp_path, replace(PHASED, plan=plan))
    before = world.model
    for number, moving in SPANS.items():
        if number == 3:
            world.restart()  # a phase goes on where it was
        assert world.play().outcome is Outcome.SUM_VERIFIED
        after = model_after(world)
        names = set(moving) | {m for name in moving for m in moment_names(name)} & set(after)
        for name, array in after.items():
            if name in names:
                assert not np.array_equal(array, before[name]), (number, name)
            else:
                assert array.tobytes() == before[name].tobytes(), (number, name)
        before = after
        proposal = world.ledger.proposal(number)
        assert proposal is not None
        update = update_manifest(world.manifest, world.coordinator.bench.config(number))
        assert [spec.name for spec in update.tensors] == list(moving)
        data = world.store.sums.get(proposal.sum_digest)
        assert len(data) == 8 + len(header(update.tensors, "I64")) + 8 * update.size
    report = audit(facts_of(world))
    assert report.clean, report.failures
    assert report.reached == ("chain", "models", "replay")
    assert report.passed["models"]["model arithmetic"] == 3
    assert report.passed["replay"]["S bit for bit"] == 3
    assert report.phases == {1: "body", 2: "head", 3: "head"}
    assert [item["phase"] for item in report_record(report)["rounds"]] == ["body", "head", "head"]
    assert render(report).count("<td>head</td>") == 2


def test_one_accountant_serves_all_phases(tmp_path: Path) -> None:
    """The mechanism is the run's in both phases; only how gradients are clipped differs."""
    body, head = PHASED.plan.phases
    privacy = {**PRIVACY, "clip_norm": 0.1}
    phases = (replace(body, privacy={"clip_norm": 0.5}), head)
    plan = replace(PHASED.plan, privacy=privacy, phases=phases)
    world = World(tmp_path, replace(PHASED, plan=plan, unit=Unit.PATIENT))
    clips = []
    for number in (1, 2):
        assert world.play().outcome is Outcome.SUM_VERIFIED
        said = world.coordinator.bench.config(number)["privacy"]
        assert isinstance(said, dict)
        clips.append(said["clip_norm"])
    assert clips == [0.5, 0.1]
    report = audit(facts_of(world))
    assert report.clean, report.failures
    mechanism = {name: int(str(PRIVACY[name])) for name in ("noise_multiplier", "steps")}
    release = Release(
        noise_multiplier=mechanism["noise_multiplier"] / 10**6,
        sample_rate=0.01,
        steps=2 * mechanism["steps"],
    )
    expected = micro_epsilon([release], 1e-5) / 10**6
    assert [item.spent for item in report.budgets] == pytest.approx([expected] * 3)


def test_training_that_moves_another_part_is_never_sent(tmp_path: Path) -> None:
    world = World(tmp_path, PHASED)

    def whole(base: Model, config: dict[str, object], seed: int, /) -> TrainedUpdate:
        return TrainedUpdate(model=base)

    hospital = world.make_hospital(0, trainer=whole)
    with pytest.raises(SpecMismatch, match="other tensors than travel"):
        hospital.train(world.coordinator.open_round())
    assert not world.ledger.commits(1)


def test_a_number_is_asked_for_phase_by_phase(tmp_path: Path) -> None:
    """The first phase asks for none: a reply that brings one all the same is not noted."""
    world = World(tmp_path, PHASED)
    order = world.coordinator.open_round()
    replies = world.train(order)
    assert [reply.metrics for reply in replies] == [{}, {}, {}]
    world.submit(replies)
    world.coordinator.close()
    world.coordinator.propose()
    signer = str(world.accounts[0].address)
    reply = AttestReply(
        hospital=signer,
        round=1,
        attested=True,
        code=0,
        model_digest=bytes(32),
        metrics={"loss": 0.5},
    )
    with pytest.raises(UndeclaredOutput):
        world.coordinator.answered(reply)
    world.attest(world.coordinator.serve())
    world.coordinator.finish()
    assert [r.metrics for r in world.train(world.coordinator.open_round())] == [{"loss": 0.5}] * 3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"travels": ["norm", "conv.weight"]}, "ascending"),
        ({"travels": ["zz"]}, "which the model has not"),
        ({"phase": "head"}, "name, round and rounds"),
        ({"phase": {"name": "head", "round": 2, "rounds": 1}}, "no round 2 of 1"),
    ],
)
def test_a_hospital_refuses_what_cannot_be_read(change: dict[str, object], sentence: str) -> None:
    config = PHASED.plan.config(Manifest.of_model(initial_model()), 2)
    terms = RoundTerms.parse(canonical_json(config))
    assert terms.phase is not None
    assert (terms.phase.name, terms.phase.round) == ("head", 1)
    assert (terms.update.size, terms.manifest.size) == (108, 300)
    with pytest.raises(PolicyViolation, match=sentence):
        RoundTerms.parse(canonical_json(config | change))
