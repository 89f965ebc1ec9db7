"""Training by phases: what changes, what does not, and going on after a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from client.checkpoint import Cadence, Checkpoint
from client.learners import module_to_model, registry
from client.train import TrainPlan, train
from client.trainer import LocalTrainer, phase_of
from ledger.errors import NonFiniteUpdate, PolicyViolation
from ledger.manifest import Manifest
from tests.client.phases import SIDE, Adversarial, Toy

TOY = Toy()
PLAN = TrainPlan(
    epochs=2, batch_size=4, optimiser="adam", betas=(0.5, 0.9), learning_rate=2e-3, clip_norm=None
)


def images(count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 255, (count, 1, SIDE, SIDE), dtype=np.uint8)
    return pixels, generator.integers(0, 2, (count, 2)).astype(np.int8)


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {n for n in before if not torch.equal(before[n], after[n])}


@pytest.mark.parametrize("name", TOY.phases)
def test_only_what_the_phase_trains_changes(name: str) -> None:
    module, phase = TOY.build(0), TOY.phase(name)
    before = state(module)
    plan = TrainPlan(epochs=1, batch_size=4, proximal=0.5)
    train(module, TOY, *images(), plan, seed=1, phase=phase)
    moved = changed(before, state(module))
    floating = {n for n in moved if before[n].is_floating_point()}
    assert floating == set(phase.travels(module))
    assert all(p.requires_grad for p in module.parameters())


def test_a_critic_learns_and_the_generator_follows() -> None:
    module = TOY.build(0)
    losses = [
        train(module, TOY, *images(32), PLAN, seed=n, phase=Adversarial()).loss for n in range(6)
    ]
    assert losses[-1] < losses[0]


def test_the_generator_steps_as_often_as_the_phase_says() -> None:
    counts = []

    class Counting(Adversarial):
        def free_loss(
            self, module: nn.Module, count: int, generator: torch.Generator
        ) -> torch.Tensor:
            counts.append(count)
            return super().free_loss(module, count, generator)

    train(TOY.build(0), TOY, *images(), PLAN, seed=0, phase=Counting())
    assert counts == [4, 4, 4], "six steps, one of the generator's after every second"


def test_free_rates_follow_the_plan() -> None:
    assert PLAN.free_rate_at(0.5) == PLAN.rate(0.5)
    own = TrainPlan(learning_rate=1.0, free_rate=1e-3)
    assert own.free_rate_at(0.5) == pytest.approx(1e-3 * own.rate(0.5))
    sgd = TrainPlan(optimiser="sgd", learning_rate=0.5, warmup=0.0)
    assert sgd.free_rate_at(0.0) == pytest.approx(1e-4)


def test_a_generator_that_diverges_is_named() -> None:
    class Broken(Adversarial):
        def free_loss(self, *_: Any) -> torch.Tensor:
            return torch.tensor(float("nan"))

    with pytest.raises(NonFiniteUpdate, match="generated"):
        train(TOY.build(0), TOY, *images(), PLAN, seed=0, phase=Broken())


class Killed(BaseException):
    pass


def test_killed_it_goes_on_with_both_optimisers_and_all_draws(tmp_path: Path) -> None:
    def checkpoint() -> Checkpoint:
        cadence = Cadence(seconds=1e9, steps=1)
        return Checkpoint(path=tmp_path / "kept", binding=bytes(32), cadence=cadence)

    def dies(done: int, _total: int) -> None:
        if done in (1, 3, 4):
            raise Killed

    undisturbed = TOY.build(0)
    expected = train(undisturbed, TOY, *images(), PLAN, seed=5, phase=Adversarial())
    for _ in range(3):
        with pytest.raises(Killed):
            train(
                TOY.build(0), TOY, *images(), PLAN, seed=5, phase=Adversarial(),
                checkpoint=checkpoint(), progress=dies,
            )  # fmt: skip
    module = TOY.build(0)
    found = train(
        module, TOY, *images(), PLAN, seed=5, phase=Adversarial(), checkpoint=checkpoint()
    )
    assert found == expected
    assert changed(state(undisturbed), state(module)) == set()


# ---- the trainer of a round ----


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {**registry.BUILT_IN, "toy": "tests.client.phases:Toy"}
    monkeypatch.setattr(registry, "BUILT_IN", known)


def config(name: str, **changes: Any) -> dict[str, Any]:
    module = TOY.build(0)
    manifest = Manifest.of_model(module_to_model(module, TOY.shared(module)))
    return {
        "manifest": manifest.to_json(),
        "learner": TOY.describe(),
        "train": PLAN.describe(),
        "privacy": None,
        "phase": {"name": name, "round": 1, "rounds": 2},
        "travels": list(TOY.phase(name).travels(module)),
        "round": 3,
        "rounds": 6,
        **changes,
    }


def trainer() -> LocalTrainer:
    pixels, labels = images()
    return LocalTrainer(pixels=pixels, labels=labels)


@pytest.mark.parametrize("name", TOY.phases)
def test_a_round_gives_exactly_what_travels(name: str) -> None:
    module = TOY.build(0)
    base = module_to_model(module, TOY.shared(module))
    asked = config(name)
    trainer().check(asked)
    update = trainer()(dict(base), asked, 3).model
    assert list(update) == asked["travels"]
    assert all(not np.array_equal(update[n], base[n]) for n in update)


def test_a_phases_round_stands_in_the_phases_schedule() -> None:
    module = TOY.build(0)
    base = module_to_model(module, TOY.shared(module))
    last = {"name": "supervised", "round": 2, "rounds": 2}
    one, two = (
        trainer()(dict(base), config("supervised", **changes), 3).model
        for changes in ({}, {"phase": last})
    )
    assert any(not np.array_equal(one[n], two[n]) for n in one)


@pytest.mark.parametrize(
    "change",
    [
        {"phase": {"name": "dreaming", "round": 1, "rounds": 2}},
        {"phase": "supervised"},
        {"travels": ["classifier.1.bias"]},
        {"travels": []},
        {"travels": ["nothing"]},
        {"phase": {"name": "adversarial", "round": 1, "rounds": 2}},
    ],
)
def test_other_phases_and_tensors_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(PolicyViolation):
        trainer().check(config("supervised", **change))


def test_a_configuration_that_names_no_phase_means_the_last() -> None:
    assert phase_of(TOY, {}).name == "supervised"
    asked = config("supervised")
    del asked["phase"]
    trainer().check(asked)
    del asked["travels"]
    with pytest.raises(PolicyViolation, match="supervised trains"):
        trainer().check(asked)
