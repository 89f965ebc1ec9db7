"""Phases of a plan: what each round's configuration says, and what is refused before it opens."""

from dataclasses import replace
from typing import Any

import pytest

from ledger.errors import ConfigError
from ledger.manifest import Manifest
from ledger.server_rule import FEDADAM, ServerRule
from ledger.travels import PhaseTerms, update_manifest
from server.home import plan_from_json, plan_to_json
from server.phases import PhasePlan
from server.plan import RoundPlan
from tests.world import Setting, initial_model, with_moments

MODEL = initial_model()
MANIFEST = Manifest.of_model(MODEL)
PRIVACY = {"unit": "patient", "steps": 10, "clip_norm": 0.1}
BODY = PhasePlan(
    name="body",
    rounds=2,
    travels=("conv.weight", "norm"),
    train={"learning_rate": 0.01},
    privacy={"clip_norm": 0.5},
    max_norm=2.0,
    coordinate_drift=0.25,
    noise_floor=7.0,
)
HEAD = PhasePlan(name="head", rounds=3, travels=("head.bias",), metrics=("loss",))
PLAN = replace(Setting().plan, rounds=5, privacy=PRIVACY, phases=(BODY, HEAD))


def test_each_round_says_its_phase_and_its_part() -> None:
    found = [PLAN.config(MANIFEST, number) for number in range(1, 8)]
    terms = [PhaseTerms.of_config(config) for config in found]
    assert [(t.name, t.round, t.rounds) for t in terms if t] == [
        ("body", 1, 2),
        ("body", 2, 2),
        ("head", 1, 3),
        ("head", 2, 3),
        ("head", 3, 3),
        ("head", 3, 3),  # beyond the plan, where aborted rounds were made up for
        ("head", 3, 3),
    ]
    assert [config["travels"] for config in found[1:3]] == [
        ["conv.weight", "norm"],
        ["head.bias"],
    ]
    assert {config["rounds"] for config in found} == {5}


def test_a_phases_own_values_stand_in_its_rounds() -> None:
    body, head = PLAN.config(MANIFEST, 2), PLAN.config(MANIFEST, 3)
    assert body["train"] == {"learning_rate": 0.01}
    assert head["train"] == {}
    assert (body["metrics"], head["metrics"]) == ([], ["loss"])
    assert body["privacy"] == {**PRIVACY, "clip_norm": 0.5}
    assert head["privacy"] == PRIVACY
    floors = [config["screen"]["noise_floor"] for config in (body, head)]  # type: ignore[index]
    assert floors == [7.0, 0.0]


def test_the_quantiser_is_of_what_travels() -> None:
    alone = {
        number: replace(PLAN, phases=(), max_norm=norm, coordinate_drift=drift).quantiser(
            update_manifest(MANIFEST, PLAN.config(MANIFEST, number))
        )
        for number, norm, drift in ((1, 2.0, 0.25), (3, 20.0, 0.5))
    }
    for number, expected in alone.items():
        assert PLAN.quantiser(MANIFEST, number) == expected
        said = PLAN.config(MANIFEST, number)["quantiser"]
        assert said == {
            "step_exponent": expected.step_exponent,
            "norm_bound": expected.norm_bound,
        }
    assert alone[1] != alone[3]


def test_a_plan_without_phases_says_what_it_always_did() -> None:
    config = replace(PLAN, phases=()).config(MANIFEST, 1)
    assert "phase" not in config
    assert "travels" not in config


def test_moments_never_travel() -> None:
    manifest = Manifest.of_model(MODEL | with_moments(MODEL))
    plan = replace(Setting().plan, server=ServerRule(name=FEDADAM))
    assert plan.config(manifest, 1)["travels"] == sorted(MODEL)
    # Three times the coordinates cost no more than the model's own: norm bound and step too.
    assert plan.quantiser(manifest) == plan.quantiser(MANIFEST)


def test_a_plan_survives_its_file() -> None:
    for plan in (PLAN, replace(PLAN, phases=()), replace(PLAN, phases=(), travels=("norm",))):
        assert plan_from_json(plan_to_json(plan)) == plan


def test_a_plan_from_before_phases_is_read() -> None:
    values = plan_to_json(Setting().plan)
    del values["phases"], values["travels"]
    assert plan_from_json(values) == Setting().plan


@pytest.mark.parametrize(
    "travels",
    [("norm", "conv.weight"), ("norm", "norm"), ("nowhere",), ("norm", "server_m/norm")],
)
def test_the_coordinator_opens_no_round_of_another_part(travels: tuple[str, ...]) -> None:
    plan = replace(PLAN, phases=(replace(BODY, travels=travels), HEAD))
    with pytest.raises(ConfigError, match="travels"):
        plan.config(MANIFEST, 1)
    assert plan.config(MANIFEST, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"phases": (BODY,)},
        {"phases": (replace(BODY, rounds=3), HEAD)},
        {"privacy": None},
    ],
)
def test_phases_of_another_run_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(PLAN, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": 0},
        {"name": "The Body"},
        {"travels": ()},
        {"privacy": {"steps": 3}},
        {"privacy": {"noise_multiplier": 1}},
    ],
)
def test_odd_phases_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(BODY, **change)


@pytest.mark.parametrize("value", [None, [], {}, {**BODY.to_json(), "more": 1}])
def test_another_form_of_a_phase_is_refused(value: object) -> None:
    with pytest.raises(ConfigError):
        PhasePlan.from_json(value)


def test_privacy_of_a_phase_needs_private_rounds() -> None:
    with pytest.raises(ConfigError, match="the run is not"):
        RoundPlan(rounds=2, learner={}, phases=(BODY,))
