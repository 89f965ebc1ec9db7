"""timm's networks behind the interface, initial weights, balanced losses, an installed learner."""

import sys
from importlib import invalidate_caches
from pathlib import Path

import numpy as np
import pytest
import torch
from opacus.grad_sample import GradSampleModule
from safetensors.torch import save_file
from torch import nn

from client.dp_gradients import HookedGradients
from client.dp_modules import check_module, is_plain, quiet_hooks
from client.learners import from_description, get_learner, learner_names, module_to_model
from client.learners.inference import predict, to_probabilities
from client.learners.interface import Learner
from client.learners.losses import LOSSES, asymmetric, balance_weights
from client.learners.pretrained import load_pretrained
from client.train import TrainPlan, train
from ledger.errors import ConfigError, DataError, UnsupportedModule
from ledger.manifest import Manifest, decode_model, encode_model

PARAMETERS = {
    "resnet18": 11.2, "densenet121": 7.0, "efficientnet_b4": 17.6, "mobilenetv2": 2.2,
    "xception": 20.8, "vit_tiny": 5.4, "vit_small": 21.4,
}  # fmt: skip
"""Millions, with one input channel and three labels."""


def small(name: str, **more: object) -> Learner:
    return get_learner(name, **{"input_size": 32, "labels": 3, **more})


def images(count: int = 2) -> torch.Tensor:
    return torch.randn((count, 1, 32, 32), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_baseline_keeps_the_interface(name: str) -> None:
    learner = small(name)
    module = learner.build(0, [0.5, 0.1, 0.01]).eval()
    check_module(module.train())
    logits = module.eval()(images())
    assert logits.shape == (2, 3)
    assert learner.features(module, images()).shape == (2, learner.head(module).in_features)
    assert from_description(learner.describe()) == learner
    millions = sum(p.numel() for p in module.parameters()) / 1e6
    assert millions == pytest.approx(PARAMETERS[name], abs=0.1)
    assert set(learner.shared(module)) == set(dict(module.named_parameters()))  # no statistics


@pytest.mark.parametrize("name", ["resnet18", "xception"])
def test_samples_are_not_coupled(name: str) -> None:
    learner = small(name)
    module = learner.build(1).double()  # deep group norms magnify what float32 rounds away
    labels = torch.tensor([[1, 0, -1], [0, 1, 1]], dtype=torch.int8)
    wrapped = GradSampleModule(module, loss_reduction="sum")
    with quiet_hooks():
        torch.autograd.backward(learner.loss(wrapped(images().double()), labels).sum())
    oracle = learner.build(1).double()
    torch.autograd.backward(learner.loss(oracle(images()[1:].double()), labels[1:]).sum())
    found = dict(wrapped.named_parameters())
    for key, parameter in oracle.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(
            found[f"_module.{key}"].grad_sample[1], parameter.grad, rtol=1e-6, atol=1e-9
        )


def test_batch_norm_travels_but_its_counts_do_not() -> None:
    learner = small("resnet18", norm="batch")
    module = learner.build(0)
    shared = learner.shared(module)
    assert sum("running" in name for name in shared) == 40
    assert not any("num_batches_tracked" in name for name in shared)
    with pytest.raises(UnsupportedModule):
        check_module(module)
    model = module_to_model(module, shared)
    assert set(decode_model(encode_model(model), Manifest.of_model(model))) == set(shared)


def test_spectral_norms_vectors_travel() -> None:
    learner = small("cnn")
    module = learner.build(0)
    nn.utils.parametrizations.spectral_norm(learner.head(module))
    shared = learner.shared(module)
    assert {name for name in shared if name.endswith(("._u", "._v"))} == {
        "head.parametrizations.weight.0._u", "head.parametrizations.weight.0._v",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {"norm": "layer"}),
        ("resnet18", {"trained": "tail"}),
        ("resnet18", {"norm": "frozen"}),
        ("resnet18", {"norm": "batch", "trained": "head"}),
        ("resnet18", {"norm": "frozen", "trained": "head", "local": "head"}),
        ("vit_tiny", {"input_size": 40}),
        ("xception", {"input_size": 16}),
    ],
)
def test_odd_options_are_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        get_learner(name, **options)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_colour_weights_become_grey_and_the_head_stays_fresh(tmp_path: Path, suffix: str) -> None:
    learner = small("resnet18", norm="batch")
    donor = learner.build(5).state_dict()
    colour = {**donor, "conv1.weight": torch.rand(64, 3, 7, 7), "fc.weight": torch.rand(3, 512)}
    path = tmp_path / f"resnet{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": colour}, path)
    else:
        save_file(colour, path)
    module = learner.build(0)
    found = load_pretrained(module, learner, str(path))
    state, seed = module.state_dict(), learner.build(0).state_dict()
    torch.testing.assert_close(state["conv1.weight"], colour["conv1.weight"].sum(1, keepdim=True))
    assert torch.equal(state["layer4.1.conv2.weight"], donor["layer4.1.conv2.weight"])
    assert torch.equal(state["fc.weight"], seed["fc.weight"])
    assert (found.adapted, found.source) == (("conv1.weight",), path.name)
    assert set(found.fresh) == {"fc.bias", "fc.weight"}
    assert 0.99 < found.share < 1


