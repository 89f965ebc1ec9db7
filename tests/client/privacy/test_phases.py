"""Private phases: one gradient an image of any loss, and what the oracle sees through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from client.checkpoint import Cadence, Checkpoint
from client.dp_gradients import FunctionalGradients, HookedGradients, gradients_of
from client.dp_modules import check_phases
from client.dp_oracle import check_uncoupled
from client.dpsgd import PrivateOutcome, PrivatePlan, train_private
from client.learners.determinism import deterministic
from client.learners.phase import Draws, Phase
from client.noise import Keystream
from client.optimisers import free_steps
from client.train import TrainPlan
from ledger.errors import CoupledSamples, UnsupportedModule
from tests.client.phases import SIDE, Adversarial, Toy, below

TOY = Toy()
SHAPE = ((1, SIDE, SIDE), 2)
PLAN = TrainPlan(batch_size=6, free_rate=1e-3, betas=(0.5, 0.9))


def data(count: int) -> tuple[Tensor, Tensor]:
    generator = Generator().manual_seed(1)
    images = torch.randn(count, 1, SIDE, SIDE, generator=generator)
    return images, (torch.rand(count, 2, generator=generator) < 0.4).to(torch.int8)


def plan(**changes: Any) -> PrivatePlan:
    values: dict[str, Any] = {
        "steps": 3, "sample_rate": 0.5, "noise_multiplier": 1.0, "learning_rate": 0.1,
        "optimiser": "sgd", "physical_batch": 16,
    } | changes  # fmt: skip
    return PrivatePlan(**values)


def run(
    module: nn.Module,
    chosen: PrivatePlan,
    *,
    images: Tensor | None = None,
    phase: Phase | None = None,
    **more: Any,
) -> PrivateOutcome:
    given, labels = data(40)
    pixels = given if images is None else images
    used = phase or Adversarial()
    free = free_steps(
        module, TOY, used, PLAN, generator=Generator().manual_seed(8), count=PLAN.batch_size
    )
    with deterministic(seed=2):  # the critic's dropout, when the generator asks it
        return train_private(
            module,
            used,
            lambda rows: (pixels[rows], labels[rows]),
            np.arange(len(pixels), dtype=np.int64),
            chosen,
            public_units=len(pixels),
            input_shape=SHAPE,
            keystream=Keystream.insecure_test(5),
            draws=Generator().manual_seed(7),
            free=free,
            **more,
        )


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before: dict[str, Tensor], module: nn.Module) -> set[str]:
    return {n for n, tensor in module.state_dict().items() if not torch.equal(before[n], tensor)}


def test_gradients_are_those_of_a_loop() -> None:
    """A gradient penalty through spectral norm, mapped over images in chunks of three."""
    module, phase = TOY.build(0).double(), Adversarial()
    images, labels = data(8)
    images = images.double()  # in float32 kernels differ by batch size at about 1e-6
    gradients = FunctionalGradients(module, phase, Generator().manual_seed(3), at_once=3)
    draws = gradients.draw(images, labels)
    found = gradients.of(images, labels, draws)
    assert set(found) == set(phase.trained(module))
    for row in range(8):
        one = slice(row, row + 1)
        loss = phase.loss(module, images[one], labels[one], {n: d[one] for n, d in draws.items()})
        alone = torch.autograd.grad(loss.sum(), list(gradients.parameters.values()))
        for name, gradient in zip(gradients.parameters, alone, strict=True):
            torch.testing.assert_close(found[name][row], gradient, rtol=1e-9, atol=1e-12)
            assert not found[name].requires_grad


def test_each_phase_gets_the_way_that_suits_it() -> None:
    module = TOY.build(0)
    assert isinstance(gradients_of(module, Adversarial(), Generator()), FunctionalGradients)
    from client.learners import get_learner

    cnn = get_learner("cnn", width=8, input_size=16, labels=2)
    plain = gradients_of(cnn.build(0), cnn.phase("supervised"), Generator())
    assert isinstance(plain, HookedGradients)


def test_noise_is_added_once_a_step_and_only_to_what_images_train(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[int] = []
    normals = Keystream.normals

    def counted(self: Keystream, count: int) -> Any:
        drawn.append(count)
        return normals(self, count)

    monkeypatch.setattr(Keystream, "normals", counted)
    module = TOY.build(0)
    before = state(module)
    run(module, plan(sample_rate=0.9, steps=4))
    sizes = [p.numel() for n, p in module.named_parameters() if n.startswith("critic.")]
    assert drawn == sizes * 4, "three chunks a step, one noise"
    phase = Adversarial()
    moved = {n for n in changed(before, module) if before[n].is_floating_point()}
    assert moved == set(phase.travels(module))


def test_the_measured_noise_is_the_declared_noise() -> None:
    class Silent(Adversarial):
        def loss(self, *given: Any) -> Tensor:
            return super().loss(*given) * 0.0

    module = TOY.build(0)
    names = below(module, "critic")
    before = state(module)
    run(module, plan(steps=1, learning_rate=1.0, noise_multiplier=2.0), phase=Silent())
    after = module.state_dict()
    moved = torch.cat([(after[n] - before[n]).flatten() for n in names])
    assert float(moved.std()) == pytest.approx(2.0 / (0.5 * 40), rel=0.15)


def test_one_patient_moves_the_sum_by_at_most_the_clipping_norm() -> None:
    images, _ = data(40)
    deltas = []
    for replacement in (images[0] * 1e3, images[1]):
        module = TOY.build(0)
        before = state(module)
        given = images.clone()
        given[0] = replacement
        run(module, plan(steps=1, sample_rate=1.0, noise_multiplier=1e-9, learning_rate=1.0,
            clip_norm=0.3), images=given)  # fmt: skip
        after = module.state_dict()
        names = below(module, "critic")
        deltas.append(torch.cat([(after[n] - before[n]).flatten() for n in names]) * 40)
    gap = float((deltas[0] - deltas[1]).norm())
    assert 0.1 < gap <= 2 * 1.001, "in units of the clipping norm"


def test_an_empty_draw_is_noise_and_the_generator_steps_all_the_same() -> None:
    module = TOY.build(0)
    before = state(module)
    assert run(module, plan(sample_rate=1e-9, steps=2)).drawn == 0
    moved = changed(before, module)
    assert set(below(module, "critic")) <= moved
    assert set(below(module, "generator")) <= moved


def test_multiplicity_draws_for_each_copy() -> None:
    module = TOY.build(0)
    run(module, plan(multiplicity=2, sample_rate=0.9, steps=1), augment=lambda batch: batch)
    with pytest.raises(CoupledSamples):
        run(module, plan(multiplicity=2), phase=Contrastive(), augment=lambda batch: batch)


class Contrastive(Adversarial):
    """Each image against the others of its batch: what a private phase must not do."""

    def loss(self, module: nn.Module, images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        opinions = module.get_submodule("critic")(images).squeeze(1)
        return torch.logsumexp(opinions, dim=0) - opinions  # type: ignore[no-any-return]


class Neighbours(Adversarial):
    """The image before as the negative: coupled by what is drawn."""

    def draw(
        self, module: nn.Module, images: Tensor, labels: Tensor, generator: Generator
    ) -> Draws:
        drawn = super().draw(module, images, labels, generator)
        return {**drawn, "fake": images.roll(1, dims=0)}


class Normed(Adversarial):
    """Private images through the generator's batch norm."""

    def loss(self, module: nn.Module, images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        made = module.made(images.flatten(1)[:, :4])  # type: ignore[operator]
        return super().loss(module, images, labels, {**draws, "fake": made})


class Remembering(Adversarial):
    """Private images into a buffer that travels."""

    def draw(
        self, module: nn.Module, images: Tensor, labels: Tensor, generator: Generator
    ) -> Draws:
        module.get_buffer("generator.1.running_mean").add_(images.mean())
        return super().draw(module, images, labels, generator)


class Idle(Adversarial):
    def trained(self, module: nn.Module) -> tuple[str, ...]:
        return (*super().trained(module), *below(module, "classifier"))


class Batched(Adversarial):
    """Trains batch norm on images."""

    def trained(self, module: nn.Module) -> tuple[str, ...]:
        return below(module, "generator")


@pytest.mark.parametrize(
    ("phase", "error", "words"),
    [
        (Contrastive(), CoupledSamples, "couples patients"),
        (Neighbours(), CoupledSamples, "draws 'fake'"),
        (Normed(), UnsupportedModule, "BatchNorm1d"),
        (Remembering(), UnsupportedModule, "running_mean"),
        (Idle(), UnsupportedModule, "took no part"),
        (Batched(), UnsupportedModule, "mixes patients"),
    ],
)
def test_the_oracle_refuses(phase: Phase, error: type[Exception], words: str) -> None:
    module = TOY.build(0)
    before = state(module)
    with pytest.raises(error, match=words):
        run(module, plan(), phase=phase)
    assert changed(before, module) == set()


def test_the_oracle_lets_the_honest_phase_pass() -> None:
    module = TOY.build(0)
    check_phases(module, (Adversarial(),))
    assert check_uncoupled(module, Adversarial(), image_shape=SHAPE[0], labels=2) < 1e-4


class Killed(BaseException):
    pass


def test_killed_it_goes_on_with_the_generators_optimiser(tmp_path: Path) -> None:
    def checkpoint() -> Checkpoint:
        cadence = Cadence(seconds=1e9, steps=1)
        return Checkpoint(path=tmp_path / "kept", binding=bytes(32), cadence=cadence)

    def dies(done: int, _steps: int) -> None:
        if done == 3:
            raise Killed

    undisturbed = TOY.build(0)
    run(undisturbed, plan(steps=5))
    with pytest.raises(Killed):
        run(TOY.build(0), plan(steps=5), checkpoint=checkpoint(), progress=dies)
    module = TOY.build(0)
    run(module, plan(steps=5), checkpoint=checkpoint())
    assert changed(state(undisturbed), module) == set()


class Held(Adversarial):
    """Every image against the same drawn one."""

    def share(self, module: nn.Module, generator: Generator) -> Draws:
        return {"same": torch.randn(4, generator=generator)}


def test_what_a_step_shares_is_drawn_once_into_however_many_parts_it_is_cut() -> None:
    """Drawn anew for each part, one patient more would change the terms of others."""
    module, phase = TOY.build(0), Held()
    gradients = FunctionalGradients(module, phase, Generator().manual_seed(3))
    images, labels = data(8)
    parts = [gradients.draw(images[rows], labels[rows]) for rows in (slice(0, 5), slice(5, 8))]
    assert torch.equal(parts[0]["same"][:3], parts[1]["same"])
    assert not torch.equal(parts[0]["fake"][:3], parts[1]["fake"])
    gradients.refresh()
    again = gradients.draw(images, labels)["same"]
    assert len(again) == 8
    assert not torch.equal(again[:5], parts[0]["same"])
    assert torch.equal(again[0], again[7])
    check_uncoupled(module, phase, image_shape=SHAPE[0], labels=SHAPE[1])
