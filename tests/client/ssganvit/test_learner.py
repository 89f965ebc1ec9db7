"""Options, presets, the schedule, initial weights and the model file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from client.learners import from_description, get_learner, load_model, module_to_model
from client.learners.frozen_norm import FrozenNorm, freeze_norms
from client.learners.pretrained import load_pretrained
from client.learners.ssganvit.learner import SSGANViTLearner
from client.learners.ssganvit.mobilenet import ARCHITECTURE
from client.learners.ssganvit.options import option_names
from client.learners.ssganvit.presets import PRESETS, train_defaults
from client.train_plan import TrainPlan
from ledger.canonical import canonical_json, parse_json
from ledger.errors import ConfigError
from tests.client.ssganvit.small import LABELS, batch, small

# isort: split
import timm  # after the learners, which bring torchvision's operators

HYBRID = {"stem": "mobilenet", "patch": 32}


def test_presets_give_every_option_and_none_of_another() -> None:
    assert PRESETS
    for values in PRESETS.values():
        assert set(values) == set(option_names())


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_description_holds_every_value_and_what_is_given_wins(preset: str) -> None:
    learner = get_learner("ssganvit", preset=preset, penalty=3.0)
    described = learner.describe()
    assert described["penalty"] == 3.0
    for option in set(option_names()) - {"penalty"}:
        assert described[option] == PRESETS[preset][option]
    read = parse_json(canonical_json(described), 1 << 16)
    assert isinstance(read, dict)
    assert from_description(read) == learner
    for phase in learner.phases:
        settings = dict(train_defaults(preset, phase))
        TrainPlan.from_description(settings)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"preset": "other"}, "preset is one of"),
        ({"gan_size": 12}, "divides"),
        ({"gan_size": 9}, "divides"),
        ({"stem": "mobilenet"}, "patch is 32"),
        ({"patch": 32}, "patch is 8 or 16"),
        ({"stem_norm": "batch"}, "for a mobile stem"),
        ({"stem_norm": "batch", "train_stem": False, **HYBRID}, "that is trained"),
        ({"stem_norm": "layer", **HYBRID}, "stem_norm is one of"),
        ({"stem": "resnet"}, "stem is one of"),
        ({"critic_output": "tanh"}, "critic_output is one of"),
        ({"fusion": 1}, "true or false"),
        ({"rotation": -1.0}, "rotation is a number"),
        ({"adversarial_share": 0.6, "self_supervised_share": 0.4}, "tenth of the rounds"),
        ({"local": "norms"}, "nothing is local"),
        ({"width": 33}, "multiple of 32"),
        ({"fusion_width": 10}, "multiple of 4"),
        ({"depth": -1}, "depth is an integer"),
        ({"labels": 1, "label_output": "softmax"}, "always 1"),
    ],
)
def test_options_are_checked(options: dict[str, object], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        small(**options)


def test_rounds_are_split_over_the_phases() -> None:
    learner = small()
    assert [learner.schedule(n) for n in (1, 2, 3)] == [
        {"supervised": 1},
        {"self_supervised": 1, "supervised": 1},
        {"adversarial": 1, "self_supervised": 1, "supervised": 1},
    ]
    assert learner.schedule(8) == {"adversarial": 2, "self_supervised": 2, "supervised": 4}
    alone = small(rotation=0.0, colour=0.0, masked=0.0, triplet=0.0, nt_xent=0.0)
    assert alone.schedule(8) == {"adversarial": 2, "supervised": 6}
    for rounds in range(1, 30):
        for shares in ((0.25, 0.25), (0.45, 0.45), (0.0, 0.9), (0.9, 0.0), (0.0, 0.0)):
            learner = small(adversarial_share=shares[0], self_supervised_share=shares[1])
            planned = learner.schedule(rounds)
            assert sum(planned.values()) == rounds
            assert all(planned.values())
            assert planned["supervised"] >= 1


def test_parts_train_at_their_own_rates() -> None:
    learner = small(generator_rate=2.0, block_rate=0.5, stem_rate=0.25)
    names = ("generator.last.bias", "critic.refine.bias", "encoder.vit.blocks.0.norm1.bias")
    assert [learner.rate_share(name) for name in names] == [2.0, 1.0, 0.5]
    projection = "encoder.vit.patch_embed.project.bias"
    assert learner.rate_share(projection) == 0.25
    hybrid = small(stem_rate=0.25, **HYBRID)
    assert hybrid.rate_share("encoder.vit.patch_embed.backbone.conv_stem.weight") == 0.25
    assert hybrid.rate_share(projection) == 1.0  # it comes with no file


@pytest.mark.parametrize(
    "more", [{}, {"fusion": False}, {"gan_tokens": False}, HYBRID, {"depth": 0}]
)
def test_a_model_goes_out_and_comes_back(more: dict[str, object]) -> None:
    learner = small(**more)
    module, other = learner.build(0), learner.build(1)
    names = learner.shared(module)
    load_model(other, module_to_model(module, names), names)
    images, _ = batch()
    assert torch.equal(module.eval()(images), other.eval()(images))
    assert learner.head(module).out_features == LABELS
    again = learner.build(0).state_dict()["head.weight"]
    assert torch.equal(again, module.state_dict()["head.weight"])
    features = learner.features(module, images)
    assert features.shape == (3, learner.head(module).in_features)


def test_frozen_norms_compute_what_batch_norm_does_in_evaluation() -> None:
    whole = timm.create_model(ARCHITECTURE, in_chans=1, num_classes=0).eval()
    for name, buffer in whole.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    images, _ = batch(2)
    expected = whole(images)
    frozen = timm.create_model(ARCHITECTURE, in_chans=1, num_classes=0)
    freeze_norms(frozen)
    missing, odd = frozen.load_state_dict(whole.state_dict(), strict=False)
    assert not missing
    assert all(name.endswith("num_batches_tracked") for name in odd)
    assert torch.allclose(frozen.train()(images), expected, rtol=1e-3, atol=1e-4)
    norms = [layer for layer in frozen.modules() if isinstance(layer, FrozenNorm)]
    assert len(norms) == 52
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in frozen.modules())


@pytest.mark.parametrize("torchvision", [False, True])
def test_imagenet_weights_go_into_the_stem_alone(tmp_path: Path, *, torchvision: bool) -> None:
    """A file of timm's, or of torchvision's: the same tensors under other names."""
    donor = timm.create_model(ARCHITECTURE).state_dict()
    given = {f"features.{n}": t for n, t in enumerate(donor.values())} if torchvision else donor
    path = tmp_path / "mobilenet.safetensors"
    if torchvision:  # such a file keeps its order
        path = tmp_path / "mobilenet.pth"
        torch.save(given, path)
    else:
        save_file(dict(given), path)
    learner = small(**HYBRID)
    module = learner.build(0)
    found = load_pretrained(module, learner, str(path))
    state = module.state_dict()
    stem = "encoder.vit.patch_embed.backbone."
    assert torch.equal(
        state[f"{stem}blocks.3.0.conv_dw.weight"], donor["blocks.3.0.conv_dw.weight"]
    )
    grey = donor["conv_stem.weight"].sum(dim=1, keepdim=True)
    assert torch.equal(state[f"{stem}conv_stem.weight"], grey)
    assert found.adapted == (f"{stem}conv_stem.weight",)
    assert not found.fresh
    assert found.share == 1.0


def test_a_transformer_s_weights_lose_the_class_token(tmp_path: Path) -> None:
    options = {"stem": "patch", "patch": 8, "width": 64, "depth": 1, "heads": 2, "mlp_ratio": 2.0}
    learner = small(**options)
    donor = timm.models.VisionTransformer(
        img_size=32, patch_size=8, in_chans=3, embed_dim=64, depth=1, num_heads=2, mlp_ratio=2.0
    ).state_dict()
    path = tmp_path / "vit.safetensors"
    save_file(donor, path)
    module = learner.build(0)
    found = load_pretrained(module, learner, str(path))
    state = module.state_dict()
    assert torch.equal(state["encoder.vit.pos_embed"], donor["pos_embed"][:, 1:])
    assert torch.equal(state["encoder.vit.norm.weight"], donor["norm.weight"])
    assert not found.fresh


FROZEN = {
    "cxr64": "a0d8fd65bd8af37b",
    "cxr96": "5f2a376ce1454774",
    "cxr96_private": "5ed928e341800747",
    "demo": "9e7240f322f2bef8",
    "paper": "af910b54932b73ab",
}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_are_frozen(name: str) -> None:
    """Results are told by preset: one that changes is to be told of, and measured, anew."""
    phases = ("adversarial", "self_supervised", "supervised")
    values = {
        "options": dict(PRESETS[name]),
        "train": {phase: dict(train_defaults(name, phase)) for phase in phases},
    }
    text = json.dumps(values, sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == FROZEN[name]


def test_a_frozen_stem_asks_for_weights() -> None:
    private = get_learner("ssganvit", preset="cxr96_private", input_size=96)
    assert "train_stem" in private.needs_weights()
    assert not get_learner("ssganvit", preset="cxr96", input_size=96).needs_weights()


def test_the_paper_s_preset_has_the_paper_s_figures() -> None:
    learner = get_learner("ssganvit", preset="paper")
    assert isinstance(learner, SSGANViTLearner)
    assert (learner.input_size, learner.latent, learner.mask_share) == (224, 100, 0.2)
    assert (learner.stem, learner.patch, learner.depth, learner.width) == ("patch", 16, 12, 768)
    assert (learner.critic_output, learner.label_output) == ("sigmoid", "softmax")
    assert learner.rate_share("generator.last.bias") == 2.0
    adversarial = train_defaults("paper", "adversarial")
    assert (adversarial["learning_rate"], adversarial["batch_size"]) == (1e-4, 64)
    assert adversarial["betas"] == (0.5, 0.999)
    pretraining = train_defaults("paper", "self_supervised")
    assert (pretraining["learning_rate"], pretraining["batch_size"]) == (3e-5, 32)
    assert (pretraining["warmup"], pretraining["final_share"]) == (10 / 50, 0.0)
