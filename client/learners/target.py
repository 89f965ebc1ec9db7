"""Where a network may be looked into: its last map of places, and its attention blocks.

Found by running noise through it, so that a learner need not say anything:

    map          the last layer that gives a spatial map (B, C, h, w) of at least ``FINE`` cells a
                 side, or tokens (B, N, D), and from which the scores depend on more than a single
                 place (behind the last attention of a transformer with a class token they depend
                 on that token alone). Where no map is that fine, the finest
    attention    timm's blocks, told by their switch ``fused_attn`` and their layer ``attn_drop``

Where a network contains a timm ``VisionTransformer``, only that part is looked at. Tokens before
the patches (class token, registers) are counted by timm; what stands after the patches (tokens of
another network) belongs to no place. A learner for which this guesses wrong writes the method
``explain_at`` and is believed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from client.learners.interface import Learner
from ledger.errors import ConfigError

# isort: split
import client.learners.torchvision_ops  # noqa: F401 - must come before timm

# isort: split
from timm.models.vision_transformer import VisionTransformer

FINE = 4
"""Cells a side below which a map says next to nothing about place."""
Grid = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where explanations of one network are taken from.

    Attributes:
        layer: gives the map: (B, C, h, w), or tokens (B, N, D).
        grid: rows and columns (h, w) of the patches among N tokens, of the map or of the attention;
            None where neither has tokens.
        first: place of the first patch among the tokens; the h w patches follow row by row.
        attention: self-attention layers of these tokens in order, each with timm's ``fused_attn``
            and ``attn_drop``.
        class_token: whether the scores are read from token 0, not from the mean of all.
    """

    layer: nn.Module
    grid: Grid | None = None
    first: int = 0
    attention: tuple[nn.Module, ...] = ()
    class_token: bool = False


@runtime_checkable
class Explainable(Protocol):
    """A learner that says itself where to look."""

    def explain_at(self, module: nn.Module) -> Target:
        """Return the target in a module of this learner."""
        ...


@dataclass(frozen=True)
class _Seen:
    layer: nn.Module
    output: Tensor


def find_target(learner: Learner, module: nn.Module) -> Target:
    """Return where to look into a network.

    Args:
        learner: of the module; its own ``explain_at`` comes first.
        module: in evaluation mode.

    Raises:
        ConfigError: the network has neither a spatial map nor tokens on a grid.
    """
    if isinstance(learner, Explainable):
        return learner.explain_at(module)
    return search_target(learner, module)


def search_target(learner: Learner, module: nn.Module) -> Target:
    """Return where to look into a network whose learner does not say so; as ``find_target``."""
    transformer = next((m for m in module.modules() if isinstance(m, VisionTransformer)), None)
    attention = tuple(m for m in (transformer or module).modules() if is_attention(m))
    seen, scores = _watch(learner, module, transformer or module, attention)
    layer = _last_of_places(seen, scores, transformer is not None)
    if layer is None:
        raise ConfigError(f"learner {learner.name} has no map of places to explain by")
    if layer.output.dim() == 4:
        return Target(layer=layer.layer, attention=attention)
    grid, first = _places(layer.output.shape[1], transformer)
    return Target(
        layer=layer.layer,
        grid=grid,
        first=first,
        attention=attention,
        class_token=first > 0 and (transformer is None or transformer.global_pool == "token"),
    )


def is_attention(layer: nn.Module) -> bool:
    """Return whether a layer is timm's self-attention, whose weights can be read."""
    return hasattr(layer, "fused_attn") and isinstance(getattr(layer, "attn_drop", None), nn.Module)


def _watch(
    learner: Learner,
    module: nn.Module,
    scope: nn.Module,
    attention: tuple[nn.Module, ...],
) -> tuple[list[_Seen], Tensor]:
    """Run noise and return what could be a map, in the order it came, and the scores."""
    size = (1, learner.channels, learner.input_size, learner.input_size)
    device = next(module.parameters()).device
    # noise, for in a blank film nothing would depend on anything
    image = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(device)
    inner = {part for layer in attention for part in layer.modules()}
    seen: list[_Seen] = []

    def note(layer: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() in (3, 4) and output.requires_grad:
            seen.append(_Seen(layer, output))

    handles = [m.register_forward_hook(note) for m in scope.modules() if m not in inner]
    try:
        with torch.enable_grad():
            scores = learner.scores(module(image.requires_grad_()))
    finally:
        for handle in handles:
            handle.remove()
    return seen, scores


def _last_of_places(seen: list[_Seen], scores: Tensor, tokens_only: bool) -> _Seen | None:
    """Return the last map that scores depend on in many places; of coarse ones the finest."""
    found = [s for s in seen if not tokens_only or s.output.dim() == 3]
    if not found:
        return None
    outputs = [s.output for s in found]
    gradients = torch.autograd.grad(scores.sum(), outputs, allow_unused=True)
    coarse: tuple[int, _Seen] | None = None
    for place, gradient in reversed(list(zip(found, gradients, strict=True))):
        side = _side(place.output)
        if side < 2 or gradient is None or not _spread(gradient):
            continue
        if side >= FINE:
            return place
        if coarse is None or side > coarse[0]:
            coarse = side, place
    return coarse[1] if coarse else None


def _side(output: Tensor) -> int:
    return min(output.shape[2:]) if output.dim() == 4 else math.isqrt(output.shape[1])


def _spread(gradient: Tensor) -> bool:
    """Return whether more than a quarter of the places have a gradient."""
    channels = 1 if gradient.dim() == 4 else 2
    touched = gradient.abs().amax(dim=channels) > 0
    return touched.double().mean().item() > 0.25


def _places(tokens: int, transformer: VisionTransformer | None) -> tuple[Grid, int]:
    """Return the grid of patches among tokens, and where it begins."""
    if transformer is None:
        side = math.isqrt(tokens)  # a square, behind whatever is too many
        return (side, side), tokens - side * side
    stated = getattr(transformer.patch_embed, "grid_size", None)
    side = math.isqrt(cast(int, transformer.patch_embed.num_patches))
    height, width = stated or (side, side)
    return (int(height), int(width)), int(transformer.num_prefix_tokens)
