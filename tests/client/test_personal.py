"""FedProx's pull, and what a hospital keeps of a model: its norms, or a head of its own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from client.evaluate_local import LocalEvaluator
from client.learners import Model, get_learner, module_to_model
from client.learners.interface import Learner
from client.local_tensors import LocalTensors
from client.plain_step import PlainSteps
from client.train import TrainPlan, train
from client.trainer import LocalTrainer, only_plain
from ledger.errors import CodecError, ConfigError, PolicyViolation
from ledger.manifest import Manifest

PLAN = TrainPlan(epochs=3, batch_size=8, learning_rate=5e-3)


def data(seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, (24, 2)).astype(np.int8)
    pixels = generator.integers(0, 80, (24, 1, 32, 32), dtype=np.uint8)
    pixels[labels[:, 0] == 1, :, :16] += 100
    return pixels, labels


def learner(**more: object) -> Learner:
    return get_learner("cnn", **{"width": 8, "input_size": 32, "labels": 2, **more})


def config(family: Learner, number: int = 1, **train: object) -> dict[str, object]:
    module = family.build(0)
    manifest = Manifest.of_model(module_to_model(module, family.shared(module)))
    return {
        "learner": family.describe(), "manifest": manifest.to_json(), "privacy": None,
        "data": None, "round": number, "rounds": 5, "train": {**PLAN.describe(), **train},
    }  # fmt: skip


def base_of(family: Learner) -> Model:
    module = family.build(3)
    return module_to_model(module, family.shared(module))


def trainer_of(local: LocalTensors | None = None) -> LocalTrainer:
    pixels, labels = data()
    return LocalTrainer(pixels=pixels, labels=labels, local=local)


# FedProx


def moved(mu: float) -> float:
    family = learner()
    module = family.build(3)
    before = torch.cat([p.detach().flatten() for p in module.parameters()])
    train(module, family, *data(), TrainPlan.from_description({**PLAN.describe(), "proximal": mu}),
          seed=0)  # fmt: skip
    return float((torch.cat([p.detach().flatten() for p in module.parameters()]) - before).norm())


def test_a_stronger_pull_stays_nearer() -> None:
    free, weak, strong = moved(0.0), moved(1.0), moved(100.0)
    assert strong < weak < free
    assert strong < 0.6 * free


def test_the_pull_is_the_papers_and_not_in_the_loss_told() -> None:
    """After one plain gradient step from w1, w2 - w1 = -rate (g + mu (w1 - w0))."""
    family = learner()
    pixels, labels = (torch.from_numpy(array) for array in data())
    images = pixels.float() / 100
    steps = {}
    for mu in (0.0, 2.0):
        module = family.build(3).train()
        plan = TrainPlan(
            proximal=mu, clip_norm=None, optimiser="sgd", learning_rate=0.1, weight_decay=0.0,
            final_share=1.0, warmup=0.0,
        )  # fmt: skip
        taking = PlainSteps(
            module, family, family.phase("supervised"), plan,
            draws=torch.Generator(), free=torch.Generator(),
        )  # fmt: skip
        anchor = [p.detach().clone() for p in module.parameters()]
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.01)
        start = [p.detach().clone() for p in module.parameters()]
        loss = taking.take(images, labels, 0.5)
        steps[mu] = loss, [p.detach() - s for p, s in zip(module.parameters(), start, strict=True)]
    assert steps[0.0][0] == steps[2.0][0]
    for plain, pulled, first in zip(steps[0.0][1], steps[2.0][1], anchor, strict=True):
        assert first.shape == plain.shape
        torch.testing.assert_close(pulled, plain - 0.1 * 2.0 * 0.01, rtol=1e-3, atol=1e-6)


def test_an_odd_pull_is_refused_and_private_rounds_have_none() -> None:
    for mu in (-1.0, 1e3, float("nan")):
        with pytest.raises(ConfigError):
            TrainPlan(proximal=mu)
    with pytest.raises(PolicyViolation):
        only_plain(learner(), TrainPlan(proximal=0.1))
    with pytest.raises(PolicyViolation):
        only_plain(learner(local="norms"), TrainPlan())
    only_plain(learner(), TrainPlan())


# Local tensors


@pytest.mark.parametrize("local", ["norms", "head"])
def test_a_round_starts_from_the_hospitals_own(tmp_path: Path, local: str) -> None:
    family = learner(local=local)
    trainer = trainer_of(LocalTensors(folder=tmp_path / "local"))
    base = base_of(family)
    first = trainer(base, config(family, 1), 0).model
    assert set(first) == set(base)
    second = trainer(base, config(family, 2), 0).model
    fresh = trainer_of(LocalTensors(folder=tmp_path / "other"))
    alone = fresh(base, config(family, 2), 0).model
    assert any(not np.array_equal(second[name], alone[name]) for name in base)
    # A crash after training: the same round again gives the same update.
    again = trainer(base, config(family, 2), 0).model
    assert all(np.array_equal(second[name], again[name]) for name in base)
    for number in range(3, 8):
        trainer.local.keep(family, family.build(0), number)  # type: ignore[union-attr]
    assert len(list((tmp_path / "local").iterdir())) == 3


def test_the_evaluator_scores_with_the_rounds_own(tmp_path: Path) -> None:
    family = learner(local="head")
    pixels, labels = data()
    local = LocalTensors(folder=tmp_path / "local")
    trained = trainer_of(local)(base_of(family), config(family, 1), 0)
    evaluator = LocalEvaluator(pixels=pixels, labels=labels, local=local)
    with_own = evaluator(trained.model, config(family, 1))
    without = LocalEvaluator(pixels=pixels, labels=labels)(trained.model, config(family, 1))
    before = evaluator(trained.model, config(family, 0))  # no round yet: the seed's head
    assert with_own["loss"] < without["loss"] == before["loss"]


def test_a_learner_that_keeps_nothing_writes_nothing(tmp_path: Path) -> None:
    family = learner()
    local = LocalTensors(folder=tmp_path / "local")
    trainer_of(local)(base_of(family), config(family, 1), 0)
    assert not (tmp_path / "local").exists()
    assert not local.restore(family, family.build(0), 9)


def test_no_place_and_damaged_files_are_refused(tmp_path: Path) -> None:
    family = learner(local="norms")
    with pytest.raises(PolicyViolation, match="no place"):
        trainer_of().check(config(family))
    local = LocalTensors(folder=tmp_path / "local")
    local.keep(family, family.build(0), 1)
    path = next((tmp_path / "local").iterdir())
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CodecError):
        local.restore(family, family.build(0), 1)
    assert path.stat().st_mode & 0o077 == 0


# Moments


def test_moments_travel_untrained() -> None:
    family = learner(moments=True)
    module = family.build(0)
    names = family.shared(module)
    assert sum(name.startswith("server_") for name in names) == 2 * len(list(module.parameters()))
    base = module_to_model(module, names)
    after = trainer_of()(base, config(family), 0).model
    for name in names:
        same = np.array_equal(base[name], after[name])
        assert same == name.startswith("server_"), name
    personal = learner(moments=True, local="head")
    built = personal.build(0)
    assert not any("head" in name for name in personal.shared(built))
