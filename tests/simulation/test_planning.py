"""Phases of a run: from settings, or from the learner, to what each round asks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pytest
from torch import Tensor, nn

from client.data.records import FINDINGS
from client.evaluate_local import LOCAL_METRICS, LocalEvaluator
from client.learners import module_to_model
from client.learners.cnn import ConvolutionalLearner
from client.learners.phase import SUPERVISED, Draws, Phase
from client.trainer import TRAIN_METRICS, phase_of, travelling
from ledger.errors import ConfigError
from ledger.manifest import Manifest
from ledger.statement import Outcome
from ledger.travels import PhaseTerms
from server.evaluate import TestSet
from server.plan import RoundPlan
from server.results import RoundResult
from simulation import central
from simulation.central import CentralScores
from simulation.planning import learner_of, round_plan, schedule_of, train_plan
from simulation.priors import public_prior
from simulation.privacy import adam_noise, privacy_of
from simulation.report import announced_phases, round_line, run_table
from simulation.run import RunReport
from simulation.run_record import Draft
from simulation.settings import Settings, read_config, settings_from


class Shape(Phase):
    """Trains everything but the head, on a loss of no findings."""

    name: ClassVar[str] = "shape"
    train_defaults = MappingProxyType({"batch_size": 16, "epochs": 2, "final_share": 0.5})

    def __init__(self, learner: ConvolutionalLearner) -> None:
        self._learner = learner

    def trained(self, module: nn.Module) -> tuple[str, ...]:
        head = set(map(id, self._learner.head(module).parameters()))
        return tuple(sorted(n for n, p in module.named_parameters() if id(p) not in head))

    def loss(self, module: nn.Module, images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        out: Tensor = module(images).square().mean(1)
        return out


@dataclass(frozen=True, kw_only=True)
class TwoPhases(ConvolutionalLearner):
    """A small network trained in two phases."""

    name: ClassVar[str] = "two-phases"
    phases: ClassVar[tuple[str, ...]] = ("shape", SUPERVISED)

    def phase(self, name: str) -> Phase:
        return Shape(self) if name == "shape" else super().phase(name)

    def schedule(self, rounds: int) -> dict[str, int]:
        return {"shape": rounds // 2, SUPERVISED: rounds - rounds // 2}


LEARNER = TwoPhases(width=8, input_size=16)
MODULE = LEARNER.build(0)
MANIFEST = Manifest.of_model(module_to_model(MODULE, LEARNER.shared(MODULE)))
OPEN = Settings(rounds=5, size=16, learner="cnn", epsilon=0.0)


def plan_of(settings: Settings) -> RoundPlan:
    return round_plan(settings, LEARNER, MANIFEST, FINDINGS)


def test_the_learners_own_schedule_holds_where_nobody_says_otherwise() -> None:
    plan = plan_of(OPEN)
    assert [(phase.name, phase.rounds) for phase in plan.phases] == [("shape", 2), (SUPERVISED, 3)]
    shape, supervised = plan.config(MANIFEST, 1), plan.config(MANIFEST, 3)
    assert shape["travels"] == list(Shape(LEARNER).travels(MODULE))
    assert "travels" not in supervised  # all of the model
    assert PhaseTerms.of_config(supervised) == PhaseTerms(name=SUPERVISED, round=1, rounds=3)
    assert shape["metrics"] == sorted(TRAIN_METRICS)
    assert supervised["metrics"] == sorted((*LOCAL_METRICS, *TRAIN_METRICS))


def test_what_suits_a_phase_holds_where_nobody_says_otherwise() -> None:
    def of(settings: Settings, number: int) -> list[object]:
        train = plan_of(settings).config(MANIFEST, number)["train"]
        assert isinstance(train, dict)
        return [train[name] for name in ("batch_size", "epochs", "final_share")]

    assert of(OPEN, 1) == [16, 2, 0.5]
    assert of(OPEN, 3) == [32, 1, 0.1]
    own = replace(OPEN, batch_size=8, train_options={"final_share": 0.2})
    assert of(own, 1) == [8, 2, 0.2]
    table = {"name": "shape", "rounds": 5, "epochs": 3, "train_options": {"final_share": 0.3}}
    assert of(replace(own, phases=[table]), 1) == [8, 3, 0.3]


def test_adjusted_logits_come_with_the_public_prior_and_never_privately() -> None:
    adjusted = {"logit_adjustment": 1.0}
    table = {"name": SUPERVISED, "rounds": 5, "train_options": adjusted}
    assert learner_of(OPEN).prior == ()
    for settings in (replace(OPEN, train_options=adjusted), replace(OPEN, phases=[table])):
        assert learner_of(settings).prior == public_prior(FINDINGS)
    with pytest.raises(ConfigError, match="prior"):
        plan_of(replace(OPEN, phases=[table]))  # LEARNER has none
    private = replace(OPEN, train_options=adjusted, epsilon=8.0)
    with pytest.raises(ConfigError, match="private labels"):
        privacy_of(private, train_plan(private))


def test_one_round_has_one_phase() -> None:
    assert [phase.name for phase in plan_of(replace(OPEN, rounds=1)).phases] == [SUPERVISED]


def test_a_learner_of_one_phase_asks_what_it_always_did() -> None:
    plain = ConvolutionalLearner(width=8, input_size=16)
    assert schedule_of(OPEN, plain) == []
    plan = round_plan(OPEN, plain, MANIFEST, FINDINGS)
    assert plan.phases == ()
    assert not {"phase", "travels"} & set(plan.config(MANIFEST, 1))


def test_a_probe_s_rounds_ask_for_its_head_alone() -> None:
    """A learner of one phase that trains a part: hospitals refuse rounds which ask for more."""
    settings = replace(
        OPEN, learner="resnet18", size=32, learner_options={"norm": "frozen", "trained": "head"}
    )
    probe = learner_of(settings, FINDINGS)
    module = probe.build(0)
    manifest = Manifest.of_model(module_to_model(module, probe.shared(module)))
    config = round_plan(settings, probe, manifest, FINDINGS).config(manifest, 1)
    assert config["travels"] == ["fc.bias", "fc.weight"]
    assert "phase" not in config
    phase = phase_of(probe, config)
    assert set(travelling(probe, phase, config)) == set(phase.trained(module))


PHASES: list[dict[str, Any]] = [
    {"name": SUPERVISED, "rounds": 1},
    {
        "name": "shape",
        "rounds": 4,
        "learning_rate": 1e-4,
        "clip_norm": 0.5,
        "batch_size": 7,
        "train_options": {"warmup": 0.0},
    },
]


def test_settings_say_phases_and_their_values() -> None:
    plan = plan_of(replace(OPEN, phases=PHASES, train_options={"final_share": 1.0}))
    first, last = plan.config(MANIFEST, 1)["train"], plan.config(MANIFEST, 5)["train"]
    assert isinstance(first, dict)
    assert isinstance(last, dict)
    assert (first["learning_rate"], first["final_share"]) == (OPEN.learning_rate, 1.0)
    assert (last["learning_rate"], last["final_share"]) == (1e-4, 1.0)
    assert (first["warmup"], last["warmup"]) == (0.05, 0.0)


def privacy_at(plan: RoundPlan, number: int) -> dict[str, object]:
    said = plan.config(MANIFEST, number)["privacy"]
    assert isinstance(said, dict)
    return said


def test_one_mechanism_holds_in_all_phases_and_clipping_differs() -> None:
    private = replace(OPEN, epsilon=8.0, phases=PHASES)
    plan = plan_of(private)
    first, last = (privacy_at(plan, number) for number in (1, 5))
    assert (first.pop("clip_norm"), last.pop("clip_norm")) == (private.clip_norm, 0.5)
    assert (first.pop("physical_batch"), last.pop("physical_batch")) == (32, 7)
    assert first == last
    assert first["rounds"] == 5
    assert plan.metrics == ()
    assert all(phase.metrics == () for phase in plan.phases)
    # The learning rate spans the phase, so the first of its four rounds is at the peak.
    slow = next(phase for phase in plan.phases if phase.name == "shape")
    assert slow.coordinate_noise == pytest.approx(adam_noise(1e-4, private.steps), rel=0.05)
    fast = plan.phases[0].coordinate_noise
    assert slow.coordinate_noise < fast / 10
    assert all(phase.noise_floor > 0 for phase in plan.phases)


def test_a_phase_that_the_learner_has_not_is_named() -> None:
    with pytest.raises(ConfigError, match="dreaming"):
        plan_of(replace(OPEN, phases=[{"name": "dreaming", "rounds": 5}]))


def test_a_file_says_phases_and_the_rounds_follow(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        'epsilon = "off"\n[[phases]]\nname = "shape"\nrounds = 2\nlearning_rate = 1\n'
        '[[phases]]\nname = "supervised"\nrounds = 3\n[phases.train_options]\nwarmup = 0.1\n'
    )
    found = settings_from(read_config(path))
    assert found.rounds == 5
    assert found.phases[0] == {"name": "shape", "rounds": 2, "learning_rate": 1.0}
    assert found.phases[1]["train_options"] == {"warmup": 0.1}
    assert settings_from(found.to_dict()) == found
    with pytest.raises(ConfigError, match="the phases have 5 rounds together, the run 4"):
        settings_from({**read_config(path), "rounds": 4})


@pytest.mark.parametrize(
    ("phases", "named"),
    [
        ({"name": "a"}, "of type list"),
        (["shape"], r"\[\[phases\]\] tables"),
        ([{"name": "a"}], "a name and a whole number of rounds"),
        ([{"name": "a", "rounds": True}], "a name and a whole number of rounds"),
        ([{"name": "a", "rounds": 0}], "phase a: rounds must be at least 1"),
        ([{"name": "a", "rounds": 1, "steps": 3}], "unknown 'steps'"),
        ([{"name": "a", "rounds": 1, "epochs": 1.5}], "phase a: epochs must be of type int"),
        ([{"name": "a", "rounds": 1, "epochs": 0}], "phase a: epochs must be between"),
        ([{"name": "a", "rounds": 1, "clip_norm": -1}], "phase a: clip_norm must be a positive"),
    ],
)
def test_a_wrong_phase_is_named(phases: object, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        settings_from({"phases": phases})


# What a phase leaves unscored


def test_hospitals_score_only_where_they_are_asked() -> None:
    evaluator = LocalEvaluator(
        pixels=np.zeros((0, 1, 16, 16), np.uint8), labels=np.zeros((0, 14), np.int8)
    )
    plan = plan_of(OPEN)
    assert evaluator({}, plan.config(MANIFEST, 1)) == {}
    with pytest.raises(ConfigError, match="two-phases"):  # it looks for the learner: it would score
        evaluator({}, plan.config(MANIFEST, 3))


def result(number: int, phase: str, **metrics: float) -> RoundResult:
    return RoundResult(
        round=number, phase=phase, outcome=Outcome.SUM_VERIFIED, model=bytes(32), metrics=metrics
    )


def test_the_central_test_set_is_for_scored_phases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(central, "from_description", lambda _: LEARNER)
    monkeypatch.setattr(central, "read_test_set", lambda _: object.__new__(TestSet))
    asked: list[Path] = []

    def read(path: Path, manifest: Manifest) -> None:
        asked.append(path)
        raise LookupError

    monkeypatch.setattr(central, "read_model", read)
    (tmp_path / "test.npz").touch()
    draft = Draft(
        folder=tmp_path,
        learner=LEARNER,
        manifest=MANIFEST,
        initial_model=bytes(32),
        warm_start=None,
        hospitals=(),
    )
    scores = CentralScores(draft)
    assert scores.score(result(1, "shape")) is None
    assert not asked
    with pytest.raises(LookupError):
        scores.score(result(2, SUPERVISED))


def test_the_table_has_phases_where_there_are_any(tmp_path: Path) -> None:
    assert round_line(result(1, "shape"), None).startswith("Round 1 (shape): sum verified")
    assert round_line(result(1, ""), None).startswith("Round 1: sum verified")
    assert result(1, "shape").row()["phase"] == "shape"
    for phase, columns in (("shape", 10), ("", 11)):
        table = run_table(RunReport(folder=tmp_path, rounds=(result(1, phase),)))
        names = [str(column.header) for column in table.columns]
        assert len(names) == columns
        assert ("phase" in names, "gas" in names) == (bool(phase), not phase)


def test_a_line_tells_what_a_round_knows_and_the_table_why_not_more(tmp_path: Path) -> None:
    line = round_line(result(1, "shape", train_loss=1.5), None)
    assert "training loss 1.500" in line
    assert "AUC" not in line
    line = round_line(result(2, SUPERVISED, auc=0.75, train_loss=0.5), 0.625)
    assert "federated AUC 0.750, test AUC 0.625" in line
    private = round_line(result(2, SUPERVISED), None)
    assert "AUC" not in private
    assert "loss" not in private
    whole = RunReport(folder=tmp_path, rounds=(result(1, "", auc=0.5),), central={1: 0.5})
    assert "tells no findings yet" not in str(run_table(whole).caption)
    gaps = RunReport(folder=tmp_path, rounds=(result(1, "shape"), *whole.rounds))
    assert "tells no findings yet" in str(run_table(gaps).caption)


@pytest.mark.parametrize(
    ("rounds", "spans", "scored", "short"),
    [
        (3, "round 1 adversarial, round 2 self_supervised, round 3 supervised", 3, ""),
        (8, "rounds 1 to 2 adversarial, rounds 3 to 4 self_supervised, rounds 5 to 8 supervised",
         5, ""),
        (2, "round 1 self_supervised, round 2 supervised", 2, "adversarial"),
        (1, "round 1 supervised", 1, "adversarial and self_supervised"),
    ],
)  # fmt: skip
def test_phases_are_announced_before_the_run(
    rounds: int, spans: str, scored: int, short: str
) -> None:
    settings = Settings(rounds=rounds, learner="ssganvit")
    told = f"Phases: {spans}; findings are told, and scored, from round {scored} on"
    told += f" (too few rounds for {short})" if short else ""
    assert announced_phases(settings, learner_of(settings)) == told


def test_only_what_has_phases_announces_any() -> None:
    plain = Settings(learner="cnn")
    assert not announced_phases(plain, learner_of(plain))
    shaped = replace(OPEN, phases=[{"name": "shape", "rounds": 5}])
    assert announced_phases(shaped, LEARNER) == "Phases: rounds 1 to 5 shape"
    with pytest.raises(ConfigError):
        announced_phases(replace(OPEN, phases=[{"name": "other", "rounds": 5}]), LEARNER)
