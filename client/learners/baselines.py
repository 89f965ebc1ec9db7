"""The field's usual networks, from timm, with one input channel: what a new model is held against.

``norm`` says what stands where timm has batch norm. ``group`` (the default) is lawful under
differential privacy and has no statistics to share. ``batch`` is timm's own: its running mean and
variance travel and are averaged like weights, its integer count of batches never travels (nothing
in evaluation reads it), and private training refuses it. ``frozen`` is batch norm of pretrained
weights that looks at no batch. With ``trained = "head"`` only the output layer learns, on features
that stay as they came (a linear probe): under differential privacy noise grows with what is
trained, so on good weights it may beat training the whole (Tramèr and Boneh, ICLR 2021).

The transformers have layer norm only; their class token and positions are parameters of no layer,
for which per-sample gradients take a slow general way, so for private training the learner ``vit``
is the transformer to use.

Weights start from the seed, or from a file (``client.learners.pretrained``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from client.learners.frozen_norm import freeze_norms
from client.learners.interface import HEAD, Learner
from client.learners.phase import Phase, Supervised
from client.learners.pretrained import in_our_names
from ledger.errors import ConfigError

# isort: split
import client.learners.torchvision_ops  # noqa: F401 - must come before timm

# isort: split
import timm
from timm.layers.norm_act import BatchNormAct2d
from timm.models.resnet import BasicBlock
from timm.models.xception import Block as XceptionBlock

_MAX_GROUPS = 32
FROZEN = "frozen"
ALL = "all"


@dataclass(frozen=True, kw_only=True)
class TimmLearner(Learner):
    """A network that timm knows by ``architecture``.

    Args:
        norm: "group", "batch", or "frozen" where only the head is trained.
        trained: "all", or "head", which needs initial weights.
        dropout: before the head, [0, 0.9].
    """

    architecture: ClassVar[str]
    patch: ClassVar[int] = 0
    """A transformer's patch side; 0 for a convolutional network."""
    depthwise: ClassVar[bool] = False
    """Whether most convolutions are: laid out channels last they are quicker."""

    norm: str = "group"
    trained: str = ALL
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("dropout", 0.0, 0.9)
        if self.norm not in ("group", "batch", FROZEN):
            raise ConfigError(f'learner {self.name}: norm is "group", "batch" or "frozen"')
        if self.trained not in (ALL, HEAD):
            raise ConfigError(f'learner {self.name}: trained is "all" or "head"')
        if self.norm == FROZEN and self.trained != HEAD:
            raise ConfigError(f'learner {self.name}: norm = "frozen" goes with trained = "head"')
        if self.trained == HEAD and (self.norm == "batch" or self.local):
            raise ConfigError(
                f'learner {self.name}: trained = "head" goes with norm = "frozen" or "group", and'
                " with nothing local"
            )
        if self.input_size < 32 or (self.patch and self.input_size % self.patch):
            multiple = f" and a multiple of {self.patch}" if self.patch else ""
            raise ConfigError(f"learner {self.name}: input_size is at least 32{multiple}")

    def network(self) -> nn.Module:
        """Return timm's network, its batch norms replaced unless they are asked for."""
        more: dict[str, Any] = {"img_size": self.input_size} if self.patch else {}
        module: nn.Module = timm.create_model(
            self.architecture,
            pretrained=False,
            in_chans=self.channels,
            num_classes=self.outputs,
            drop_rate=self.dropout,
            **more,
        )
        if self.norm == "group":
            replace_batch_norm(module)
        if self.norm == FROZEN:
            freeze_norms(module)
        leave_nothing_in_place(module)
        if self.depthwise:
            lay_channels_last(module)
        if self.trained == HEAD:
            module.requires_grad_(requires_grad=False)
            self.head(module).requires_grad_()
        return module

    def phase(self, name: str) -> Phase:
        """See the base class; of a network whose head alone is trained, no more travels."""
        phase = super().phase(name)
        return HeadOnly(self) if self.trained == HEAD else phase

    def place_weights(self, given: Mapping[str, Tensor]) -> tuple[str, Mapping[str, Tensor]]:
        """See the base class; frozen norms lack what the file's count, so the order is timm's."""
        if self.norm != FROZEN:
            return super().place_weights(given)
        whole = timm.create_model(self.architecture, pretrained=False).state_dict()
        return "", in_our_names(given, whole)

    def needs_weights(self) -> str:
        """Return that features which nothing trains have to be good already."""
        if self.trained == HEAD:
            return "only its head is trained (trained = 'head'), so the rest must be already"
        return ""

    def head(self, module: nn.Module) -> nn.Linear:
        """Return timm's classifier."""
        classifier = getattr(module, "get_classifier", lambda: None)()
        if not isinstance(classifier, nn.Linear):
            raise ConfigError(f"this module is not of the learner {self.name}")
        return classifier


