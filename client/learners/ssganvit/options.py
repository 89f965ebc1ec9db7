"""The options of SS-GAN-ViT, each filled from a preset unless it is given."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

from client.learners.interface import Learner
from client.learners.ssganvit.generator import halve
from client.learners.ssganvit.presets import PRESETS
from ledger.errors import ConfigError

UNSET: Final[Any] = None
"""An option that was not given: its preset's value takes its place."""
NONE, MIX, EXTRA = "none", "mix", "extra"
CONVOLUTIONAL, MOBILENET, PATCH = "convolutional", "mobilenet", "patch"
FROZEN, BATCH = "frozen", "batch"
LINEAR, SIGMOID, SOFTMAX = "linear", "sigmoid", "softmax"
_CHOICES = {
    "critic_output": (LINEAR, SIGMOID),
    "label_output": (SIGMOID, SOFTMAX),
    "stem": (CONVOLUTIONAL, MOBILENET, PATCH),
    "stem_norm": (FROZEN, BATCH),
    "gan_augmentation": (NONE, MIX, EXTRA),
}
_SWITCHES = ("conditional", "train_stem", "gan_tokens", "fusion")
_RANGES: dict[str, tuple[float, float]] = {
    "gan_size": (8, 448),
    "latent": (1, 1024),
    "generator_width": (4, 512),
    "critic_width": (4, 512),
    "penalty": (0.0, 1000.0),
    "finding_weight": (0.0, 100.0),
    "critic_steps": (1, 100),
    "generator_rate": (0.01, 10.0),
    "rotation": (0.0, 100.0),
    "colour": (0.0, 100.0),
    "masked": (0.0, 100.0),
    "triplet": (0.0, 100.0),
    "nt_xent": (0.0, 100.0),
    "centre": (0.0, 100.0),
    "mask_share": (0.01, 0.9),
    "bins": (2, 256),
    "margin": (0.0, 2.0),
    "temperature": (0.01, 10.0),
    "negatives": (1, 1024),
    "projection": (8, 1024),
    "width": (32, 1536),
    "depth": (0, 48),
    "heads": (1, 32),
    "mlp_ratio": (0.5, 8.0),
    "block_rate": (0.01, 1.0),
    "stem_rate": (0.01, 1.0),
    "fusion_width": (8, 1024),
    "deep_weight": (0.0, 10.0),
    "augmentation_weight": (0.0, 1.0),
    "adversarial_share": (0.0, 0.9),
    "self_supervised_share": (0.0, 0.9),
}


