"""A hospital's own label odds, taken out of what it teaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from client.learners import get_learner
from client.learners.cnn import ConvolutionalLearner
from client.learners.inputs import standardise
from client.learners.interface import Learner
from client.learners.label_odds import check_adjustable, own_odds
from client.learners.phase import ODDS, SUPERVISED, Draws, Phase
from client.learners.ssganvit.learner import SSGANViTLearner
from client.learners.ssganvit.network import SSGANViT
from client.plain_step import PlainSteps
from client.self_train import local_plan
from client.train import TrainPlan, train
from client.trainer import LocalTrainer, only_plain
from ledger.errors import ConfigError, PolicyViolation
from tests.client.ssganvit.small import batch, drawn, small
from tests.client.test_personal import base_of, config

PRIOR = (0.2, 0.5)
ADJUSTED = TrainPlan(logit_adjustment=1.0)
BOTH = np.full((2, 1, 8, 8), 60, dtype=np.uint8)
BOTH[0, :, :, 4:] = BOTH[1, :, :, :4] = 200


@dataclass(frozen=True, kw_only=True)
class Side(Learner):
    """Odds from which half of a film is bright, and nothing else."""

    name: ClassVar[str] = "side"

    def network(self) -> nn.Module:
        halves = nn.AdaptiveAvgPool2d((1, 2))
        return nn.Sequential(halves, nn.Flatten(), nn.Linear(2, self.outputs))

    def head(self, module: nn.Module) -> nn.Linear:
        head = module.get_submodule("2")
        assert isinstance(head, nn.Linear)
        return head


def films(share: float, count: int = 4000) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """Draw a hospital: with the finding the left is bright in 80 % of films, without it in 20 %."""
    generator = np.random.default_rng(int(1000 * share))
    present = generator.random(count) < share
    left = generator.random(count) < np.where(present, 0.8, 0.2)
    right_bright, left_bright = BOTH
    pixels = np.where(left[:, None, None, None], left_bright, right_bright)
    return pixels, present[:, None].astype(np.int8)


def taught(share: float, weight: float, prior: float = 0.3) -> NDArray[np.float64]:
    """Return the logits that such a hospital teaches of a film bright right, and of one left."""
    learner = Side(labels=1, input_size=8, prior=(prior,))
    module = learner.build(0)
    plan = TrainPlan(
        epochs=6, batch_size=100, learning_rate=0.1, weight_decay=0.0, logit_adjustment=weight
    )
    train(module, learner, *films(share), plan, seed=0)
    with torch.no_grad():
        logits: NDArray[np.float64] = module(standardise(torch.from_numpy(BOTH))).double().numpy()
    return logits[:, 0]


def test_hospitals_of_other_shares_teach_the_same_odds_once_adjusted() -> None:
    rare, frequent = taught(0.05, 0.0), taught(0.6, 0.0)
    apart = np.log(0.6 / 0.4) - np.log(0.05 / 0.95)
    np.testing.assert_allclose(frequent - rare, apart, atol=0.5)
    # By Bayes: the prior's odds, times how much likelier such a film is with the finding.
    true = np.log(0.3 / 0.7) + np.log([0.2 / 0.8, 0.8 / 0.2])
    for share in (0.05, 0.6):
        np.testing.assert_allclose(taught(share, 1.0), true, atol=0.25)


def test_the_odds_are_those_of_what_is_known() -> None:
    labels = np.array([[1, 0], [0, 0], [0, -1], [0, -2], [-1, 1]], dtype=np.int8)
    odds = own_odds(labels, PRIOR, 1.0)
    # Two pseudo-images of the prior: (1 + 0.4) to (3 + 1.6), and (1 + 1) to (2 + 1).
    expected = np.log([1.4 / 4.6, 2 / 3]) - np.log([0.2 / 0.8, 1.0])
    np.testing.assert_allclose(odds.numpy(), expected, rtol=1e-5)
    assert odds.dtype == torch.float32
    np.testing.assert_allclose(own_odds(labels, PRIOR, 0.5).numpy(), expected / 2, rtol=1e-5)


def test_a_finding_that_a_hospital_never_saw_has_low_odds_and_not_none() -> None:
    odds = own_odds(np.zeros((1000, 2), dtype=np.int8), PRIOR, 1.0)
    assert torch.isfinite(odds).all()
    assert (odds < -5).all()
    nothing = own_odds(np.full((10, 2), -1, dtype=np.int8), PRIOR, 1.0)
    np.testing.assert_allclose(nothing.numpy(), 0, atol=1e-6)  # who labels nothing knows nothing


@pytest.mark.parametrize("augmentation", ["none", "mix", "extra"])
def test_generated_findings_carry_no_hospital_s_odds(augmentation: str) -> None:
    learner = small(gan_augmentation=augmentation, augmentation_weight=1.0)
    phase, module = learner.phase(SUPERVISED), learner.build(0).eval()
    images, labels = batch()
    draws = drawn(phase, module, images, labels)
    odds = torch.full((len(images), learner.labels), -2.0)
    if augmentation == "mix":  # of nothing but the generated image
        draws["share"] = torch.ones_like(draws["share"])
    plain = phase.loss(module, images, labels, draws)
    moved = phase.loss(module, images, labels, {**draws, ODDS: odds})
    if augmentation == "mix":
        torch.testing.assert_close(plain, moved)
        return
    torch.testing.assert_close(
        moved - plain, own_part(learner, module, images, labels, odds), rtol=1e-4, atol=1e-5
    )


def own_part(
    learner: SSGANViTLearner, module: nn.Module, images: Tensor, labels: Tensor, odds: Tensor
) -> Tensor:
    """Return what odds change in the loss of the images' own findings, opinions among it."""
    assert isinstance(module, SSGANViT)
    said = module.tell(images)
    changes = [
        learner.loss(each + odds, labels) - learner.loss(each, labels)
        for each in (said.logits, *said.opinions)
    ]
    whole: Tensor = changes[0] + learner.deep_weight * torch.stack(changes[1:]).mean(dim=0)
    return whole


