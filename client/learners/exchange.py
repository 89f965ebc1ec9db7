"""From a torch module to a *model* (named float32 arrays) and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ledger.errors import ConfigError, NonFiniteUpdate, SpecMismatch
from ledger.manifest import Model

__all__ = ["Model", "load_model", "module_to_model"]


def module_to_model(module: nn.Module, names: Sequence[str]) -> Model:
    """Copy the named tensors out, sorted by name, float32 and C-contiguous.

    Raises:
        ConfigError: a name is not of this module, or its tensor is not float32.
    """
    state = module.state_dict()
    model: Model = {}
    for name in sorted(names):
        tensor = state.get(name)
        if tensor is None:
            raise ConfigError(f"the learner shares {name!r}, which its module does not have")
        if tensor.dtype != torch.float32:
            raise ConfigError(f"only float32 tensors can be shared; {name!r} is {tensor.dtype}")
        model[name] = np.array(tensor.detach().cpu().numpy(), dtype=np.float32, order="C")
    return model


def load_model(
    module: nn.Module, model: Mapping[str, NDArray[np.float32]], names: Sequence[str]
) -> None:
    """Copy a model into the module; ``names`` is what the learner shares, all of it.

    Tensors that are not shared keep their values. A running variance below zero becomes zero: the
    mean of quantised updates can miss a channel's tiny variance by a step, and batch norm would
    take the root of it.

    Raises:
        SpecMismatch: other names, another shape or another dtype than the module's.
        NonFiniteUpdate: a value is NaN or infinite. Nothing is written in either case.
    """
    state = module.state_dict()
    if set(model) != set(names) or not set(names) <= set(state):
        odd = sorted(set(model) ^ set(names)) or sorted(set(names) - set(state))
        raise SpecMismatch(f"the model's tensors are not this learner's: {', '.join(odd[:3])}")
    for name, array in model.items():
        if tuple(array.shape) != tuple(state[name].shape) or array.dtype != np.float32:
            raise SpecMismatch(
                f"{name!r} is {array.dtype} {tuple(array.shape)} in the model,"
                f" {state[name].dtype} {tuple(state[name].shape)} in the learner"
            )
        if not np.isfinite(array).all():
            raise NonFiniteUpdate(f"{name!r} of the model is not finite")
    with torch.no_grad():
        for name, array in model.items():
            state[name].copy_(torch.from_numpy(np.ascontiguousarray(array).copy()))
            if name.endswith(".running_var"):
                state[name].clamp_(min=0)
