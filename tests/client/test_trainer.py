"""The real trainer behind the agent's interface, and what it refuses before anything is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.guard import NoPrivacy
from client.home import HospitalSpec, evaluator_of, training_of
from client.learners import get_learner, module_to_model
from client.policy import Policy
from client.private_guard import PrivacyAccountGuard
from client.private_trainer import PrivateTrainer
from client.train import TrainPlan
from client.trainer import TRAIN_METRICS, LocalTrainer, plan_of
from ledger.errors import PolicyError, PolicyViolation, SpecMismatch
from ledger.manifest import Manifest
from tests.client.test_app import SPEC, shard

LEARNER = get_learner("cnn", input_size=16, labels=14, width=8)
MODULE = LEARNER.build(0)
BASE = module_to_model(MODULE, LEARNER.shared(MODULE))


def config(**changes: Any) -> dict[str, Any]:
    return {
        "manifest": Manifest.of_model(BASE).to_json(),
        "learner": LEARNER.describe(),
        "train": TrainPlan(epochs=1, batch_size=4).describe(),
        "privacy": None,
        "round": 1,
        "rounds": 2,
        **changes,
    }


@pytest.fixture
def trainer() -> LocalTrainer:
    generator = np.random.default_rng(3)
    return LocalTrainer(
        pixels=generator.integers(0, 255, (10, 1, 16, 16)).astype(np.uint8),
        labels=generator.integers(0, 2, (10, 14)).astype(np.int8),
    )


def copy_of(model: dict[str, Any]) -> dict[str, Any]:
    return {name: array.copy() for name, array in model.items()}


def test_training_is_repeatable_and_moves_every_tensor(trainer: LocalTrainer) -> None:
    first, again = (trainer(copy_of(BASE), config(), 5) for _ in range(2))
    other = trainer(copy_of(BASE), config(), 6)
    assert list(first.model) == list(BASE)
    for name, array in first.model.items():
        assert np.array_equal(array, again.model[name])
        assert not np.array_equal(array, BASE[name])
    assert any(not np.array_equal(first.model[n], other.model[n]) for n in BASE)
    assert set(first.metrics) == set(TRAIN_METRICS)
    assert first.metrics["train_examples"] == 10.0
    assert first.metrics["train_steps"] == 3.0


@pytest.mark.parametrize(
    "change",
    [
        {"learner": {"name": "no such learner"}},
        {"learner": {**LEARNER.describe(), "weights": "/somewhere"}},
        {"learner": {**LEARNER.describe(), "width": -1}},
        {"learner": "cnn"},
        {"manifest": [["w", "F32", [4]]]},
        {"train": {"epochs": 1, "data": "/somewhere"}},
        {"train": {"epochs": 10**9}},
        {"train": {"learning_rate": 1e9}},
        {"train": {"augmentation": {"upload": 1}}},
        {"train": 1},
        {"round": 0},
        {"rounds": 0},
        {"rounds": "many"},
    ],
)
def test_what_cannot_be_trained_is_refused_beforehand(
    trainer: LocalTrainer, change: dict[str, Any]
) -> None:
    with pytest.raises(PolicyViolation):
        trainer.check(config(**change))


def test_a_private_round_is_not_trained_without_privacy(trainer: LocalTrainer) -> None:
    with pytest.raises(PolicyError):
        trainer.check(config(privacy={"unit": "patient"}))


def test_a_base_of_another_learner(trainer: LocalTrainer) -> None:
    base = copy_of(BASE)
    base.pop(next(iter(base)))
    with pytest.raises(SpecMismatch):
        trainer(base, config(), 5)


def test_rounds_beyond_the_plan_stay_at_its_end() -> None:
    assert plan_of(config(round=7)) == plan_of(config(round=2))


@pytest.mark.parametrize("privacy", ["patient", "image"])
def test_private_training_exactly_where_the_policy_asks(tmp_path: Path, privacy: str) -> None:
    spec: HospitalSpec = SPEC
    trainer, guard = training_of(tmp_path, spec, Policy(), shard())
    assert isinstance(trainer, LocalTrainer)
    assert isinstance(guard, NoPrivacy)
    trainer, guard = training_of(tmp_path, spec, Policy(privacy=privacy), shard())
    assert isinstance(trainer, PrivateTrainer)
    assert isinstance(guard, PrivacyAccountGuard)
    assert trainer.insecure_seed is None


def test_no_held_back_images_means_no_scores() -> None:
    assert evaluator_of(shard()) is not None
    empty = shard(
        held_pixels=np.zeros((0, 1, 8, 8), np.uint8),
        held_labels=np.zeros((0, 14), np.int8),
        held_patients=np.zeros(0, np.int64),
    )
    assert evaluator_of(empty) is None
