"""Learners: the interface, what travels, and that every loss and network keeps samples apart."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import ClassVar

import numpy as np
import pytest
import torch
from opacus.grad_sample import GradSampleModule
from torch import nn

from client.dp_modules import check_module
from client.dp_standardised import per_sample_gradients
from client.learners import (
    from_description,
    get_learner,
    learner_names,
    load_model,
    module_to_model,
    registry,
)
from client.learners.augment import Augmentation, augment
from client.learners.inference import predict
from client.learners.inputs import standardise
from client.learners.interface import Learner
from client.learners.losses import LOSSES, MULTICLASS
from client.learners.standardised import StandardisedConv2d
from ledger.errors import ConfigError, DataError, NonFiniteUpdate, SpecMismatch, UnsupportedModule
from ledger.manifest import Manifest, decode_model, encode_model

SMALL: dict[str, dict[str, object]] = {
    "vit": {"width": 32, "depth": 1, "heads": 2, "input_size": 32, "labels": 3},
    "cnn": {"width": 8, "input_size": 32, "labels": 3},
}


def small(name: str, **more: object) -> Learner:
    return get_learner(name, **{**SMALL[name], **more})


def batch(count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, 2, (count, 3), generator=generator, dtype=torch.int8)
    return torch.randn((count, 1, 32, 32), generator=generator), labels


@dataclass(frozen=True, kw_only=True)
class Linear(Learner):
    """The example of the interface's docstring: a whole learner in a few lines."""

    name: ClassVar[str] = "linear"

    def network(self) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(self.input_size**2, self.labels))

    def head(self, module: nn.Module) -> nn.Linear:
        head = module.get_submodule("1")
        assert isinstance(head, nn.Linear)
        return head


@dataclass(frozen=True, kw_only=True)
class Normed(Learner):
    """With batch norm and an integer buffer, as a third party may have."""

    name: ClassVar[str] = "normed"

    def network(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(8, self.labels),
        )  # fmt: skip

    def head(self, module: nn.Module) -> nn.Linear:
        head = module.get_submodule("4")
        assert isinstance(head, nn.Linear)
        return head


@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_learner_keeps_the_interface(name: str) -> None:
    learner = small(name)
    module = learner.build(1, [0.5, 0.1, 0.01])
    images, labels = batch()
    logits = module(images)
    assert logits.shape == (4, 3)
    assert learner.loss(logits, labels).shape == (4,)
    assert learner.features(module, images).ndim == 2
    assert from_description(learner.describe()) == learner
    model = module_to_model(module, learner.shared(module))
    manifest = Manifest.of_model(model)
    again = decode_model(encode_model(model), manifest)
    other = learner.build(2)
    load_model(other, again, learner.shared(other))
    assert torch.equal(other.eval()(images), module.eval()(images))


@pytest.mark.parametrize("name", sorted(SMALL))
def test_equal_seeds_build_equal_models_and_touch_nothing_global(name: str) -> None:
    learner = small(name)
    before = torch.get_rng_state()
    models = [
        module_to_model(module, learner.shared(module))
        for module in (learner.build(7), learner.build(7), learner.build(8))
    ]
    assert torch.equal(torch.get_rng_state(), before)
    assert encode_model(models[0]) == encode_model(models[1]) != encode_model(models[2])


@pytest.mark.parametrize("name", sorted(SMALL))
def test_output_starts_at_the_prior(name: str) -> None:
    learner = small(name)
    module = learner.build(0, [0.5, 0.1, 0.0])
    with torch.no_grad():
        learner.head(module).weight.zero_()
        shares = torch.sigmoid(module(batch()[0]))[0]
    assert shares.tolist() == pytest.approx([0.5, 0.1, 1e-4], rel=1e-4)
    assert learner.head(learner.build(0)).bias.eq(0).all()


@pytest.mark.parametrize("prior", [[0.5], [0.5, 0.5, 1.5], [0.5, float("nan"), 0.5]])
def test_a_wrong_prior_is_refused(prior: list[float]) -> None:
    with pytest.raises(ConfigError):
        small("cnn").build(0, prior)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_samples_are_not_coupled(name: str) -> None:
    """Per-sample gradients (Opacus) are the gradients of batches of one: the microbatch oracle."""
    learner = small(name)
    module = learner.build(3)
    check_module(module)
    images, labels = batch()
    assert StandardisedConv2d in GradSampleModule.GRAD_SAMPLERS
    wrapped = GradSampleModule(module, loss_reduction="sum")
    torch.autograd.backward(learner.loss(wrapped(images.requires_grad_()), labels).sum())
    found = {n: p.grad_sample for n, p in wrapped.named_parameters()}
    oracle = learner.build(3)
    for row in range(len(images)):
        oracle.zero_grad()
        single = learner.loss(oracle(images[row : row + 1]), labels[row : row + 1]).sum()
        torch.autograd.backward(single)
        for key, parameter in oracle.named_parameters():
            assert parameter.grad is not None
            torch.testing.assert_close(
                found[f"_module.{key}"][row], parameter.grad, rtol=1e-3, atol=1e-6
            )


