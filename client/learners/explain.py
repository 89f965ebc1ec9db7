"""What in an image a network's scores rest on, as a map of places.

Two views, neither of which is a proof of a cause (Adebayo et al., NeurIPS 2018, "Sanity checks
for saliency maps"):

    Grad-CAM             of one finding: the last map's channels, weighed by how the finding's score
                         answers to each, what speaks for it kept (Selvaraju et al., ICCV 2017,
                         equations 1 and 2)
    attention rollout    of a transformer, whatever the finding: how much of each patch reaches what
                         is read, attention multiplied through the blocks with half of each step
                         for the shortcut (Abnar and Zuidema, ACL 2020, section 3)

A map has the cells of the network's own grid, so it is coarse: a 64 px film has 4 x 4 cells in
most learners here. ``enlarge`` draws it smooth; its peak stays the centre of the highest cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from client.learners.interface import Learner
from client.learners.target import Target
from ledger.errors import ConfigError, DataError

Map = NDArray[np.float32]
"""(h, w), zero or more."""


def grad_cam(
    learner: Learner, module: nn.Module, target: Target, images: Tensor, findings: Sequence[int]
) -> NDArray[np.float32]:
    """Return each image's Grad-CAM of each finding, (B, F, h, w), zero or more, not scaled.

    The score is the finding's logit, before calibration, so that a sure network has gradients, too.

    Args:
        learner: of the module.
        module: in evaluation mode; no image may change another's score.
        target: where to look.
        images: (B, C, S, S), standardised.
        findings: columns of the scores.
    """
    captured: list[Tensor] = []
    handle = target.layer.register_forward_hook(lambda _m, _i, output: captured.append(output))
    try:
        with torch.enable_grad():
            # parameters may be frozen: the image always leads to the map
            scores = learner.scores(module(images.clone().requires_grad_()))
    finally:
        handle.remove()
    if not captured:
        raise ConfigError(f"learner {learner.name} does not run the layer it is explained by")
    features = captured[-1]
    maps = []
    for finding in findings:
        (gradient,) = torch.autograd.grad(
            scores[:, finding].sum(), features, retain_graph=True, allow_unused=True
        )
        if gradient is None:
            raise ConfigError(f"learner {learner.name}: its scores do not rest on that layer")
        maps.append(_cam(_spatial(features, target), _spatial(gradient, target)))
    return np.asarray(torch.stack(maps, dim=1).detach().cpu().numpy(), dtype=np.float32)


def _cam(features: Tensor, gradient: Tensor) -> Tensor:
    """Return the rectified sum (B, h, w) of channels (B, C, h, w) weighed by mean gradients."""
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return functional.relu((weights * features).sum(dim=1))


def _spatial(values: Tensor, target: Target) -> Tensor:
    """Return (B, C, h, w) of a map, or of the patches among tokens (B, N, D)."""
    if target.grid is None or values.dim() == 4:
        return values
    height, width = target.grid
    patches = values[:, target.first : target.first + height * width]
    return patches.transpose(1, 2).reshape(len(values), -1, height, width)


def attention(module: nn.Module, target: Target, images: Tensor) -> list[Tensor]:
    """Return each block's attention (B, H, N, N), rows summing to one; empty without blocks."""
    found: list[Tensor] = []
    with _readable(target.attention, found), torch.no_grad():
        module(images)
    return found


@contextmanager
def _readable(layers: Sequence[nn.Module], found: list[Tensor]) -> Iterator[None]:
    """Let attention layers write their weights out, which their fused kernel never holds."""
    handles, before = [], []
    try:
        for layer in layers:
            before.append((layer, layer.fused_attn))
            layer.fused_attn = False  # type: ignore[assignment]  # timm's switch, not a layer
            inner = layer.get_submodule("attn_drop")
            handles.append(
                inner.register_forward_pre_hook(lambda _m, inputs: found.append(inputs[0]))
            )
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer, fused in before:
            layer.fused_attn = fused


def rollout(blocks: Sequence[Tensor]) -> Tensor:
    """Return how much of each token (column) is in each token (row) at the end: (B, N, N).

    Args:
        blocks: attention (B, H, N, N) of each block, first to last. Heads are averaged. Where
            tokens join on the way, only the last blocks of equal N count.

    Returns:
        rows that sum to one.

    Raises:
        DataError: there is no block.
    """
    if not blocks:
        raise DataError("rollout needs at least one attention block")
    count = blocks[-1].shape[-1]
    same = identity = torch.eye(count, dtype=blocks[-1].dtype, device=blocks[-1].device)
    for weights in blocks:
        if weights.shape[-1] != count:
            same = identity
            continue
        mixed = (weights.mean(dim=1) + identity) / 2  # half passes by on the shortcut
        same = (mixed / mixed.sum(dim=-1, keepdim=True)) @ same
    return same


def rollout_maps(module: nn.Module, target: Target, images: Tensor) -> Map | None:
    """Return how much of each patch reaches what is read, (B, h, w); None without attention.

    What is read is the class token, or the mean of the patches' own tokens. A map sums to at most
    one: the rest came from tokens that are no patch.
    """
    blocks = attention(module, target, images)
    if not blocks or target.grid is None:
        return None
    through = rollout(blocks)
    height, width = target.grid
    own = slice(target.first, target.first + height * width)
    read = through[:, 0] if target.class_token else through[:, own].mean(dim=1)
    patches = read[:, own]
    return np.asarray(patches.reshape(-1, height, width).cpu().numpy(), dtype=np.float32)


def enlarge(cells: Map, side: int) -> Map:
    """Return a map (h, w) as (side, side), linear between the cells' centres."""
    wide = functional.interpolate(
        torch.from_numpy(cells)[None, None], size=(side, side), mode="bilinear", align_corners=False
    )
    return np.asarray(wide[0, 0].numpy(), dtype=np.float32)


def peak(cells: Map) -> tuple[float, float] | None:
    """Return the centre (x, y) of the highest cell in shares of the sides; None of a map of zeros.

    A map linear between centres has its highest value at one of them, so this is the peak of what
    ``enlarge`` draws, too. Of equal cells the first counts, row by row.
    """
    if not cells.max() > 0:
        return None
    height, width = cells.shape
    row, column = divmod(int(cells.argmax()), width)
    return (column + 0.5) / width, (row + 0.5) / height