def test_the_critic_s_findings_are_adjusted_and_its_realness_is_not() -> None:
    learner = small(penalty=0.0)
    phase, module = learner.phase("adversarial"), learner.build(0)
    images, labels = batch()
    draws = drawn(phase, module, images, labels)
    odds = torch.full((len(images), learner.labels), -2.0)
    plain = phase.loss(module, images, labels, draws)
    moved = phase.loss(module, images, labels, {**draws, ODDS: odds})
    assert not torch.allclose(plain, moved)
    assert not small(label_output="softmax").phase("adversarial").adjusted
    silent = small(penalty=0.0, finding_weight=0.0).phase("adversarial")
    torch.testing.assert_close(
        silent.loss(module, images, labels, draws),
        silent.loss(module, images, labels, {**draws, ODDS: odds}),
    )


def test_a_step_is_taken_on_adjusted_logits() -> None:
    learner = Side(labels=1, input_size=8, prior=(0.3,))
    pixels, labels = films(0.5, 16)
    images = torch.from_numpy(pixels).float() / 100
    found = []
    for odds in (None, torch.zeros(1), torch.tensor([-3.0])):
        module = learner.build(0)
        steps = PlainSteps(
            module, learner, learner.phase(SUPERVISED), TrainPlan(),
            draws=torch.Generator(), free=torch.Generator(), odds=odds,
        )  # fmt: skip
        found.append(steps.take(images, torch.from_numpy(labels), 0.5))
    assert found[0] == found[1] != found[2]


class Deaf(Phase):
    """Tells findings by a loss that knows of no odds."""

    name: ClassVar[str] = SUPERVISED
    scored: ClassVar[bool] = True

    def trained(self, module: nn.Module) -> tuple[str, ...]:
        return tuple(sorted(name for name, _ in module.named_parameters()))

    def loss(self, module: nn.Module, images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        out: Tensor = module(images).square().mean(1)
        return out


@pytest.mark.parametrize(
    ("options", "deaf", "why"),
    [
        ({}, False, "prior"),
        ({"prior": PRIOR, "objective": "multiclass"}, False, "objective bce"),
        ({"prior": PRIOR, "objective": "focal"}, False, "objective bce"),
        ({"prior": PRIOR, "objective": "asymmetric"}, False, "objective bce"),
        ({"prior": PRIOR}, True, "adjusts no logits"),
    ],
)
def test_what_cannot_be_adjusted_is_refused(options: dict[str, Any], deaf: bool, why: str) -> None:
    learner = ConvolutionalLearner(labels=2, input_size=32, width=8, **options)
    phase = Deaf() if deaf else learner.phase(SUPERVISED)
    with pytest.raises(ConfigError, match=why):
        check_adjustable(learner, phase)
    pixels = np.zeros((4, 1, 32, 32), dtype=np.uint8)
    with pytest.raises(ConfigError, match=why):
        train(
            learner.build(0), learner, pixels, np.zeros((4, 2), dtype=np.int8), ADJUSTED,
            seed=0, phase=phase,
        )  # fmt: skip


def test_a_hospital_refuses_before_it_trains_what_it_cannot_adjust() -> None:
    trainer = LocalTrainer(
        pixels=np.zeros((4, 1, 32, 32), dtype=np.uint8), labels=np.zeros((4, 2), dtype=np.int8)
    )
    family = get_learner("cnn", width=8, input_size=32, labels=2)
    with pytest.raises(PolicyViolation, match="prior"):
        trainer.check(config(family, logit_adjustment=1.0))
    knowing = get_learner("cnn", width=8, input_size=32, labels=2, prior=PRIOR)
    trainer.check(config(knowing, logit_adjustment=1.0))
    assert trainer(base_of(knowing), config(knowing, logit_adjustment=1.0), 0).metrics


def test_private_rounds_adjust_nothing() -> None:
    learner = get_learner("cnn", width=8, input_size=32, labels=2, prior=PRIOR)
    with pytest.raises(PolicyViolation, match="private labels"):
        only_plain(learner, ADJUSTED)
    only_plain(learner, TrainPlan())


def test_a_weight_is_a_share() -> None:
    for weight in (-0.1, 1.1, float("nan"), True, "1"):
        with pytest.raises(ConfigError, match="logit_adjustment"):
            TrainPlan(logit_adjustment=weight)  # type: ignore[arg-type]


def test_a_hospital_s_own_model_keeps_its_odds() -> None:
    assert local_plan(ADJUSTED, 3).logit_adjustment == 0.0