class HeadOnly(Supervised):
    """Findings, taught to what gradients reach; all else stays, and so need not travel."""

    def travels(self, module: nn.Module) -> tuple[str, ...]:
        """Return the parameters of the head."""
        return self.trained(module)


def replace_batch_norm(module: nn.Module) -> None:
    """Put a group norm, and the activation that came with it, in place of every batch norm.

    Groups are the largest divisor of the channels that is a divisor of 32 as well.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            norm: nn.Module = nn.GroupNorm(
                math.gcd(_MAX_GROUPS, child.num_features), child.num_features
            )
            if isinstance(child, BatchNormAct2d):
                norm = nn.Sequential(norm, child.drop, child.act)
            setattr(module, name, norm)
        else:
            replace_batch_norm(child)


def hub_weights(architecture: str) -> Mapping[str, Tensor]:
    """Return what timm's hub has of an architecture; raises what the hub's client raises."""
    found: Mapping[str, Tensor] = timm.create_model(architecture, pretrained=True).state_dict()
    return found


def lay_channels_last(module: nn.Module) -> None:
    """Lay filters out channels last, in which a processor's depthwise convolutions are quicker."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            laid = layer.weight.detach().clone(memory_format=torch.channels_last)
            layer.weight = nn.Parameter(laid)


class Copy(nn.Module):
    """Returns a copy of its input, so that adding to it in place changes nothing else."""

    def forward(self, features: Tensor) -> Tensor:
        """Copy."""
        return features.clone()


def leave_nothing_in_place(module: nn.Module) -> None:
    """Undo what overwrites layers' outputs, which per-sample gradients still need.

    Activations are told so; where timm adds a shortcut in place (``x += shortcut`` in the blocks
    of ResNet and Xception) a copy is added to instead.
    """
    for layer in module.modules():
        if hasattr(layer, "inplace"):
            layer.inplace = False  # type: ignore[assignment]  # an attribute, not a submodule
        if isinstance(layer, BasicBlock):
            layer.drop_path = Copy()
        if isinstance(layer, XceptionBlock):
            layer.rep.append(Copy())


@dataclass(frozen=True, kw_only=True)
class ResNet18(TimmLearner):
    """Residual network of 18 layers (He et al., CVPR 2016)."""

    name: ClassVar[str] = "resnet18"
    architecture: ClassVar[str] = "resnet18"


@dataclass(frozen=True, kw_only=True)
class DenseNet121(TimmLearner):
    """Densely connected network of 121 layers (Huang et al., CVPR 2017), as in CheXNet."""

    name: ClassVar[str] = "densenet121"
    architecture: ClassVar[str] = "densenet121"


@dataclass(frozen=True, kw_only=True)
class EfficientNetB4(TimmLearner):
    """EfficientNet-B4 (Tan and Le, ICML 2019)."""

    name: ClassVar[str] = "efficientnet_b4"
    depthwise: ClassVar[bool] = True
    architecture: ClassVar[str] = "efficientnet_b4"


@dataclass(frozen=True, kw_only=True)
class MobileNetV2(TimmLearner):
    """Inverted residuals (Sandler et al., CVPR 2018): small enough for two cores."""

    name: ClassVar[str] = "mobilenetv2"
    depthwise: ClassVar[bool] = True
    architecture: ClassVar[str] = "mobilenetv2_100"


@dataclass(frozen=True, kw_only=True)
class Xception(TimmLearner):
    """Depthwise separable convolutions (Chollet, CVPR 2017)."""

    name: ClassVar[str] = "xception"
    architecture: ClassVar[str] = "legacy_xception"


class Transformer(TimmLearner):
    """A vision transformer of patches of 16 pixels (Dosovitskiy et al., ICLR 2021)."""

    patch: ClassVar[int] = 16


@dataclass(frozen=True, kw_only=True)
class ViTTiny(Transformer):
    """The tiny one (Touvron et al., ICML 2021)."""

    name: ClassVar[str] = "vit_tiny"
    architecture: ClassVar[str] = "vit_tiny_patch16_224"


@dataclass(frozen=True, kw_only=True)
class ViTSmall(Transformer):
    """The small one (Touvron et al., ICML 2021)."""

    name: ClassVar[str] = "vit_small"
    architecture: ClassVar[str] = "vit_small_patch16_224"
