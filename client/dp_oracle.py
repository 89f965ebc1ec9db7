"""The microbatch oracle: are per-image gradients really per image?

Opacus trusts model and loss not to couple images; its no-op mode trusts everything. A loss that
couples (an in-batch contrastive loss, a batch mean inside the loss) still gives numbers, clipped
ones even, and no guarantee. So before a hospital trains privately the oracle runs the round's own
loss, with its own draws, on a few *random* images that are nobody's, and compares:

* the gradients that training would use against those of each image alone;
* for a phase with draws, the gradient of each image's loss *within a batch* against the same (the
  functional way sees batches of one, so coupling would be hidden there, not absent: the loss would
  mean another thing than in plain training);
* what is drawn for an image, when another image is replaced.

It also sees what runs: batch norm within the loss, and buffers that change there or in the draws.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn

from client.dp_gradients import FunctionalGradients, HookedGradients
from client.dp_modules import is_plain, mixes
from client.learners.device import exact
from client.learners.phase import Draws, Phase
from ledger.errors import CoupledSamples, UnsupportedModule

_SAMPLES = 3
_TOLERANCE = 1e-3
"""Relative to the largest gradient: float32 kernels differ by batch size at about 1e-6."""
_SAME_DRAWS = 1e-4
_UNUSED = "a parameter took no part in the loss: it has no gradient"
_COUPLED = (
    "a sample's gradient changes with the samples beside it: this model or loss couples patients"
    " and cannot be trained privately"
)


def check_uncoupled(
    module: nn.Module,
    phase: Phase,
    *,
    image_shape: tuple[int, int, int],
    labels: int,
    seed: int = 0,
) -> float:
    """Compare the gradients that training would use with gradients of single images.

    Args:
        module: as it will be trained; a copy is used.
        phase: gives the loss, its draws and the parameters.
        image_shape: (C, S, S) of one image.
        labels: number of labels L.
        seed: of the random images, labels and draws.

    Returns:
        The largest difference, relative to the largest gradient.

    Raises:
        UnsupportedModule: a parameter took no part in the loss; or the loss goes through batch
            norm, or changes a buffer.
        CoupledSamples: an image's gradient or draws depend on the images beside it.
    """
    device = next(module.parameters()).device
    generator = Generator().manual_seed(seed)
    images = torch.randn((_SAMPLES, *image_shape), generator=generator).to(device)
    truth = (torch.rand((_SAMPLES, labels), generator=generator) < 0.3).to(torch.int8).to(device)
    model = copy.deepcopy(module)
    with exact(device):
        if is_plain(phase):
            difference = _hooked(model, phase, images, truth)
        else:
            difference = _functional(model, phase, images, truth, seed)
    if not difference <= _TOLERANCE:
        raise CoupledSamples(_COUPLED)
    return difference


def _hooked(model: nn.Module, phase: Phase, images: Tensor, truth: Tensor) -> float:
    gradients = HookedGradients(model, phase)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.eval()  # its randomness is per sample, but differs from call to call
    gradients.leave(images, truth)
    gathered = {n: getattr(p, "grad_sample", None) for n, p in gradients.parameters.items()}
    found = {n: g.detach().clone() for n, g in gathered.items() if isinstance(g, Tensor)}
    if len(found) < len(gathered):
        raise UnsupportedModule(_UNUSED)
    gradients.close()
    gap = _Gap()
    for row in range(_SAMPLES):
        gap.compare(_alone(model, phase, gradients.parameters, images, truth, {}, row), found, row)
    return gap.relative


def _functional(model: nn.Module, phase: Phase, images: Tensor, truth: Tensor, seed: int) -> float:
    generator = Generator().manual_seed(seed)
    gradients = FunctionalGradients(model, phase, generator)
    draws = _checked_draws(model, gradients, generator, images, truth)
    with _still_buffers(model, "the loss"), _no_mixing(model):
        together = phase.loss(model, images, truth, draws)
    if together.shape != (_SAMPLES,):
        raise UnsupportedModule(f"the phase {phase.name} does not give one loss an image")
    found = gradients.of(images, truth, draws)
    gap = _Gap()
    for row in range(_SAMPLES):
        alone = _alone(model, phase, gradients.parameters, images, truth, draws, row)
        gap.compare(alone, found, row)
        within = torch.autograd.grad(
            together[row], list(gradients.parameters.values()), retain_graph=True
        )
        stacked = {n: g.unsqueeze(0) for n, g in zip(gradients.parameters, within, strict=True)}
        gap.compare(alone, stacked, 0)
    gradients.close()
    return gap.relative


class _Gap:
    """The largest difference between gradients so far, and the largest gradient."""

    def __init__(self) -> None:
        self._worst, self._largest = 0.0, 0.0

    def compare(self, alone: Mapping[str, Tensor], found: Mapping[str, Tensor], row: int) -> None:
        for name, mine in alone.items():
            gap = float((mine - found[name][row]).abs().max())
            self._worst = gap if gap != gap else max(self._worst, gap)  # NaN stays
            self._largest = max(self._largest, float(mine.abs().max()))

    @property
    def relative(self) -> float:
        return self._worst / max(self._largest, 1e-12)


def _alone(
    model: nn.Module,
    phase: Phase,
    parameters: Mapping[str, nn.Parameter],
    images: Tensor,
    truth: Tensor,
    draws: Draws,
    row: int,
) -> dict[str, Tensor]:
    """Return the gradients of one image's loss, as a batch of one gives them."""
    own = {name: drawn[row : row + 1] for name, drawn in draws.items()}
    loss = phase.loss(model, images[row : row + 1], truth[row : row + 1], own).sum()
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    if any(gradient is None for gradient in found):
        raise UnsupportedModule(_UNUSED)
    return dict(zip(parameters, found, strict=True))