@dataclass(frozen=True, kw_only=True)
class Options(Learner):
    """What can be set, in the order of the phases.

    Args:
        preset: a name in ``presets.PRESETS``, whose values the options take that are not given.
        gan_size: side of generated images; 4 to 7 times a power of two, a divisor of
            ``input_size``.
        latent: length of the generator's noise.
        generator_width, critic_width: channels at the largest maps.
        critic_output: "linear", or "sigmoid" as in the paper.
        label_output: "sigmoid", or "softmax" over the findings as in the paper: of the critic.
        conditional: whether the generator is told which findings to show.
        penalty: weight of the gradient penalty (Gulrajani et al. 2017: 10).
        finding_weight: of the findings in the critic's and the generator's loss.
        critic_steps: steps of the critic for one of the generator.
        generator_rate: the generator's learning rate in those of the critic's (the paper's: 2).
        rotation, colour, masked, triplet, nt_xent: weights of the self-supervised tasks; 0: off.
        centre: weight of learning what all images share of a pretrained stem's mean features, which
            then go to the head without it (``Centre``); 0: they do not go there directly.
        mask_share: of the cells that are hidden.
        bins: grey levels that a hidden segment is told apart by.
        margin: of the triplets, between unit vectors, [0, 2].
        temperature: of NT-Xent.
        negatives: generated images that every image is held against.
        projection: length of the vectors that are compared.
        stem: "convolutional", "mobilenet" (for ImageNet weights) or "patch" (the paper's ViT).
        stem_norm: of the mobile stem: "frozen" statistics, or "batch" norm, which learns better
            from few images and which private training refuses, for it mixes patients.
        train_stem: whether anything trains the stem.
        patch: pixels a token's side covers: 8, 16 or, for the mobile stem, 32.
        width, depth, heads, mlp_ratio: of the transformer, as in the learner ``vit``; a depth of 0
            is none: the stem's tokens, and the critic's, go straight to fusion and head.
        block_rate, stem_rate: shares of the learning rate of blocks and stem.
        gan_tokens: whether the critic's maps enter as tokens.
        fusion: whether features of several depths and networks are fused before the head; else
            the head reads the mean token.
        fusion_width: of the fused features.
        deep_weight: of the loss of the heads over each group of the fusion.
        gan_augmentation: "none"; "mix" a generated image into each real one (mixup: Zhang et al.,
            ICLR 2018); "extra": a term of its own beside each real image's.
        augmentation_weight: largest share of the mixture, or weight of the term.
        adversarial_share, self_supervised_share: of a run's rounds; the rest is supervised.

    Raises:
        ConfigError: an unknown preset, or an option outside its range.
    """

    preset: str = "cxr64"
    input_size: int = UNSET
    gan_size: int = UNSET
    latent: int = UNSET
    generator_width: int = UNSET
    critic_width: int = UNSET
    critic_output: str = UNSET
    label_output: str = UNSET
    conditional: bool = UNSET
    penalty: float = UNSET
    finding_weight: float = UNSET
    critic_steps: int = UNSET
    generator_rate: float = UNSET
    rotation: float = UNSET
    colour: float = UNSET
    masked: float = UNSET
    triplet: float = UNSET
    nt_xent: float = UNSET
    centre: float = UNSET
    mask_share: float = UNSET
    bins: int = UNSET
    margin: float = UNSET
    temperature: float = UNSET
    negatives: int = UNSET
    projection: int = UNSET
    stem: str = UNSET
    stem_norm: str = UNSET
    train_stem: bool = UNSET
    patch: int = UNSET
    width: int = UNSET
    depth: int = UNSET
    heads: int = UNSET
    mlp_ratio: float = UNSET
    block_rate: float = UNSET
    stem_rate: float = UNSET
    gan_tokens: bool = UNSET
    fusion: bool = UNSET
    fusion_width: int = UNSET
    deep_weight: float = UNSET
    gan_augmentation: str = UNSET
    augmentation_weight: float = UNSET
    adversarial_share: float = UNSET
    self_supervised_share: float = UNSET

    def __post_init__(self) -> None:
        if not isinstance(self.preset, str) or self.preset not in PRESETS:
            raise ConfigError(f"learner {self.name}: preset is one of {', '.join(PRESETS)}")
        for option, value in PRESETS[self.preset].items():
            if getattr(self, option) is UNSET:
                object.__setattr__(self, option, value)
        super().__post_init__()
        for option, (low, high) in _RANGES.items():
            self.check_range(option, low, high)
        for option, known in _CHOICES.items():
            if getattr(self, option) not in known:
                listed = ", ".join(f'"{name}"' for name in known)
                raise ConfigError(f"learner {self.name}: {option} is one of {listed}")
        for option in _SWITCHES:
            if not isinstance(getattr(self, option), bool):
                raise ConfigError(f"learner {self.name}: {option} is true or false")
        self._check_together()

    def _check_together(self) -> None:
        """Refuse what does not go together."""
        patches = (32,) if self.stem == MOBILENET else (8, 16)
        if self.patch not in patches or self.input_size % self.patch:
            listed = " or ".join(str(patch) for patch in patches)
            raise ConfigError(
                f"learner {self.name}: patch is {listed} with this stem and divides input_size"
            )
        if self.stem_norm == BATCH and (self.stem != MOBILENET or not self.train_stem):
            raise ConfigError(
                f'learner {self.name}: stem_norm = "batch" is for a mobile stem that is trained'
            )
        if self.centre and (self.stem != MOBILENET or self.train_stem):
            raise ConfigError(
                f"learner {self.name}: a centre is of a mobile stem that nothing trains"
                " (train_stem = false), or it would be left behind"
            )
        if self.width % 32 or self.width % self.heads:
            raise ConfigError(f"learner {self.name}: width is a multiple of 32 and of heads")
        if self.label_output == SOFTMAX and self.labels == 1:
            raise ConfigError(
                f"learner {self.name}: a softmax over one finding is always 1;"
                ' say label_output = "sigmoid"'
            )
        if self.fusion_width % 4:
            raise ConfigError(f"learner {self.name}: fusion_width is a multiple of 4")
        if halve(self.gan_size) == (0, 0) or self.input_size % self.gan_size:
            raise ConfigError(
                f"learner {self.name}: gan_size is 4 to 7 times a power of two and divides"
                " input_size"
            )
        if self.adversarial_share + self.self_supervised_share > 0.9:
            raise ConfigError(f"learner {self.name}: a tenth of the rounds at least is supervised")
        if self.local:
            raise ConfigError(
                f"learner {self.name}: nothing is local; its phases build on what all share"
            )


def option_names() -> tuple[str, ...]:
    """Return the names of the options that presets give values for."""
    inherited = {field.name for field in fields(Learner)} - {"input_size"}
    return tuple(f.name for f in fields(Options) if f.name not in {*inherited, "preset"})
