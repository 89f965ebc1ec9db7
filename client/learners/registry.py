"""Learners by name: the built-in ones, and those that installed packages declare.

Importing a learner costs seconds (torch, timm), so classes are loaded when asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from importlib.metadata import entry_points
from types import MappingProxyType

from client.learners.interface import Learner
from ledger.errors import ConfigError

ENTRY_POINTS = "thoracle.learners"
BUILT_IN: MappingProxyType[str, str] = MappingProxyType(
    {
        "vit": "client.learners.vit:VisionTransformerLearner",
        "cnn": "client.learners.cnn:ConvolutionalLearner",
        "resnet18": "client.learners.baselines:ResNet18",
        "densenet121": "client.learners.baselines:DenseNet121",
        "efficientnet_b4": "client.learners.baselines:EfficientNetB4",
        "mobilenetv2": "client.learners.baselines:MobileNetV2",
        "xception": "client.learners.baselines:Xception",
        "ssganvit": "client.learners.ssganvit.learner:SSGANViTLearner",
        "vit_tiny": "client.learners.baselines:ViTTiny",
        "vit_small": "client.learners.baselines:ViTSmall",
    }
)


def learner_names() -> tuple[str, ...]:
    """Return every known name, sorted."""
    declared = {entry.name for entry in entry_points(group=ENTRY_POINTS)}
    return tuple(sorted({*BUILT_IN, *declared}))


def learner_class(name: str) -> type[Learner]:
    """Return the learner class of this name; a built-in name cannot be taken over.

    Raises:
        ConfigError: no learner has this name, or what is declared is not a ``Learner``.
    """
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        found = getattr(import_module(module), attribute)
    else:
        declared = [entry for entry in entry_points(group=ENTRY_POINTS) if entry.name == name]
        if len(declared) != 1:
            known = ", ".join(learner_names())
            raise ConfigError(f"there is no single learner {name!r}; known are {known}")
        found = declared[0].load()
    if not (isinstance(found, type) and issubclass(found, Learner)):
        raise ConfigError(f"what is declared as learner {name!r} is not a Learner")
    return found


def get_learner(name: str, **options: object) -> Learner:
    """Return a learner by name with these options (the class's fields).

    Raises:
        ConfigError: unknown name or option, or an option outside its range.
    """
    family = learner_class(name)
    known = {field.name for field in fields(family)}
    for option in options:
        if option not in known:
            listed = ", ".join(sorted(known))
            raise ConfigError(f"learner {name} has no option {option!r}; it has {listed}")
    return family(**options)  # type: ignore[arg-type]  # each class checks its own


def from_description(description: Mapping[str, object]) -> Learner:
    """Return the learner that ``Learner.describe`` described (a round configuration's part).

    Raises:
        ConfigError: as ``get_learner``, or the name is missing.
    """
    name = description.get("name")
    if not isinstance(name, str):
        raise ConfigError("a learner's description needs its name")
    return get_learner(name, **{key: value for key, value in description.items() if key != "name"})
