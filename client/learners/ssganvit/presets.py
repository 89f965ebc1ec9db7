"""Settings by name; a learner's description holds every value, so the name is a convenience.

``paper``: what the paper says, literally, its contradictions included (a sigmoid under a
Wasserstein loss, a softmax over findings that occur together); what it does not say is the
transformer's usual. ``cxr64`` and ``cxr96`` are for two cores and 12,000 radiographs, the latter
on ImageNet weights of MobileNetV2; ``cxr96_private`` keeps these frozen and trains little on top;
``demo`` trains on phantoms in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

Value = int | float | str | bool

_CXR64: dict[str, Value] = {
    "input_size": 64,
    "gan_size": 32,
    "latent": 100,
    "generator_width": 16,
    "critic_width": 32,
    "critic_output": "linear",
    "label_output": "sigmoid",
    "conditional": True,
    "penalty": 10.0,
    "finding_weight": 1.0,
    "critic_steps": 4,
    "generator_rate": 0.6,
    "rotation": 0.5,
    "colour": 1.0,
    "masked": 1.0,
    "triplet": 0.5,
    "nt_xent": 0.1,
    "centre": 0.0,
    "mask_share": 0.2,
    "bins": 8,
    "margin": 0.5,
    "temperature": 0.2,
    "negatives": 16,
    "projection": 64,
    "stem": "convolutional",
    "stem_norm": "frozen",
    "train_stem": True,
    "patch": 16,
    "width": 128,
    "depth": 4,
    "heads": 4,
    "mlp_ratio": 2.0,
    "block_rate": 0.15,
    "stem_rate": 1.0,
    "gan_tokens": True,
    "fusion": True,
    "fusion_width": 64,
    "deep_weight": 0.3,
    "gan_augmentation": "mix",
    "augmentation_weight": 0.2,
    "adversarial_share": 0.25,
    "self_supervised_share": 0.25,
}
_CXR96: dict[str, Value] = {
    **_CXR64,
    "input_size": 96,
    "stem": "mobilenet",
    # Frozen norms hardly learn from some ten thousand images (figures: docs/results.md).
    "stem_norm": "batch",
    "patch": 32,
    "block_rate": 0.5,
    "stem_rate": 1.0,
    # ImageNet has taught the stem already, and its two views are the dearest step of all.
    "adversarial_share": 0.125,
    "self_supervised_share": 0.125,
}
_CXR96_PRIVATE: dict[str, Value] = {
    **_CXR96,
    # Batch norm mixes patients, and noise grows with what is trained: so self-supervision learns
    # only what all radiographs share of the stem's features (figures: docs/results.md).
    "rotation": 0.0,
    "colour": 0.0,
    "masked": 0.0,
    "triplet": 0.0,
    "nt_xent": 0.0,
    "centre": 1.0,
    "stem_norm": "frozen",
    "train_stem": False,
    "width": 32,
    "depth": 1,
    "heads": 2,
    "block_rate": 1.0,
    "projection": 32,
    "fusion": False,
    "gan_augmentation": "none",
}
_DEMO: dict[str, Value] = {
    **_CXR64,
    "input_size": 32,
    "gan_size": 16,
    "latent": 16,
    "generator_width": 8,
    "critic_width": 8,
    "patch": 8,
    "width": 32,
    "depth": 2,
    "heads": 2,
    "fusion_width": 16,
    "projection": 16,
    "negatives": 4,
    "block_rate": 1.0,
}
_PAPER: dict[str, Value] = {
    **_CXR64,
    "input_size": 224,
    "gan_size": 112,
    "generator_width": 64,
    "critic_width": 64,
    "critic_output": "sigmoid",
    "label_output": "softmax",
    "critic_steps": 1,
    "generator_rate": 2.0,
    "rotation": 1.0,
    "triplet": 1.0,
    "nt_xent": 1.0,
    "margin": 1.0,
    "temperature": 0.5,
    "negatives": 32,
    "projection": 128,
    "stem": "patch",
    "width": 768,
    "depth": 12,
    "heads": 12,
    "mlp_ratio": 4.0,
    "block_rate": 1.0,
    "fusion_width": 256,
    "gan_augmentation": "extra",
    "augmentation_weight": 1.0,
}
PRESETS: Mapping[str, Mapping[str, Value]] = MappingProxyType(
    {
        "cxr64": MappingProxyType(_CXR64),
        "cxr96": MappingProxyType(_CXR96),
        "cxr96_private": MappingProxyType(_CXR96_PRIVATE),
        "demo": MappingProxyType(_DEMO),
        "paper": MappingProxyType(_PAPER),
    }
)

_PAPER_GAN: dict[str, object] = {
    "optimiser": "adam",
    "betas": (0.5, 0.999),
    "learning_rate": 1e-4,
    "batch_size": 64,
    "weight_decay": 0.0,
    "warmup": 0.0,
    "final_share": 1.0,
    "clip_norm": None,
}
# Gulrajani et al.'s betas, and a critic that keeps ahead (figures: docs/adr/0014-ssganvit.md).
_OUR_GAN = {**_PAPER_GAN, "betas": (0.0, 0.9), "learning_rate": 5e-4}
_SCRATCH: dict[str, object] = {"optimiser": "adamw", "learning_rate": 2e-3, "batch_size": 32}
# Plain SGD, its rate in units of the clipping norm, as what learnt at epsilon 8 (docs/results.md).
_PRIVATE: dict[str, object] = {
    "optimiser": "sgd", "learning_rate": 0.3, "batch_size": 64, "weight_decay": 0.0,
    "final_share": 0.2, "warmup": 0.0,
}  # fmt: skip
_TRAIN: Mapping[str, Mapping[str, Mapping[str, object]]] = {
    "cxr64": {"adversarial": _OUR_GAN, "self_supervised": _SCRATCH, "supervised": _SCRATCH},
    "cxr96": {
        "adversarial": _OUR_GAN,
        # A tenth of what suits a stem from scratch: more undoes what ImageNet has taught.
        "self_supervised": {**_SCRATCH, "learning_rate": 5e-5},
        "supervised": {**_SCRATCH, "learning_rate": 1e-3},
    },
    "cxr96_private": {
        "adversarial": {**_OUR_GAN, "batch_size": 64},
        "self_supervised": {**_PRIVATE, "learning_rate": 0.15},
        "supervised": _PRIVATE,
    },
    "demo": {
        "adversarial": {**_OUR_GAN, "batch_size": 16},
        "self_supervised": {**_SCRATCH, "batch_size": 16},
        "supervised": {**_SCRATCH, "batch_size": 16},
    },
    "paper": {
        "adversarial": _PAPER_GAN,
        "self_supervised": {**_SCRATCH, "learning_rate": 3e-5, "warmup": 0.2, "final_share": 0.0},
        "supervised": {**_SCRATCH, "learning_rate": 3e-5, "warmup": 0.2, "final_share": 0.0},
    },
}
"""What the paper says: Adam of 1e-4 and 2e-4 in batches of 64, 1000 steps; pre-training of 50
epochs in batches of 32 at 3e-5 on a cosine, after 10 epochs of warm-up (a fifth). How many of them
is a run's affair: ``simulation/paper.toml``."""


def train_defaults(preset: str, phase: str) -> Mapping[str, object]:
    """Return the training settings that suit a phase; names are those of a training plan."""
    return MappingProxyType(dict(_TRAIN[preset][phase]))
