"""The private trainer: what is refused before anything is charged, and what stays at home."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator

from client.data.uncertainty import Policy
from client.data_terms import DataTerms
from client.dpsgd import PrivateOutcome
from client.hospital_log import note
from client.learners import get_learner, module_to_model, registry
from client.learners.interface import Learner
from client.privacy_plan import MIN_COHORT, plan_noise
from client.private_trainer import PrivateTrainer
from client.train import TrainPlan
from ledger.errors import CohortTooSmall, PolicyViolation, ThoracleError, UnsupportedModule
from ledger.manifest import Manifest, Model
from tests.client.phases import SIDE, Toy

PATIENTS = 30


def base_of(learner: Learner) -> Model:
    module = learner.build(0)
    return module_to_model(module, learner.shared(module))


def config_of(learner: Learner) -> dict[str, object]:
    plan = plan_noise(epsilon=8, delta=1e-5, sample_rate=0.5, steps=2, rounds=1)
    return {
        "manifest": Manifest.of_model(base_of(learner)).to_json(),
        "learner": learner.describe(),
        "train": TrainPlan(learning_rate=1e-3).describe(),
        "privacy": {**plan.to_config(), "clip_norm": 0.1, "multiplicity": 1, "physical_batch": 16},
        "round": 1,
        "rounds": 1,
    }


CNN = get_learner("cnn", input_size=32, width=8, labels=2)
BATCH_NORM = get_learner("vit", input_size=32, width=32, depth=1, stem_norm="batch", labels=2)
SELF_TRAINED = DataTerms(
    findings=("A", "B"), preprocessing={"size": 32}, uncertain=Policy.SELFTRAINED
)


def trainer(images: int = 40, patients: int = PATIENTS, **changes: Any) -> PrivateTrainer:
    generator = np.random.default_rng(0)
    return PrivateTrainer(
        pixels=generator.integers(0, 255, (images, 1, 32, 32), dtype=np.uint8),
        labels=generator.integers(0, 2, (images, 2)).astype(np.int8),
        patients=np.arange(images, dtype=np.int64) % patients,
        insecure_seed=1,
        **changes,
    )


@pytest.mark.parametrize(
    ("made", "learner", "error"),
    [
        (trainer(patients=MIN_COHORT - 1), CNN, CohortTooSmall),
        (trainer(), BATCH_NORM, UnsupportedModule),
        (trainer(terms=SELF_TRAINED), CNN, PolicyViolation),
    ],
)
def test_it_is_refused_before_anything_is_charged(
    made: PrivateTrainer, learner: Learner, error: type[ThoracleError]
) -> None:
    config = config_of(learner)
    if made.terms is not None:
        config["data"] = made.terms.to_config()
    with pytest.raises(error):
        made.check(config)


def test_a_round_gives_an_update_its_mechanism_and_no_metric() -> None:
    config, base = config_of(CNN), base_of(CNN)
    made = trainer()
    made.check(config)
    update = made(base, config, 3)
    assert update.metrics == {}
    assert update.mechanism.steps == 2
    assert any(not np.array_equal(update.model[name], base[name]) for name in base)


def test_zeroed_gradients_are_noted_at_home_and_nowhere_else(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object, **_more: object) -> PrivateOutcome:
        return PrivateOutcome(steps=2, drawn=20, refused=5, insecure=True)

    monkeypatch.setattr("client.private_trainer.train_private", broken)
    made = replace(trainer(), note=lambda text: note(tmp_path, text))
    update = made(base_of(CNN), config_of(CNN), 3)
    assert update.metrics == {}
    log = tmp_path / "hospital.log"
    assert "5 gradients were not finite" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_a_private_round_of_a_phase_gives_what_travels_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        registry, "BUILT_IN", {**registry.BUILT_IN, "toy": "tests.client.phases:Toy"}
    )
    toy = Toy()
    travels = toy.phase("adversarial").travels(toy.build(0))
    config = config_of(toy) | {
        "phase": {"name": "adversarial", "round": 1, "rounds": 1},
        "travels": list(travels),
    }
    generator = np.random.default_rng(0)
    made = replace(
        trainer(), pixels=generator.integers(0, 255, (40, 1, SIDE, SIDE), dtype=np.uint8)
    )
    made.check(config)
    base = base_of(toy)
    first, again = (made(dict(base), config, 3).model for _ in range(2))
    assert tuple(first) == travels
    assert all(np.array_equal(first[name], again[name]) for name in travels)
    assert all(not np.array_equal(first[name], base[name]) for name in travels)
    with pytest.raises(PolicyViolation, match="adversarial trains"):
        made.check({**config, "travels": [name for name in travels if "critic" in name]})


def test_what_is_drawn_for_images_is_as_secret_as_the_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else who knew the round's seed would see, in all others' draws, that a patient is there."""
    seeds: list[tuple[int, int, int]] = []

    def drawn(*_arguments: object, motion: Generator, draws: Generator, **_: object) -> object:
        dropout = torch.initial_seed()
        seeds.append((motion.initial_seed(), draws.initial_seed(), dropout))
        return PrivateOutcome(steps=2, drawn=0, refused=0, insecure=False)

    monkeypatch.setattr("client.private_trainer.train_private", drawn)
    base, config = base_of(CNN), config_of(CNN)
    for made in (replace(trainer(), insecure_seed=None), trainer()):
        for _ in range(2):
            made(base, config, 7)
    secret, again, known, same = seeds
    assert all(a != b for a, b in zip(secret, again, strict=True))
    assert known == same
    assert len(set(secret)) == 3
