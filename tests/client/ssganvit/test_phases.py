"""Each phase: what it trains, that it learns, and that an image's term is its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from client.dp_modules import check_phases
from client.dp_oracle import check_uncoupled
from client.learners.losses import masked_bce
from client.learners.phase import Phase
from client.learners.ssganvit.adversarial import finding_loss, generate
from client.learners.ssganvit.learner import SSGANViTLearner
from client.learners.ssganvit.network import SSGANViT
from ledger.errors import ConfigError, UnsupportedModule
from tests.client.ssganvit.small import LABELS, LossOf, batch, drawn, small

PHASES = ("adversarial", "self_supervised", "supervised")
LITERAL = {"critic_output": "sigmoid", "label_output": "softmax", "gan_augmentation": "extra"}
HYBRID = {"stem": "mobilenet", "patch": 32, "train_stem": False}
BATCH = {"stem": "mobilenet", "patch": 32, "stem_norm": "batch"}
NO_BLOCKS = {"depth": 0}
PLAIN = {"depth": 0, "fusion": False}


def network(learner: SSGANViTLearner, seed: int = 0) -> SSGANViT:
    module = learner.build(seed)
    assert isinstance(module, SSGANViT)
    return module.train()


def gradients(phase: Phase, module: SSGANViT, *, rows: slice, seed: int = 1) -> dict[str, Tensor]:
    """Gradients of the mean loss of some rows, their draws made in the whole batch."""
    images, labels = batch()
    draws = {name: d[rows] for name, d in drawn(phase, module, images, labels, seed).items()}
    names = phase.trained(module)
    parameters = dict(module.named_parameters())
    loss = phase.loss(module, images[rows], labels[rows], draws).mean()
    found = torch.autograd.grad(loss, [parameters[name] for name in names])
    return dict(zip(names, found, strict=True))


def per_image(phase: Phase, module: SSGANViT) -> dict[str, Tensor]:
    """Gradients image by image, as private training takes them."""
    images, labels = batch()
    draws = drawn(phase, module, images, labels)
    call = LossOf(phase, module)
    everything = {f"module.{n}": p.detach() for n, p in module.named_parameters()}

    def one(trained: dict[str, Tensor], image: Tensor, label: Tensor, row: dict[str, Tensor]):  # type: ignore[no-untyped-def]
        alone = image[None], label[None], {name: value[None] for name, value in row.items()}
        state = {**everything, **{f"module.{n}": p for n, p in trained.items()}}
        return functional_call(call, state, alone).squeeze(0)

    trained = {name: everything[f"module.{name}"] for name in phase.trained(module)}
    found: dict[str, Tensor] = vmap(grad(one), in_dims=(None, 0, 0, 0))(
        trained, images, labels, draws
    )
    return found


@pytest.mark.parametrize("name", PHASES)
@pytest.mark.parametrize(
    "options",
    [{}, LITERAL, NO_BLOCKS, PLAIN],
    ids=["ours", "literal", "no blocks", "no blocks, no fusion"],
)
def test_an_image_s_gradient_is_its_own_and_comes_out_of_vmap(
    name: str, options: dict[str, object]
) -> None:
    learner = small(**options)
    module, phase = network(learner), learner.phase(name)
    whole = gradients(phase, module, rows=slice(None))
    singles = [gradients(phase, module, rows=slice(row, row + 1)) for row in range(3)]
    vmapped = per_image(phase, module)
    largest = max(float(g.abs().max()) for g in whole.values())
    for parameter, mean in whole.items():
        alone = torch.stack([single[parameter] for single in singles])
        assert torch.allclose(alone.mean(dim=0), mean, atol=2e-6 * max(largest, 1)), parameter
        assert torch.allclose(vmapped[parameter], alone, atol=1e-5 * max(largest, 1)), parameter


@pytest.mark.parametrize("name", PHASES)
def test_a_hospital_s_oracle_agrees(name: str) -> None:
    learner = small()
    module, phase = network(learner), learner.phase(name)
    assert check_uncoupled(module, phase, image_shape=(1, 32, 32), labels=LABELS) < 1e-5


@pytest.mark.parametrize("name", PHASES)
def test_draws_of_a_row_depend_on_no_other_image(name: str) -> None:
    """Not even on how many there are, as batch norm over the generated ones would."""
    learner = small()
    module, phase = network(learner), learner.phase(name)
    images, labels = batch()
    before = drawn(phase, module, images, labels)
    images[1:] = 5.0
    labels[1:] = 0
    after = drawn(phase, module, images, labels)
    for key, value in before.items():
        assert torch.equal(value[0], after[key][0]), key
    noise = torch.randn(4, learner.latent), torch.zeros(4, LABELS)
    several = module.generator(*noise, settled=True)
    alone = module.generator(noise[0][:1], noise[1][:1], settled=True)
    assert torch.allclose(several[:1], alone, atol=1e-6)


@pytest.mark.parametrize("options", [{}, NO_BLOCKS], ids=["blocks", "no blocks"])
@pytest.mark.parametrize("name", PHASES)
def test_every_parameter_of_a_phase_learns_and_nothing_else_changes(
    name: str, options: dict[str, object]
) -> None:
    """The loss of one batch falls; what does not travel stays bit for bit."""
    learner = small(**options)
    module, phase = network(learner), learner.phase(name)
    images, labels = batch(8)
    start = {key: value.clone() for key, value in module.state_dict().items()}
    parameters = dict(module.named_parameters())
    trained, free = phase.trained(module), phase.free(module)
    optimiser = torch.optim.Adam([parameters[name] for name in trained], lr=3e-3)
    others = torch.optim.Adam([parameters[name] for name in free] or [torch.zeros(1)], lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    fixed = drawn(phase, module, images, labels)
    losses = []
    for _ in range(12):
        loss = phase.loss(module, images, labels, fixed).mean()
        for parameter, slope in zip(
            trained,
            torch.autograd.grad(loss, [parameters[n] for n in trained]),
            strict=True,
        ):
            parameters[parameter].grad = slope
        optimiser.step()
        losses.append(float(loss.detach()))
        if free:
            made = phase.free_loss(module, 4, generator)
            for parameter, slope in zip(
                free, torch.autograd.grad(made, [parameters[n] for n in free]), strict=True
            ):
                parameters[parameter].grad = slope
            others.step()
    assert losses[-1] < losses[0]
    travels = set(phase.travels(module))
    for key, value in module.state_dict().items():
        assert torch.equal(value, start[key]) != (key in travels), key


def test_phases_part_the_model_and_share_the_encoder() -> None:
    learner = small()
    module = network(learner)
    travels = {name: set(learner.phase(name).travels(module)) for name in PHASES}
    assert not travels["adversarial"] & (travels["self_supervised"] | travels["supervised"])
    shared = travels["self_supervised"] & travels["supervised"]
    assert shared == {n for n in travels["supervised"] if n.startswith("encoder.")}
    assert set.union(*travels.values()) == set(learner.shared(module))
    assert {n.split(".")[0] for n in travels["adversarial"]} == {"critic", "generator"}
    assert "generator.norms.0.running_mean" in travels["adversarial"]
    assert [learner.phase(name).scored for name in PHASES] == [False, False, True]


def test_frozen_stems_travel_in_no_phase() -> None:
    learner = small(**HYBRID)
    module = network(learner)
    stem = {n for n in learner.shared(module) if "backbone" in n}
    assert any(name.endswith("running_var") for name in stem)
    for name in PHASES:
        assert not stem & set(learner.phase(name).travels(module))
    trainable = small(**{**HYBRID, "train_stem": True})
    travels = set(trainable.phase("supervised").travels(network(trainable)))
    assert stem - travels == {name for name in stem if "running_" in name}


def test_a_stem_with_batch_norm_shares_its_statistics_and_cannot_be_private() -> None:
    learner = small(**BATCH)
    module = network(learner)
    images, labels = batch(8)
    stem = {name for name in learner.shared(module) if "backbone" in name}
    statistics = {name for name in stem if "running_" in name}
    assert len(statistics) == 2 * 52
    for name in PHASES[1:]:
        phase = learner.phase(name)
        start = {key: value.clone() for key, value in module.state_dict().items()}
        phase.loss(module, images, labels, drawn(phase, module, images, labels))
        changed = {n for n, v in module.state_dict().items() if not torch.equal(v, start[n])}
        counts = {name for name in changed if name.endswith("num_batches_tracked")}
        assert changed - counts == statistics
        assert stem <= set(phase.travels(module))
        assert not counts & set(phase.travels(module))
    with pytest.raises(UnsupportedModule, match="mixes patients"):
        check_phases(module, [learner.phase("supervised")])


@pytest.mark.parametrize("depth", [0, 2])
def test_no_task_no_self_supervised_phase(depth: int) -> None:
    tasks = ("rotation", "colour", "masked", "triplet", "nt_xent")
    off = {**dict.fromkeys(tasks, 0.0), "depth": depth}
    with pytest.raises(ConfigError, match="no self-supervised task"):
        small(**off).phase("self_supervised")
    for task in tasks:
        learner = small(**{**off, task: 1.0})
        module, phase = network(learner), learner.phase("self_supervised")
        images, labels = batch()
        loss = phase.loss(module, images, labels, drawn(phase, module, images, labels))
        assert loss.shape == (3,)
        assert (loss > 0).all()
        # also without blocks, where nothing but the mean holds the critic's tokens
        assert gradients(phase, module, rows=slice(None)).keys() == set(phase.trained(module))
    with pytest.raises(ConfigError, match="no phase"):
        small().phase("other")


@pytest.mark.parametrize("augmentation", ["none", "mix", "extra"])
def test_generated_images_weigh_what_is_asked(augmentation: str) -> None:
    learner = small(gan_augmentation=augmentation, deep_weight=0.0, augmentation_weight=0.5)
    module, phase = network(learner), learner.phase("supervised")
    images, labels = batch()
    draws = drawn(phase, module, images, labels)
    found = phase.loss(module, images, labels, draws)
    plain = masked_bce(module(images), labels)
    if augmentation == "none":
        assert not draws
        expected = plain
    elif augmentation == "extra":
        expected = plain + 0.5 * masked_bce(module(draws["made"]), draws["shown"])
    else:
        share = draws["share"]
        assert ((share >= 0) & (share <= 0.5)).all()
        logits = module((1 - share) * images + share * draws["made"])
        real, made = masked_bce(logits, labels), masked_bce(logits, draws["shown"])
        expected = (1 - share.flatten()) * real + share.flatten() * made
    assert torch.allclose(found, expected, atol=1e-5)


def test_findings_of_generated_images_are_the_prior_s_or_the_critic_s() -> None:
    told = small(prior=(0.01, 0.5, 0.99))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        made = generate(network(told), told, 500, generator)
    shares = made["labels"].double().mean(dim=0).numpy()
    assert np.allclose(shares, (0.01, 0.5, 0.99), atol=0.05)
    one = small(labels=1)
    with torch.no_grad():
        made = generate(network(one), one, 500, generator)
    assert 0.4 < made["labels"].double().mean() < 0.6, "also films without the only finding"
    free = small(conditional=False)
    module = network(free)
    with torch.no_grad():
        made = generate(module, free, 5, generator)
        opinion = module.critic(made["image"])[1]
    assert torch.equal(made["labels"] == 1, opinion > 0)
    assert module.generator.labels == 0


def test_softmax_over_findings_is_the_paper_s_and_masks_the_unknown() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [2.0, 0.0, -1.0], [2.0, 0.0, -1.0]])
    labels = torch.tensor([[1, 0, 0], [1, -1, 1], [0, 0, 0]], dtype=torch.int8)
    found = finding_loss(logits, labels, "softmax")
    first = -torch.log_softmax(logits[0], dim=0)[0]
    among = -torch.log_softmax(logits[1][[0, 2]], dim=0).mean()
    assert torch.allclose(found, torch.stack([first, among, torch.tensor(0.0)]), atol=1e-6)
    assert torch.equal(finding_loss(logits, labels, "sigmoid"), masked_bce(logits, labels))


def test_negatives_teach_a_stem_s_batch_norm_nothing_and_are_not_normed_by_each_other() -> None:
    learner = small(**BATCH)
    module, phase = network(learner), learner.phase("self_supervised")
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with torch.no_grad():
        found = phase.share(module, torch.Generator().manual_seed(1))["negatives"]
    assert found.shape == (learner.negatives, learner.projection)
    assert module.training
    assert all(torch.equal(before[name], buffer) for name, buffer in module.named_buffers())
    with torch.no_grad():
        settled = phase.share(module.eval(), torch.Generator().manual_seed(1))["negatives"]
    assert torch.equal(found, settled)
