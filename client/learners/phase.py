"""What a phase is: a span of rounds with an objective, and parameters, of its own.

A learner's ``phases`` names them in order; ``Learner.phase`` gives each. One phase serves plain
and private training alike, because its loss is *one number an image*: everything an image's loss
needs beside the image and its labels (random choices, generated images) is drawn beforehand: by
``draw``, row by row, and by ``share``, once a step for all. Under differential privacy the same
loss is differentiated image by image (``torch.func``), so a patient touches nothing but its own
term.

A phase may also train parameters on no image at all (a generator on its critic's opinion of noise):
those are ``free``, for what they learn is computed from released parameters alone, which costs no
privacy (post-processing: Dwork and Roth 2014, proposition 2.1).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from torch import Generator, Tensor, nn

from ledger.server_rule import is_moment

if TYPE_CHECKING:
    from client.learners.interface import Learner

SUPERVISED = "supervised"
ODDS = "odds"
"""The name, among what is drawn, of what is added to findings' logits (``label_odds``)."""
Draws = dict[str, Tensor]
"""By name, tensors whose row i belongs to image i alone (of what is shared: no rows yet)."""


class Phase(ABC):
    """One span of rounds.

    Attributes:
        name: what rounds call it.
        scored: whether the findings that a model tells after such a round mean anything.
        free_every: the free parameters take a step after every so many steps of the others.
        train_defaults: settings of a training plan that suit the phase, by the plan's names.
        adjusted: whether the loss adds ``draws[ODDS]``, where there are any, to the logits of an
            image's own findings.
        mixed: whether the loss may be computed in bfloat16 (on a GPU, without privacy). Not where
            it differentiates by itself: a gradient penalty squares what rounding leaves.
    """

    name: ClassVar[str]
    scored: ClassVar[bool] = False
    free_every: int = 1
    train_defaults: Mapping[str, object] = MappingProxyType({})
    adjusted: bool = False
    mixed: ClassVar[bool] = False

    @abstractmethod
    def trained(self, module: nn.Module) -> tuple[str, ...]:
        """Return the sorted names of the parameters that images train."""

    def free(self, module: nn.Module) -> tuple[str, ...]:  # noqa: ARG002 - most have none
        """Return the sorted names of the parameters that only generated input trains."""
        return ()

    def buffers(self, module: nn.Module) -> tuple[str, ...]:  # noqa: ARG002 - most have none
        """Return the sorted names of the floating buffers that a training step changes."""
        return ()

    def travels(self, module: nn.Module) -> tuple[str, ...]:
        """Return the sorted names of the tensors whose changes a round of this phase sums."""
        return tuple(sorted({*self.trained(module), *self.free(module), *self.buffers(module)}))

    def draw(
        self,
        module: nn.Module,  # noqa: ARG002 - most draw nothing
        images: Tensor,  # noqa: ARG002
        labels: Tensor,  # noqa: ARG002
        generator: Generator,  # noqa: ARG002
    ) -> Draws:
        """Draw what the loss of each image needs beside it; called without gradients.

        Row i may depend on image i, its labels and the module's parameters, and on no other image.
        In private rounds the module is in evaluation mode here and in ``loss``: batch norm, which
        would make each generated image depend on how many there are, then uses running statistics,
        and dropout is off. Only here and in ``free_loss`` may anything pass through batch norm.

        Args:
            module: as it is before the step.
            images: (B, C, S, S) float32, standardised.
            labels: (B, L) of 1, 0, -1 and -2.
            generator: where every random choice comes from; on the processor, so what is drawn is
                brought to ``images.device``.
        """
        return {}

    def share(self, module: nn.Module, generator: Generator) -> Draws:  # noqa: ARG002 - most do not
        """Draw what every image's loss of a step is held against; called without gradients.

        The same for all, without a batch dimension, and from the module's parameters alone. Once a
        step, into however many parts its images are cut: drawn anew for each part, one patient more
        would move others into another part, and so change their terms, too.
        """
        return {}

    def draws(
        self,
        module: nn.Module,
        images: Tensor,
        labels: Tensor,
        generator: Generator,
        shared: Draws | None = None,
    ) -> Draws:
        """Return all that the loss of each image needs beside it: ``draw`` and ``share``.

        Args:
            module: see ``draw``.
            images: likewise.
            labels: likewise.
            generator: likewise.
            shared: of this step; None: drawn here.
        """
        if shared is None:
            shared = self.share(module, generator)
        spread = {name: one.expand(len(images), *one.shape) for name, one in shared.items()}
        return {**self.draw(module, images, labels, generator), **spread}

    @abstractmethod
    def loss(self, module: nn.Module, images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        """Return one loss an image (B,); it must hold for B = 1 and under ``torch.func.vmap``."""

    def free_loss(self, module: nn.Module, count: int, generator: Generator) -> Tensor:
        """Return the loss (a scalar) of the free parameters over ``count`` generated images."""
        raise NotImplementedError


class Supervised(Phase):
    """The learner's own loss on labelled images; the phase of a learner that says nothing."""

    name = SUPERVISED
    scored = True
    adjusted = True
    mixed = True

    def __init__(self, learner: Learner) -> None:
        self._learner = learner

    def trained(self, module: nn.Module) -> tuple[str, ...]:
        """Return every parameter that gradients reach."""
        return tuple(sorted(n for n, p in module.named_parameters() if p.requires_grad))

    def travels(self, module: nn.Module) -> tuple[str, ...]:
        """Return all that the learner shares, running statistics among it, but moments."""
        return tuple(n for n in self._learner.shared(module) if not is_moment(n))

    def loss(self, module: nn.Module, images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        """Return the learner's loss of the module's logits."""
        return self._learner.loss(with_odds(module(images).float(), draws), labels)


def with_odds(logits: Tensor, draws: Draws) -> Tensor:
    """Return the logits (B, L) with a hospital's own odds added, where there are any."""
    return logits + draws[ODDS] if ODDS in draws else logits