def test_weights_under_other_names_are_known_by_their_order(tmp_path: Path) -> None:
    """As torchvision's file of MobileNetV2 is: the same 314 tensors, called features.0.0.weight."""
    learner = small("mobilenetv2", norm="batch")
    donor = learner.build(5).state_dict()
    given = {f"features.{place}": tensor for place, tensor in enumerate(donor.values())}
    given["features.0"] = torch.rand(32, 3, 3, 3)
    path = tmp_path / "mobilenet.pth"
    torch.save(given, path)
    module = learner.build(0)
    found = load_pretrained(module, learner, str(path))
    assert torch.equal(
        module.state_dict()["blocks.3.0.conv_dw.weight"], donor["blocks.3.0.conv_dw.weight"]
    )
    assert (found.adapted, len(found.fresh)) == (("conv_stem.weight",), 2)
    swapped = dict(zip(given, reversed(given.values()), strict=True))
    torch.save(swapped, path)
    with pytest.raises(DataError, match="another network"):
        load_pretrained(module, learner, str(path))


def test_weights_that_hardly_fit_or_carry_code_are_refused(tmp_path: Path) -> None:
    learner = small("resnet18")
    module = learner.build(0)
    before = encode_model(module_to_model(module, learner.shared(module)))
    other = tmp_path / "other.safetensors"
    save_file(small("cnn").build(0).state_dict(), other)
    code = tmp_path / "code.pth"
    torch.save({"weights": Path("x")}, code)  # an object, not a tensor: weights_only refuses
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x08")
    for path in (other, code, broken, tmp_path / "absent.pth"):
        with pytest.raises(DataError):
            load_pretrained(module, learner, str(path))
    assert encode_model(module_to_model(module, learner.shared(module))) == before


def test_the_hub_says_clearly_what_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="give a file"):
        load_pretrained(small("cnn").build(0), small("cnn"), "hub")
    import huggingface_hub.constants

    # As on a machine without a network, whether this one has one or not.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", "/nonexistent")
    learner = small("resnet18")
    with pytest.raises(ConfigError, match="download the weights"):
        load_pretrained(learner.build(0), learner, "hub")


# Linear probes


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b4", "mobilenetv2"])
def test_a_probe_computes_what_its_weights_did_and_shares_its_head_alone(
    tmp_path: Path, name: str
) -> None:
    whole = small(name, norm="batch").build(5)
    for key, buffer in whole.named_buffers():
        if key.endswith("running_mean"):
            buffer.normal_(std=0.1)
        elif key.endswith("running_var"):
            buffer.uniform_(0.9, 1.1)
    path = tmp_path / "weights.safetensors"
    save_file(whole.state_dict(), path)
    learner = small(name, norm="frozen", trained="head")
    assert "head" in learner.needs_weights()
    module = learner.build(0)
    found = load_pretrained(module, learner, str(path))
    head = {
        f"{prefix}.{key}"
        for prefix, layer in module.named_modules()
        for key in ("weight", "bias")
        if layer is learner.head(module)
    }
    assert set(found.fresh) == head
    expected = learner.features(whole.eval(), images())
    with torch.no_grad():
        # Also while it trains: nothing in it looks at a batch.
        found_features = learner.features(module.train(), images())
    torch.testing.assert_close(found_features, expected, rtol=1e-3, atol=1e-4)
    phase = learner.phase("supervised")
    assert set(phase.trained(module)) == set(phase.travels(module)) == head
    assert set(learner.shared(module)) > head