def test_batch_norm_is_an_option_that_private_training_refuses() -> None:
    learner = small("vit", stem_norm="batch")
    module = learner.build(0)
    assert any("running_mean" in name for name in learner.shared(module))
    with pytest.raises(UnsupportedModule):
        check_module(module)


def test_float_buffers_travel_and_integer_ones_do_not() -> None:
    learner = Normed()
    module = learner.build(0)
    assert {n for n in learner.shared(module) if n.startswith("1.")} == {
        "1.bias", "1.weight", "1.running_mean", "1.running_var",
    }  # fmt: skip


def test_tied_parameters_travel_once() -> None:
    module = Linear().build(0)
    module.register_module("again", module.get_submodule("1"))
    assert Linear().shared(module) == ("1.bias", "1.weight")


def test_a_third_partys_learner_needs_two_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("linear", f"{__name__}:Linear", registry.ENTRY_POINTS)
    stolen = EntryPoint("vit", f"{__name__}:Linear", registry.ENTRY_POINTS)
    odd = EntryPoint("odd", f"{__name__}:batch", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry, stolen, odd])
    assert get_learner("linear", labels=2) == Linear(labels=2)
    assert learner_names() == tuple(sorted({*registry.BUILT_IN, "linear", "odd"}))
    assert type(small("vit")).__name__ == "VisionTransformerLearner"
    with pytest.raises(ConfigError, match="not a Learner"):
        get_learner("odd")
    learner = Linear(labels=2, input_size=32)
    features = learner.features(learner.build(0), batch()[0])
    assert features.shape == (4, 32 * 32)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet-9000", {}),
        ("vit", {"colour": 1}),
        ("vit", {"labels": 0}),
        ("vit", {"labels": 2.0}),
        ("vit", {"depth": 10**9}),
        ("vit", {"depth": True}),
        ("vit", {"width": 48}),
        ("vit", {"heads": 3}),
        ("vit", {"patch": 4}),
        ("vit", {"input_size": 60}),
        ("vit", {"dropout": float("nan")}),
        ("vit", {"mlp_ratio": "2"}),
        ("vit", {"stem_norm": "instance"}),
        ("vit", {"objective": "hinge"}),
        ("cnn", {"width": 12}),
        ("cnn", {"width": 10**6}),
    ],
)
def test_a_coordinators_odd_options_are_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        get_learner(name, **options)


def test_a_description_without_name_is_refused() -> None:
    with pytest.raises(ConfigError):
        from_description({"labels": 3})


@pytest.mark.parametrize("objective", sorted(set(LOSSES) - {MULTICLASS}))
def test_unknown_labels_give_no_gradient(objective: str) -> None:
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), requires_grad=True)
    labels = torch.tensor([[1, 0, -1], [-1, -1, -2]], dtype=torch.int8)
    torch.autograd.backward(LOSSES[objective](logits, labels).sum())
    assert logits.grad is not None
    assert logits.grad.ne(0).tolist() == [[True, True, False], [False, False, False]]


def test_bce_is_the_mean_over_all_labels() -> None:
    logits, labels = torch.zeros(1, 4), torch.tensor([[1, 0, -1, -1]], dtype=torch.int8)
    assert LOSSES["bce"](logits, labels).item() == pytest.approx(2 * np.log(2) / 4)
    assert LOSSES["focal"](logits, labels).item() == pytest.approx(2 * np.log(2) / 4 / 4)


def test_focal_loss_is_least_where_the_network_is_right() -> None:
    odds = torch.tensor([[np.log(4.0)] * 2])  # p = 0.8
    found = [LOSSES["focal"](odds, torch.tensor([[truth, -1]])).item() for truth in (1, 0)]
    by_hand = (-(0.2**2) * np.log(0.8) / 2, -(0.8**2) * np.log(0.2) / 2)
    assert found == pytest.approx(by_hand, rel=1e-5)


def test_an_empty_draw_has_no_gradient() -> None:
    layer = StandardisedConv2d(2, 4, 3)
    found = per_sample_gradients(layer, [torch.zeros(0, 2, 8, 8)], torch.zeros(0, 4, 8, 8))
    assert [tuple(gradient.shape) for gradient in found.values()] == [(0, 4, 2, 3, 3)]


