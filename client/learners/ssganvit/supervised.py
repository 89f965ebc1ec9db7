"""The third phase: the findings, from everything that the phases before have made.

The composite loss of an image is the learner's own of its findings, plus ``deep_weight`` times the
mean over the groups of the fusion of the same loss of their opinions. With a generated image, each
of the two is taken of both: mixed into the real one in a share w as (1 - w) of the loss of the
real findings and w of the generated one's, or as a second term.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Generator, Tensor, nn

from client.learners.phase import SUPERVISED, Draws, Phase, with_odds
from client.learners.ssganvit.adversarial import enlarge, generate, uniform
from client.learners.ssganvit.network import SSGANViT, Told, names_below, statistics_below
from client.learners.ssganvit.options import EXTRA, MIX, NONE
from client.learners.ssganvit.presets import train_defaults

if TYPE_CHECKING:
    from client.learners.ssganvit.learner import SSGANViTLearner


class Findings(Phase):
    """Trains encoder, fusion and head on findings; the rest stays as it is."""

    name = SUPERVISED
    scored = True
    adjusted = True
    mixed = True

    def __init__(self, learner: SSGANViTLearner) -> None:
        self._learner = learner
        self.train_defaults = train_defaults(learner.preset, self.name)

    def trained(self, module: nn.Module) -> tuple[str, ...]:
        """Return the parameters of encoder, fusion and head."""
        return names_below(module, "encoder", "fusion", "head")

    def buffers(self, module: nn.Module) -> tuple[str, ...]:
        """Return the running statistics of a stem that has batch norm."""
        return statistics_below(module, "encoder")

    def draw(
        self,
        module: nn.Module,
        images: Tensor,
        labels: Tensor,  # noqa: ARG002 - generated findings come from the public prior
        generator: Generator,
    ) -> Draws:
        """Draw a generated image for each real one: ``made`` (B, 1, S, S), ``shown`` (B, L).

        ``share`` (B, 1, 1, 1) is what the mixture holds of it.
        """
        learner = self._learner
        if learner.gan_augmentation == NONE:
            return {}
        drawn = generate(cast("SSGANViT", module), learner, len(images), generator)
        share = uniform((len(images), 1, 1, 1), generator, images.device)
        return {
            "made": enlarge(drawn["image"], learner.input_size),
            "shown": drawn["labels"],
            "share": learner.augmentation_weight * share,
        }

    def loss(self, module: nn.Module, images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        """Return the composite loss of each image."""
        network, learner = cast("SSGANViT", module), self._learner
        if learner.gan_augmentation == MIX:
            share = draws["share"]
            told = network.tell(images + share * (draws["made"] - images))
            part = share.flatten()
            shown = self._of(told, draws["shown"], {})
            return (1 - part) * self._of(told, labels, draws) + part * shown
        loss = self._of(network.tell(images), labels, draws)
        if learner.gan_augmentation == EXTRA:
            made = self._of(network.tell(draws["made"]), draws["shown"], {})
            loss = loss + learner.augmentation_weight * made
        return loss

    def _of(self, told: Told, labels: Tensor, draws: Draws) -> Tensor:
        """Return the loss (B,) of what was told, the groups' opinions among it.

        Generated findings are as frequent as the public prior says: no hospital's odds are in them.
        """
        learner = self._learner
        loss, *deeper = (
            learner.loss(with_odds(each.float(), draws), labels)
            for each in (told.logits, *told.opinions)
        )
        if deeper:
            deep = torch.stack(deeper)
            loss = loss + learner.deep_weight * deep.mean(dim=0)
        return loss
