"""U-MultiClass: three classes a finding, from the loss to a private round; and U-SelfTrained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from client.data.records import UNCERTAIN
from client.data.uncertainty import classes, positive_probability
from client.evaluate_local import score_held_back
from client.learners import get_learner, module_to_model
from client.learners.inference import predict, to_probabilities
from client.learners.interface import Learner
from client.learners.losses import LOSSES, masked_bce, multiclass
from client.learners.metrics import score
from client.privacy_plan import PrivacyPlan
from client.private_trainer import PrivateTrainer
from client.self_train import local_plan, self_train
from client.train import TrainPlan, train
from ledger.errors import ConfigError
from ledger.manifest import Manifest
from ledger.statement import Unit
from tests.client.test_train import blobs

LABELS = torch.tensor([[1, 0, -2], [-1, -2, 1], [-1, -1, -1]], dtype=torch.int8)
PLAN = TrainPlan(epochs=5, batch_size=16, learning_rate=3e-3, warmup=0.0)


def learner(**options: Any) -> Learner:
    return get_learner(
        "cnn", **{"input_size": 32, "labels": 2, "width": 8, "objective": "multiclass", **options}
    )


def test_the_loss_is_a_cross_entropy_of_three_classes() -> None:
    logits = torch.randn((3, 9), generator=torch.Generator().manual_seed(0), requires_grad=True)
    truth = torch.from_numpy(classes(LABELS.numpy()))
    by_hand = functional.cross_entropy(
        logits.reshape(9, 3), truth.reshape(9), ignore_index=-1, reduction="none"
    ).reshape(3, 3)
    found = multiclass(logits, LABELS)
    torch.testing.assert_close(found, by_hand.sum(dim=1) / 3)
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    moved = logits.grad.reshape(3, 3, 3).abs().sum(dim=2) > 0
    assert torch.equal(moved, LABELS != -1), "unknown gives no gradient, uncertain does"


def test_uncertain_is_masked_by_every_other_loss() -> None:
    logits = torch.randn((3, 3), generator=torch.Generator().manual_seed(0))
    unknown = torch.where(LABELS == UNCERTAIN, -1, LABELS)
    for name in set(LOSSES) - {"multiclass"}:
        torch.testing.assert_close(LOSSES[name](logits, LABELS), LOSSES[name](logits, unknown))


def test_scores_leave_the_uncertain_class_out() -> None:
    logits = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    found = to_probabilities(learner(), logits)
    np.testing.assert_allclose(found, positive_probability(logits.reshape(5, 2, 3)), rtol=1e-5)
    pair = torch.from_numpy(logits.reshape(5, 2, 3)[:, :, :2])
    np.testing.assert_allclose(found, torch.softmax(pair, dim=2)[:, :, 1], rtol=1e-5)


def test_it_starts_at_the_prior() -> None:
    module = learner().build(0, [0.02, 0.3])
    bias = learner().head(module).bias.detach().reshape(1, -1)
    np.testing.assert_allclose(to_probabilities(learner(), bias.numpy()), [[0.02, 0.3]], rtol=1e-4)
    shares = torch.softmax(bias.reshape(2, 3), dim=1)
    np.testing.assert_allclose(shares[:, 2], [0.05, 0.05], rtol=1e-4)


@dataclass(frozen=True, kw_only=True)
class Narrow(Learner):
    """A learner written before there were classes: one output a finding."""

    name: ClassVar[str] = "narrow"

    def network(self) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(self.input_size**2, self.labels))

    def head(self, module: nn.Module) -> nn.Linear:
        found = module[1]  # type: ignore[index]
        assert isinstance(found, nn.Linear)
        return found


def test_a_network_without_the_classes_is_refused() -> None:
    Narrow(labels=2, input_size=32).build(0)
    with pytest.raises(ConfigError, match="gives 2 outputs where the objective multiclass needs 6"):
        Narrow(labels=2, input_size=32, objective="multiclass").build(0)


def half_uncertain(labels: NDArray[np.int8]) -> NDArray[np.int8]:
    hidden = np.random.default_rng(4).random(labels.shape) < 0.4
    return np.where(hidden, UNCERTAIN, labels).astype(np.int8)


def test_it_learns_beside_uncertain_labels() -> None:
    family = learner()
    module = family.build(0)
    images, labels = blobs(200)
    train(module, family, images, half_uncertain(labels), PLAN, seed=1)
    images, labels = blobs(100, seed=9)
    found = score(predict(module, family, images), labels, ("upper", "left")).macro_auc
    assert found is not None
    assert found > 0.85
    model = module_to_model(module, family.shared(module))
    scored = score_held_back(model, family, images, half_uncertain(labels))
    assert scored["auc"] > 0.85
    assert 0 < scored["loss"] < 2


def test_a_private_round_has_the_classes_too() -> None:
    family = learner()
    module = family.build(0)
    base = module_to_model(module, family.shared(module))
    images, labels = blobs(40)
    trainer = PrivateTrainer(
        pixels=images,
        labels=half_uncertain(labels),
        patients=np.arange(40, dtype=np.int64),
        insecure_seed=1,
    )
    run = PrivacyPlan(
        unit=Unit.PATIENT,
        noise_multiplier=10**6,
        sample_rate=3 * 10**8,
        steps=2,
        rounds=1,
        delta=10**7,
    )
    config = {
        "manifest": Manifest.of_model(base).to_json(),
        "learner": family.describe(),
        "train": PLAN.describe(),
        "privacy": {
            **run.to_config(),
            "clip_norm": 1.0,
            "multiplicity": 1,
            "physical_batch": 16,
        },
        "round": 1,
        "rounds": 1,
    }
    trainer.check(config)
    found = trainer({name: array.copy() for name, array in base.items()}, config, 3)
    assert any(not np.array_equal(found.model[name], base[name]) for name in base)


# ---- U-SelfTrained ----

BINARY = learner(objective="bce")


def test_uncertain_labels_become_what_the_own_model_makes_of_them() -> None:
    images, truth = blobs(200)
    labels = half_uncertain(truth)
    labels[:5, 0] = -1
    told: list[tuple[int, int]] = []
    found = self_train(BINARY, images, labels, PLAN, seed=2, progress=lambda *at: told.append(at))
    asked = labels == UNCERTAIN
    np.testing.assert_array_equal(found[~asked], labels[~asked])
    assert set(np.unique(found[asked])) == {0, 1}
    assert (found[asked] == truth[asked]).mean() > 0.8, "half would be chance"
    assert told[-1][0] == told[-1][1]


def test_the_same_seed_gives_the_same_labels() -> None:
    images, truth = blobs(20)
    labels, short = half_uncertain(truth), local_plan(PLAN, 1)
    first, again, other = (self_train(BINARY, images, labels, short, seed=s) for s in (2, 2, 3))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_nothing_uncertain_trains_nothing() -> None:
    images, truth = blobs(10)
    told: list[int] = []
    found = self_train(BINARY, images, truth, PLAN, seed=0, progress=lambda *_at: told.append(1))
    np.testing.assert_array_equal(found, truth)
    assert not told


def test_self_training_needs_one_output_a_finding() -> None:
    with pytest.raises(ConfigError, match="without a class"):
        self_train(learner(), *blobs(10), PLAN, seed=0)


def test_the_local_plan_is_a_run_of_its_own() -> None:
    plan = local_plan(PLAN.for_round(3, 4), 7)
    assert (plan.epochs, plan.span, plan.batch_size) == (7, (0.0, 1.0), PLAN.batch_size)


def test_the_masked_loss_is_not_moved_by_uncertain_rows() -> None:
    logits: Tensor = torch.zeros((1, 3))
    row = torch.tensor([[-2, -2, -2]], dtype=torch.int8)
    assert float(masked_bce(logits, row)) == 0.0