def _checked_draws(
    model: nn.Module,
    gradients: FunctionalGradients,
    generator: Generator,
    images: Tensor,
    truth: Tensor,
) -> Draws:
    """Return what is drawn, having seen that another first image leaves the other rows alone."""
    gradients.refresh()  # what is shared knows no image, and is not drawn between the two
    with _still_buffers(model, "what is drawn"):
        gradients.draw(images, truth)
    state = generator.get_state()
    with _still_buffers(model, "what is drawn"):
        draws = gradients.draw(images, truth)
    generator.set_state(state)
    other_images = torch.cat([images.flip(0)[:1] * 0.5, images[1:]])
    others = gradients.draw(other_images, torch.cat([1 - truth[:1].clamp(min=0), truth[1:]]))
    for name, drawn in draws.items():
        if len(drawn) != len(images):
            raise UnsupportedModule(f"the draws {name!r} have not one row an image")
        gap = (drawn[1:].double() - others[name][1:].double()).abs().max()
        if not float(gap) <= _SAME_DRAWS * max(1.0, float(drawn.double().abs().max())):
            raise CoupledSamples(
                f"the draws {name!r} of a sample change with the samples beside it"
            )
    return draws


@contextmanager
def _no_mixing(model: nn.Module) -> Iterator[None]:
    """Refuse that anything goes through a layer that takes statistics of several images."""

    def refuse(layer: nn.Module, _inputs: object) -> None:
        raise UnsupportedModule(
            f"the loss goes through {type(layer).__name__}, which mixes patients; only generated"
            " input may, outside the loss"
        )

    handles = [layer.register_forward_pre_hook(refuse) for layer in model.modules() if mixes(layer)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _still_buffers(model: nn.Module, what: str) -> Iterator[None]:
    """Refuse that buffers change: they would carry private images, without noise, to the others."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    yield
    for name, buffer in model.named_buffers():
        if not torch.equal(before[name], buffer):
            raise UnsupportedModule(f"{what} changes the buffer {name}, on which nobody puts noise")