def test_a_probe_trains_privately_and_moves_nothing_else() -> None:
    learner = small("mobilenetv2", norm="frozen", trained="head")
    module = learner.build(1)
    check_module(module.train())
    phase = learner.phase("supervised")
    assert is_plain(phase)
    labels = torch.tensor([[1, 0, -1], [0, 1, 1]], dtype=torch.int8)
    gradients = HookedGradients(module, phase)
    gradients.leave(images(), labels)
    oracle = learner.build(1)
    torch.autograd.backward(learner.loss(oracle(images()[1:]), labels[1:]).sum())
    for key, parameter in oracle.named_parameters():
        assert (parameter.grad is None) == (key not in gradients.parameters)
        if parameter.grad is not None:
            left = gradients.parameters[key].grad_sample[1]  # type: ignore[attr-defined]
            torch.testing.assert_close(left, parameter.grad, rtol=1e-4, atol=1e-6)


def test_a_probe_takes_torchvisions_names(tmp_path: Path) -> None:
    donor = small("mobilenetv2", norm="batch").build(5).state_dict()
    given = {f"features.{place}": tensor for place, tensor in enumerate(donor.values())}
    given["features.0"] = torch.rand(32, 3, 3, 3)
    path = tmp_path / "mobilenet.pth"
    torch.save(given, path)
    learner = small("mobilenetv2", norm="frozen", trained="head")
    module = learner.build(0)
    assert len(load_pretrained(module, learner, str(path)).fresh) == 2
    key = "blocks.3.0.bn1.running_var"
    assert torch.equal(module.state_dict()[key], donor[key])


@pytest.mark.parametrize("name", ["densenet121", "xception"])
def test_norms_without_a_convolution_before_them_cannot_be_frozen(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be frozen"):
        small(name, norm="frozen", trained="head").build(0)


# Imbalance


def test_asymmetric_loss_by_hand_and_by_limits() -> None:
    logits = torch.tensor([[0.3, -1.2, 2.0, -4.0]], dtype=torch.float64)
    labels = torch.tensor([[1, 0, -1, 0]], dtype=torch.int8)
    said = torch.sigmoid(logits[0]).tolist()
    by_hand = -np.log(said[0]) - (said[1] - 0.05) ** 4 * np.log(1 - (said[1] - 0.05))
    assert asymmetric(logits, labels).item() == pytest.approx(by_hand / 4)  # the last is free
    plain = asymmetric(logits, labels, gamma_absent=0.0, gamma_present=0.0, margin=0.0)
    torch.testing.assert_close(plain, LOSSES["bce"](logits, labels))


@pytest.mark.parametrize("size", [60.0, -60.0])
@pytest.mark.parametrize("objective", ["asymmetric", "bce", "focal"])
def test_losses_stay_finite_at_extreme_logits(objective: str, size: float) -> None:
    logits = torch.full((1, 2), size, requires_grad=True)
    loss = LOSSES[objective](logits, torch.tensor([[1, 0]], dtype=torch.int8)).sum()
    torch.autograd.backward(loss)
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_balanced_classes_weigh_the_same() -> None:
    prior = (0.5, 0.1, 0.02)
    weights = balance_weights(prior, 1.0)
    shares = torch.tensor(prior)
    torch.testing.assert_close(weights[1] * shares, weights[0] * (1 - shares))
    assert torch.equal(balance_weights(prior, 0.0), torch.ones(2, 3))


@pytest.mark.parametrize("balance", [0.5, 1.0])
def test_prior_correction_gives_back_the_true_odds(balance: float) -> None:
    """The best constant under the balanced loss, corrected, is the share of positives."""
    prior = (0.02, 0.3)
    learner = get_learner("cnn", labels=2, input_size=32, balance=balance, prior=list(prior))
    labels = torch.zeros((1000, 2), dtype=torch.int8)
    labels[:20, 0], labels[:300, 1] = 1, 1
    constant = torch.zeros(1, 2, requires_grad=True)
    optimiser = torch.optim.LBFGS([constant], max_iter=60)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = learner.loss(constant.expand(1000, 2), labels).mean()
        torch.autograd.backward(loss)
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    found = to_probabilities(learner, constant.detach().numpy())
    assert found[0].tolist() == pytest.approx(prior, rel=1e-3)
    assert torch.sigmoid(constant[0, 0]).item() > 0.1  # not so before correction


def test_a_balanced_learner_starts_at_its_prior_and_survives_json() -> None:
    learner = get_learner("cnn", labels=2, input_size=32, balance=1.0, prior=[0.02, 0.3])
    assert from_description(learner.describe()) == learner
    module = learner.build(0)
    with torch.no_grad():
        learner.head(module).weight.zero_()
    found = predict(module, learner, np.zeros((1, 1, 32, 32), np.uint8))
    assert found[0].tolist() == pytest.approx([0.02, 0.3], rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"balance": 1.0},
        {"balance": 2.0, "prior": [0.1, 0.1]},
        {"balance": 1.0, "prior": [0.1]},
        {"balance": 1.0, "prior": [0.1, 1.0]},
        {"balance": 1.0, "prior": ["a", "b"]},
        {"balance": 1.0, "prior": 3},
        {"balance": 1.0, "prior": [0.1, 0.1], "objective": "multiclass"},
        {"local": "everything"},
    ],
)
def test_odd_balance_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        get_learner("cnn", labels=2, **options)


