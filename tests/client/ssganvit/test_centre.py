"""A pretrained stem's centre: a task of its own to learn, and taken away before the head."""

from __future__ import annotations

import pytest
import torch

from client.dp_modules import check_phases
from client.dp_oracle import check_uncoupled
from client.learners.ssganvit.centre import Centre
from ledger.errors import ConfigError
from tests.client.ssganvit.small import LABELS, batch, drawn, small
from tests.client.ssganvit.test_phases import gradients, network, per_image

HYBRID = {"stem": "mobilenet", "patch": 32, "train_stem": False, "fusion": False}
NO_TASK = dict.fromkeys(("rotation", "colour", "masked", "triplet", "nt_xent"), 0.0)


def tokens(count: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    common = 3 * torch.randn((1, 1, 16), generator=generator)
    return common + torch.randn((count, 4, 16), generator=generator)


def test_the_centre_is_drawn_to_the_mean_and_leaves_none() -> None:
    centre, seen = Centre(16), tokens()
    assert torch.allclose(centre(seen).norm(dim=1), torch.full((40,), 4.0), atol=1e-3)
    optimiser = torch.optim.SGD(centre.parameters(), lr=0.3)
    for _ in range(40):
        centre.middle.grad = torch.autograd.grad(centre.loss(seen).mean(), centre.middle)[0]
        optimiser.step()
    assert float(centre(seen).mean(dim=0).norm()) < 1e-4
    assert float(centre(seen).norm(dim=1).mean()) > 0.1


def test_the_head_moves_neither_the_centre_nor_the_centre_the_features() -> None:
    centre, seen = Centre(16), tokens()
    assert centre.loss(seen).requires_grad
    assert not centre(seen).requires_grad
    centre.requires_grad_(requires_grad=False)
    seen.requires_grad_()
    assert not centre.loss(seen).requires_grad
    assert centre(seen).requires_grad


@pytest.mark.parametrize("tasks", [{}, NO_TASK], ids=["beside the tasks", "alone"])
def test_an_image_s_term_is_its_own(tasks: dict[str, float]) -> None:
    learner = small(**HYBRID, **tasks, centre=2.0)
    module = network(learner)
    for name in ("self_supervised", "supervised"):
        phase = learner.phase(name)
        trained = phase.trained(module)
        assert ("centre.middle" in trained) == (name == "self_supervised")
        whole, vmapped = gradients(phase, module, rows=slice(None)), per_image(phase, module)
        largest = max(float(g.abs().max()) for g in whole.values())
        for parameter, mean in whole.items():
            found = vmapped[parameter].mean(dim=0)
            assert torch.allclose(found, mean, atol=1e-5 * max(largest, 1)), parameter
        assert check_uncoupled(module, phase, image_shape=(1, 32, 32), labels=LABELS) < 1e-4
    check_phases(module, [learner.phase(name) for name in learner.phases])


def test_alone_it_is_all_that_self_supervision_trains() -> None:
    learner = small(**HYBRID, **NO_TASK, centre=1.0)
    module, phase = network(learner), learner.phase("self_supervised")
    assert phase.trained(module) == ("centre.middle",)
    assert drawn(phase, module, *batch()) == {}
    assert learner.schedule(3) == {"adversarial": 1, "self_supervised": 1, "supervised": 1}


def test_the_head_reads_the_stem_beside_the_mean_token() -> None:
    learner = small(**HYBRID, centre=1.0)
    head = learner.head(learner.build(0))
    assert head.in_features == learner.width + 1280
    assert not head.weight.any()
    assert network(learner)(batch()[0]).shape == (3, LABELS)


def test_it_is_refused_where_it_would_be_of_nothing() -> None:
    with pytest.raises(ConfigError, match="mobile stem"):
        small(centre=1.0)
    with pytest.raises(ConfigError, match="train_stem"):
        small(**{**HYBRID, "train_stem": True}, centre=1.0)
    learner = small(**HYBRID, **NO_TASK, centre=1.0)
    for unlearnt in (
        ["supervised"],
        ["adversarial", "supervised"],
        ["supervised", "self_supervised"],
    ):
        with pytest.raises(ConfigError, match="before the first supervised"):
            learner.check_phases(unlearnt)
    learner.check_phases([*learner.schedule(2)])
    learner.check_phases(["adversarial"])
    small().check_phases(["supervised"])