def test_standardised_filters_ignore_what_is_common() -> None:
    layer = StandardisedConv2d(3, 5, 3)
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    assert layer(torch.ones(1, 3, 6, 6))[inner].abs().max() < 1e-5
    with torch.no_grad():
        images = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
        before = layer(images)
        layer.weight.mul_(3).add_(0.7)
        torch.testing.assert_close(layer(images), before, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda m: m | {"extra": np.zeros(1, np.float32)}, SpecMismatch),
        (lambda m: {k: v for k, v in m.items() if k != "1.bias"}, SpecMismatch),
        (lambda m: m | {"1.bias": np.zeros(2, np.float32)}, SpecMismatch),
        (lambda m: m | {"1.bias": np.zeros(14, np.float64)}, SpecMismatch),
        (lambda m: m | {"1.bias": np.full(14, np.inf, np.float32)}, NonFiniteUpdate),
    ],
)
def test_a_foreign_model_changes_nothing(change: object, error: type[Exception]) -> None:
    learner = Linear()
    module = learner.build(0)
    names = learner.shared(module)
    before = module_to_model(module, names)
    with pytest.raises(error):
        load_model(module, change(module_to_model(learner.build(1), names)), names)  # type: ignore[operator]
    assert encode_model(module_to_model(module, names)) == encode_model(before)


def test_only_float32_is_shared() -> None:
    module = Linear().build(0).double()
    with pytest.raises(ConfigError, match="float32"):
        module_to_model(module, ["1.bias"])
    with pytest.raises(ConfigError, match="nothing"):
        module_to_model(module, ["nothing"])


def test_exported_arrays_are_copies() -> None:
    module = Linear().build(0)
    model = module_to_model(module, ["1.bias"])
    model["1.bias"][:] = 9
    assert not module.get_parameter("1.bias").eq(9).any()


def test_images_are_standardised_one_by_one() -> None:
    from client.data.preprocess import normalise

    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 16, 16), dtype=np.uint8)
    pixels[2] = 40
    found = standardise(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(found, normalise(pixels), atol=1e-5)
    assert found.mean(axis=(1, 2, 3)) == pytest.approx([0, 0, 0], abs=1e-5)
    assert found.std(axis=(1, 2, 3)) == pytest.approx([1, 1, 0], abs=1e-5)


def test_augmentation_moves_by_its_own_generator_only() -> None:
    images = batch()[0]
    how = Augmentation(rotation=10, shift=0.1, zoom=0.1, flip=True)
    before = torch.get_rng_state()
    one, two, other = (
        augment(images, how, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert augment(images, Augmentation(), torch.Generator()) is images


def test_flip_mirrors_and_shift_keeps_the_image_within_reach() -> None:
    images = torch.arange(64.0).reshape(1, 1, 8, 8).repeat(40, 1, 1, 1)
    found = augment(images, Augmentation(flip=True), torch.Generator().manual_seed(0))
    mirrored = [torch.allclose(image, images[0].flip(-1), atol=1e-3) for image in found]
    kept = [torch.allclose(image, images[0], atol=1e-3) for image in found]
    assert [a != b for a, b in zip(mirrored, kept, strict=True)] == [True] * 40
    assert 5 < sum(mirrored) < 35
    shifted = augment(images, Augmentation(shift=0.25), torch.Generator().manual_seed(0))
    # Rows differ by 8, columns by 1: a quarter of 8 pixels moves the middle by 18 at most.
    assert (shifted[:, 0, 2:6, 2:6] - images[:, 0, 2:6, 2:6]).abs().max() <= 18 + 1e-3


@pytest.mark.parametrize("wrong", [{"rotation": 90}, {"shift": -0.1}, {"zoom": "1"}, {"flip": 1}])
def test_odd_augmentations_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Augmentation(**wrong)  # type: ignore[arg-type]


def test_prediction_is_bounded_and_restores_the_mode() -> None:
    learner = Linear(labels=3, input_size=32)
    module = learner.build(0)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 1, 32, 32), dtype=np.uint8)
    told: list[tuple[int, int]] = []
    whole = predict(module, learner, pixels)
    parts = predict(module, learner, pixels, batch_size=2, progress=lambda *at: told.append(at))
    assert module.training
    np.testing.assert_allclose(whole, parts, rtol=1e-5)
    assert told == [(2, 5), (4, 5), (5, 5)]
    assert whole.min() >= 0
    assert whole.max() <= 1
    with pytest.raises(DataError):
        predict(module, learner, pixels[:0])


def test_a_variance_that_quantising_took_below_zero_is_zero_and_predicts() -> None:
    """Found in a real run: a rounded mean of variances was -1.3e-5, and its root NaN."""
    learner = get_learner("mobilenetv2", input_size=32, labels=2, norm="batch")
    module = learner.build(0)
    names = learner.shared(module)
    model = module_to_model(module, names)
    name = next(name for name in names if name.endswith(".running_var"))
    model[name] = np.full_like(model[name], -1.3e-5)
    load_model(module, model, names)
    assert not module.state_dict()[name].any()
    with torch.no_grad():
        assert bool(torch.isfinite(module.eval()(torch.zeros(1, 1, 32, 32))).all())