# A learner of somebody else's

PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar
from torch import nn
from client.learners.interface import Learner

@dataclass(frozen=True, kw_only=True)
class Linear(Learner):
    name: ClassVar[str] = "acme_linear"

    def network(self):
        return nn.Sequential(nn.Flatten(), nn.Linear(self.input_size**2, self.outputs))

    def head(self, module):
        return module[1]
"""


ENTRY = "[thoracle.learners]\nacme_linear = acme_learner:Linear\n"


def test_an_installed_package_brings_a_learner_that_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real distribution's metadata on the path, found as an installed package's is."""
    (tmp_path / "acme_learner.py").write_text(PLUGIN)
    info = tmp_path / "acme_learner-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-learner\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY)
    monkeypatch.syspath_prepend(str(tmp_path))
    invalidate_caches()
    try:
        assert "acme_linear" in learner_names()
        learner = get_learner("acme_linear", labels=2, input_size=16)
        generator = np.random.default_rng(0)
        labels = generator.integers(0, 2, (32, 2)).astype(np.int8)
        pixels = generator.integers(0, 80, (32, 1, 16, 16), dtype=np.uint8)
        pixels[labels[:, 0] == 1, :, :8] += 100
        module = learner.build(0)
        before = predict(module, learner, pixels)
        outcome = train(module, learner, pixels, labels, TrainPlan(epochs=4), seed=0)
        after = predict(module, learner, pixels)
        assert outcome.steps == 4
        sick = labels[:, 0] == 1
        assert after[sick, 0].mean() - after[~sick, 0].mean() > 0.2
        assert not np.array_equal(before, after)
        assert learner.phases == ("supervised",)
        assert learner.shared(module) == ("1.bias", "1.weight")
        assert learner.local_tensors(module) == ()
        assert learner.features(module, torch.zeros(1, 1, 16, 16)).shape == (1, 256)
    finally:
        sys.modules.pop("acme_learner", None)


# Local tensors


@pytest.mark.parametrize(("local", "kept"), [("norms", "1."), ("head", "head.")])
def test_what_is_local_does_not_travel(local: str, kept: str) -> None:
    learner = small("cnn", local=local)
    module = learner.build(0)
    mine = learner.local_tensors(module)
    assert mine
    assert any(kept in name for name in mine)
    everything = {n for n, t in module.state_dict().items() if t.is_floating_point()}
    assert set(learner.shared(module)) == everything - set(mine)
    batch = small("resnet18", norm="batch", local="norms")
    statistics = batch.local_tensors(batch.build(0))
    assert sum("running" in name for name in statistics) == 40
    assert isinstance(batch.head(batch.build(0)), nn.Linear)
