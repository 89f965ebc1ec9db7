"""DP-SGD: what is clipped, what is drawn, what is refused, how much noise there is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from client.dp_modules import check_module
from client.dp_optimiser import PrivateOptimiser
from client.dp_oracle import check_uncoupled
from client.dpsgd import PrivateOutcome, PrivatePlan, UnitSampler, train_private
from client.learners import get_learner
from client.learners.phase import Supervised
from client.noise import Keystream
from client.privacy_plan import MIN_COHORT
from ledger.errors import (
    CohortTooSmall,
    ConfigError,
    CoupledSamples,
    NonFiniteGradient,
    UnsupportedModule,
)

LABELS = 3
SHAPE = ((1, 8, 8), LABELS)


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, LABELS))


def bce(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(
        logits, labels.float(), reduction="none"
    ).mean(dim=1)


class OnLogits:
    """The only part of a learner that the supervised phase needs."""

    def __init__(self, loss: object) -> None:
        self.loss = loss


def on_logits(loss: object) -> Supervised:
    return Supervised(OnLogits(loss))  # type: ignore[arg-type]


def data(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 1, 8, 8, generator=generator)
    return images, (torch.rand(count, LABELS, generator=generator) < 0.4).to(torch.int8)


def run(
    module: nn.Module, images: Tensor, labels: Tensor, plan: PrivatePlan, loss: object = bce
) -> PrivateOutcome:
    return train_private(
        module,
        on_logits(loss),
        lambda rows: (images[rows], labels[rows]),
        np.arange(len(images), dtype=np.int64),
        plan,
        public_units=len(images),
        input_shape=SHAPE,
        keystream=Keystream.insecure_test(5),
    )


def flat(module: nn.Module) -> NDArray[np.float32]:
    return np.concatenate([p.detach().numpy().ravel() for p in module.parameters()])


def plan(**changes: object) -> PrivatePlan:
    values: dict[str, object] = {
        "steps": 3, "sample_rate": 0.5, "noise_multiplier": 1.0, "learning_rate": 0.1,
        "optimiser": "sgd",
    } | changes  # fmt: skip
    return PrivatePlan(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("multiplier", [0.7, 2.0])
def test_the_measured_noise_is_the_declared_noise(multiplier: float) -> None:
    module, (images, labels) = tiny(), data(40)
    before = flat(module)
    chosen = plan(steps=1, noise_multiplier=multiplier, learning_rate=1.0, clip_norm=0.5)
    run(module, images, labels, chosen, lambda logits, labels: bce(logits, labels) * 0.0)
    moved = float(np.linalg.norm(flat(module) - before))
    expected = multiplier * np.sqrt(len(before)) / (0.5 * 40)  # in units of the clipping norm
    assert abs(moved / expected - 1) < 0.15


def test_the_sum_is_that_of_gradients_taken_and_clipped_one_by_one() -> None:
    module, (images, labels) = tiny(), data(40)
    parameters, before = list(module.parameters()), flat(module)
    expected = np.zeros_like(before)
    norms = []
    for row in range(40):
        alone = torch.autograd.grad(
            bce(module(images[row : row + 1]), labels[row : row + 1]).sum(), parameters
        )
        gradient = np.concatenate([g.numpy().ravel() for g in alone])
        norms.append(float(np.linalg.norm(gradient)))
        expected += gradient * min(1.0, 1.0 / norms[-1])
    assert min(norms) < 1.0 < max(norms)  # some are clipped, some are not
    run(module, images, labels, plan(steps=1, sample_rate=1.0, noise_multiplier=1e-9,
        learning_rate=1.0, clip_norm=1.0, physical_batch=16))  # fmt: skip
    np.testing.assert_allclose((before - flat(module)) * 40, expected, atol=2e-5)


def test_one_patient_moves_the_sum_by_at_most_the_clipping_norm() -> None:
    images, labels = data(40)
    images[0] *= 1e4
    chosen = plan(steps=1, sample_rate=1.0, noise_multiplier=1e-9, learning_rate=1.0, clip_norm=0.3)
    deltas = []
    for replacement in (images[0], images[1]):
        module = tiny()
        before = flat(module)
        changed = images.clone()
        changed[0] = replacement
        run(module, changed, labels, chosen)
        deltas.append((flat(module) - before) * 40)
    assert np.linalg.norm(deltas[0] - deltas[1]) <= 2 * 1.001  # in units of the clipping norm


def test_an_infinite_gradient_counts_as_zero() -> None:
    module, (images, labels) = tiny(), data(40)
    images[3] = float("inf")
    outcome = run(module, images, labels, plan(sample_rate=1.0))
    assert outcome.refused == 3
    assert np.isfinite(flat(module)).all()


def test_a_huge_but_finite_gradient_is_clipped_to_nothing_worse_than_the_norm() -> None:
    module, (images, labels) = tiny(), data(40)
    images[3] *= 1e30
    outcome = run(module, images, labels, plan(sample_rate=1.0, noise_multiplier=1e-9))
    assert outcome.refused <= 3
    assert np.isfinite(flat(module)).all()
    assert np.linalg.norm(flat(module) - flat(tiny())) <= 3 * 0.1 * 1.001


def test_a_sum_that_is_not_finite_refuses_the_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(self: PrivateOptimiser) -> None:
        for parameter in self.params:
            parameter.summed_grad = torch.full_like(parameter, float("nan"))

    monkeypatch.setattr(PrivateOptimiser, "clip_and_accumulate", broken)
    module, (images, labels) = tiny(), data(40)
    before = flat(module)
    with pytest.raises(NonFiniteGradient, match="refused"):
        run(module, images, labels, plan())
    np.testing.assert_array_equal(flat(module), before)


def test_chunks_give_what_one_batch_gives() -> None:
    results = []
    for physical in (7, 1000):
        module, (images, labels) = tiny(), data(40)
        run(module, images, labels, plan(physical_batch=physical))
        results.append(flat(module))
    np.testing.assert_allclose(results[0], results[1], atol=1e-6)


def test_a_part_may_learn_at_its_own_rate() -> None:
    moved = []
    for share in (1.0, 0.25):
        module, (images, labels) = tiny(), data(40)
        before = [p.detach().clone() for p in module.parameters()]
        train_private(
            module, on_logits(bce), lambda rows: (images[rows], labels[rows]), np.arange(40), # noqa: B023
            plan(), public_units=40, input_shape=SHAPE, keystream=Keystream.insecure_test(5),
            rate_share=lambda name: share if name.startswith("3.") else 0.0, # noqa: B023
        )  # fmt: skip
        moved.append([p.detach() - b for p, b in zip(module.parameters(), before, strict=True)])
    for full, part in zip(*moved, strict=True):
        assert part.norm() <= full.norm()
    assert float(moved[0][0].norm()) == 0.0
    assert float(moved[1][2].norm() / moved[0][2].norm()) == pytest.approx(0.25, rel=0.05)


def test_an_empty_draw_is_a_step_of_noise() -> None:
    module, (images, labels) = tiny(), data(40)
    before = flat(module)
    outcome = run(module, images, labels, plan(sample_rate=1e-9))
    assert outcome.drawn == 0
    assert np.linalg.norm(flat(module) - before) > 0


def test_multiplicity_averages_copies_before_clipping() -> None:
    results = []
    for copies in (1, 3):
        module, (images, labels) = tiny(), data(40)
        train_private(
            module, on_logits(bce), lambda rows: (images[rows], labels[rows]), np.arange(40), # noqa: B023
            plan(multiplicity=copies), public_units=40, input_shape=SHAPE,
            keystream=Keystream.insecure_test(5), augment=lambda batch: batch,
        )  # fmt: skip
        results.append(flat(module))
    np.testing.assert_allclose(results[0], results[1], atol=1e-6)


def test_a_patient_with_many_images_gives_one_a_draw() -> None:
    units = np.array([0] * 69 + list(range(1, 40)), dtype=np.int64)
    sampler = UnitSampler(units, 0.9, Keystream.insecure_test(1))
    seen = set()
    for _ in range(200):
        drawn = units[sampler.draw()]
        assert len(drawn) == len(set(drawn.tolist()))
        seen |= set(drawn.tolist())
    assert sampler.size == 40
    assert seen == set(range(40))


def test_a_small_cohort_is_refused() -> None:
    with pytest.raises(CohortTooSmall, match="at least"):
        UnitSampler(np.arange(MIN_COHORT - 1), 0.5, Keystream())


def test_an_unused_parameter_is_refused() -> None:
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(64, LABELS), nn.Linear(3, 3)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.used(images.flatten(1))
            return logits

    images, labels = data(40)
    with pytest.raises(UnsupportedModule, match="took no part"):
        run(Forgetful(), images, labels, plan())


@pytest.mark.parametrize("name", ["vit", "cnn"])
def test_learners_pass_the_microbatch_oracle(name: str) -> None:
    learner = get_learner(name)
    module = learner.build(0)
    check_module(module)
    shape = (1, learner.input_size, learner.input_size)
    phase = learner.phase("supervised")
    found = check_uncoupled(module, phase, image_shape=shape, labels=learner.labels)
    assert found < 1e-4


def test_a_loss_that_couples_samples_is_caught() -> None:
    def contrastive(logits: Tensor, labels: Tensor) -> Tensor:
        return bce(logits - logits.mean(dim=0, keepdim=True), labels)

    with pytest.raises(CoupledSamples):
        check_uncoupled(tiny(), on_logits(contrastive), image_shape=(1, 8, 8), labels=LABELS)
    images, labels = data(40)
    with pytest.raises(CoupledSamples):
        run(tiny(), images, labels, plan(), contrastive)


def batch_norm() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))


def timm_batch_norm() -> nn.Module:
    from timm.layers.norm_act import BatchNormAct2d

    return nn.Sequential(nn.Conv2d(1, 4, 3), BatchNormAct2d(4))


def running_instance_norm() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, track_running_stats=True))


def spectral() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)))


@pytest.mark.parametrize("make", [batch_norm, timm_batch_norm, running_instance_norm, spectral])
def test_modules_that_couple_samples_are_refused(make: object) -> None:
    with pytest.raises(UnsupportedModule):
        check_module(make())  # type: ignore[operator]


@pytest.mark.parametrize(
    "change", [{"steps": 0}, {"sample_rate": 0.0}, {"noise_multiplier": 0.0}, {"optimiser": "x"}]
)
def test_a_plan_out_of_range_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        plan(**change)
