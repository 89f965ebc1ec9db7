"""A module in another mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def in_mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Let a module train or evaluate within the block; afterwards every layer is as it was."""
    modes = {layer: layer.training for layer in module.modules()}
    module.train(training)
    try:
        yield
    finally:
        for layer, mode in modes.items():
            layer.training = mode
