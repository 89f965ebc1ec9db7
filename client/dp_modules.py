"""Which modules may be trained with per-sample gradients, and what is said of the others.

Opacus' validator knows torch's own layers by their type; a library's subclass (timm's
``BatchNormAct2d``) must be caught as well, since one coupled layer voids every guarantee.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from opacus.grad_sample import GradSampleModule
from opacus.validators import ModuleValidator
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

import client.dp_standardised  # noqa: F401 - teaches Opacus the learners' own convolution
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


@contextmanager
def quiet_hooks() -> Iterator[None]:
    """Silence torch's remark that images need no gradient, which Opacus' hooks provoke."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        yield
