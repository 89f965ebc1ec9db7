"""The second phase: the encoder learns from radiographs themselves, without their findings.

Each image has two views. One is turned by quarters, and the turn is to be told; of the other,
degraded and with cells hidden, the hidden segments and the pseudo-colours. The two are compared
with each other and with generated images. So all tasks cost two passes of the encoder an image,
and a centre one of the stem, of the image as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Generator, Tensor, nn

from client.learners.augment import augment
from client.learners.modes import in_mode
from client.learners.phase import Draws, Phase
from client.learners.ssganvit import views
from client.learners.ssganvit.adversarial import enlarge, generate
from client.learners.ssganvit.network import SSGANViT, names_below, statistics_below
from client.learners.ssganvit.presets import train_defaults
from client.learners.ssganvit.pretext import nt_xent, triplet
from ledger.errors import ConfigError

if TYPE_CHECKING:
    from client.learners.ssganvit.learner import SSGANViTLearner

SELF_SUPERVISED = "self_supervised"


class SelfSupervised(Phase):
    """Trains encoder and tasks' heads on images alone; critic and generator stay as they are.

    Raises:
        ConfigError: no task is on.
    """

    name = SELF_SUPERVISED

    def __init__(self, learner: SSGANViTLearner) -> None:
        self._learner = learner
        self.train_defaults = train_defaults(learner.preset, self.name)
        self._compares = learner.triplet > 0 or learner.nt_xent > 0
        self._tells = learner.masked > 0 or learner.colour > 0
        self._encodes = self._compares or self._tells or learner.rotation > 0
        if not (self._encodes or learner.centre > 0):
            raise ConfigError(f"learner {learner.name}: no self-supervised task is on")

    def trained(self, module: nn.Module) -> tuple[str, ...]:
        """Return the parameters of encoder, heads and centre; of a centre alone only its own."""
        if not self._encodes:
            return names_below(module, "centre")
        names = names_below(module, "encoder", "pretext", "centre")
        if self._learner.depth or self._learner.rotation or self._compares:
            return names
        # Without blocks the critic's tokens are in the mean alone, which no task that is on reads.
        return tuple(name for name in names if not name.startswith("encoder.gan_tokens."))

    def buffers(self, module: nn.Module) -> tuple[str, ...]:
        """Return the running statistics of a stem that has batch norm."""
        return statistics_below(module, "encoder")

    def share(self, module: nn.Module, generator: Generator) -> Draws:
        """Draw the ``negatives`` (K, P): vectors of generated images, which are nobody's.

        Whatever mode the module is in, they go through it as when it evaluates, so that a stem's
        batch norm neither learns from generated images nor compares them with each other.
        """
        if not self._compares:
            return {}
        network, learner = cast("SSGANViT", module), self._learner
        with in_mode(network, training=False):
            made = generate(network, learner, learner.negatives, generator)["image"]
            encoded = network.encode(enlarge(made, learner.input_size))
            return {"negatives": network.pretext.compare(encoded)}

    def draw(
        self,
        module: nn.Module,  # noqa: ARG002 - views are of images alone
        images: Tensor,
        labels: Tensor,  # noqa: ARG002 - nothing here knows findings
        generator: Generator,
    ) -> Draws:
        """Draw both views, and what is to be told of them.

        Returns:
            ``turned`` (B, 1, S, S) and ``quarters`` (B,); ``partial`` (B, 1, S, S), ``hidden``
            (B, M), ``bins`` (B, M, 4) and ``colours`` (B, N, 12). Nothing for a centre alone.
        """
        learner, count = self._learner, len(images)
        if not self._encodes:
            return {}
        cell = learner.patch
        drawn: Draws = {}
        ways = views.WAYS if learner.rotation else 1
        quarters = torch.randint(ways, (count,), generator=generator, device=generator.device)
        drawn["quarters"] = quarters.to(images.device)
        drawn["turned"] = views.turn(augment(images, views.MOTION, generator), drawn["quarters"])
        whole = augment(images, views.MOTION, generator)
        cells = (learner.input_size // cell) ** 2
        hidden = views.draw_hidden(count, cells, learner.mask_share, generator).to(images.device)
        bins = views.quantise(views.segments(whole, cell), learner.bins)
        drawn["hidden"] = hidden
        drawn["bins"] = torch.gather(bins, 1, hidden.unsqueeze(2).expand(-1, -1, views.SEGMENTS))
        drawn["colours"] = views.colours(whole, cell)
        seen = views.degrade(whole) if learner.colour else whole
        drawn["partial"] = views.hide(seen, hidden, cell) if learner.masked else seen
        return drawn

    def loss(self, module: nn.Module, images: Tensor, labels: Tensor, draws: Draws) -> Tensor:  # noqa: ARG002 - all is in the draws
        """Return the weighted sum of the tasks' losses."""
        network, learner = cast("SSGANViT", module), self._learner
        heads = network.pretext
        total = images.new_zeros(len(images))
        if learner.rotation or self._compares:
            turned = network.encode(draws["turned"])
        if self._tells or self._compares:
            partial = network.encode(draws["partial"])
        if learner.rotation:
            total = total + learner.rotation * heads.tell_rotation(turned, draws["quarters"])
        if learner.masked:
            told = heads.tell_masked(partial, draws["hidden"], draws["bins"])
            total = total + learner.masked * told
        if learner.colour:
            total = total + learner.colour * heads.tell_colour(partial, draws["colours"])
        if self._compares:
            trio = heads.compare(turned), heads.compare(partial), draws["negatives"]
            total = total + learner.triplet * triplet(*trio, learner.margin)
            total = total + learner.nt_xent * nt_xent(*trio, learner.temperature)
        if network.centre is not None:
            with torch.no_grad():  # the centre follows the features, not they the centre
                stem = network.encoder.stem_tokens(images)
            total = total + learner.centre * network.centre.loss(stem)
        return total
