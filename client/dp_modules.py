"""Which modules may be trained with per-sample gradients, and what is said of the others.

Opacus' validator knows torch's own layers by their type; a library's subclass (timm's
``BatchNormAct2d``) must be caught as well, since one coupled layer voids every guarantee.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from opacus.grad_sample import GradSampleModule
from opacus.validators import ModuleValidator
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

import client.dp_standardised  # noqa: F401 - teaches Opacus the learners' own convolution
from client.learners.phase import Phase, Supervised
from ledger.errors import UnsupportedModule


def check_module(module: nn.Module) -> None:
    """Refuse a module that couples samples or has no per-sample gradients.

    Raises:
        UnsupportedModule: names the layer and what to use instead.
    """
    for name, layer in module.named_modules():
        where = f"{name or 'the model'} ({type(layer).__name__})"
        if isinstance(layer, _BatchNorm):
            raise UnsupportedModule(
                f"{where} is batch normalisation, which mixes patients; use group or layer norm"
            )
        if isinstance(layer, _InstanceNorm) and layer.track_running_stats:
            raise UnsupportedModule(
                f"{where} keeps running statistics of patients; set track_running_stats=False"
            )
        if hasattr(layer, "parametrizations"):
            raise UnsupportedModule(f"{where} is parametrised; per-sample gradients miss that")
    problems = ModuleValidator.validate(module, strict=False)
    problems += GradSampleModule.validate(module, strict=False)
    if problems:
        raise UnsupportedModule(f"no per-sample gradients for this model: {problems[0]}")


def is_plain(phase: Phase) -> bool:
    """Say whether a phase's loss is the plain supervised one, which calls the module once."""
    kind = type(phase)
    draws_nothing = kind.draw is Phase.draw and kind.share is Phase.share
    return kind.loss is Supervised.loss and draws_nothing


def check_parts(module: nn.Module, phase: Phase) -> None:
    """Refuse layers with trained parameters that mix the images of a batch.

    Batch norm elsewhere is lawful as long as only generated input goes through it, outside the
    loss: ``Phase.free_loss`` is given no image, and in ``Phase.draw`` it is in evaluation mode.
    Whether the loss itself keeps off it is seen by the oracle (``client.dp_oracle``), which runs
    it.

    Raises:
        UnsupportedModule: names the layer and what to use instead.
    """
    trained = set(phase.trained(module))
    for name, layer in module.named_modules():
        own = {f"{name}.{key}" if name else key for key, _ in layer.named_parameters()}
        if own & trained and mixes(layer):
            raise UnsupportedModule(
                f"{name or 'the model'} ({type(layer).__name__}) mixes patients in the phase"
                f" {phase.name}; use group or layer norm"
            )


def check_phases(module: nn.Module, phases: Iterable[Phase]) -> None:
    """Refuse, before anything is charged, a module that cannot be trained privately in each phase.

    Raises:
        UnsupportedModule: names the layer and what to use instead.
    """
    for phase in phases:
        if is_plain(phase):
            check_module(module.train())
        else:
            check_parts(module, phase)


def mixes(layer: nn.Module) -> bool:
    """Say whether a layer takes statistics of more than one image."""
    tracked = isinstance(layer, _InstanceNorm) and layer.track_running_stats
    return isinstance(layer, _BatchNorm) or bool(tracked)


@contextmanager
def quiet_hooks() -> Iterator[None]:
    """Silence torch's remark that images need no gradient, which Opacus' hooks provoke."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        yield
