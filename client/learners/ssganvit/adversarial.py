"""The first phase: the critic learns what radiographs are, the generator to make some.

The critic's loss (Arjovsky et al. 2017, with the penalty of Gulrajani et al., NeurIPS 2017) is
one term an image: the image is paired with a generated one of its own, drawn beforehand, and the
penalty is taken between those two. So each patient touches its own term alone. The generator's
loss sees no image at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from client.learners.inputs import standardise
from client.learners.losses import masked_bce
from client.learners.phase import Draws, Phase, with_odds
from client.learners.ssganvit.critic import shrink
from client.learners.ssganvit.network import SSGANViT, names_below
from client.learners.ssganvit.options import SOFTMAX
from client.learners.ssganvit.presets import train_defaults

if TYPE_CHECKING:
    from client.learners.ssganvit.learner import SSGANViTLearner

ADVERSARIAL = "adversarial"
_TINY = 1e-12


class Adversarial(Phase):
    """Trains the critic on images and the generator on its critic.

    Attributes:
        free_every: steps of the critic for one of the generator.
        train_defaults: how to train this phase; the generator's rate is twice the critic's.
    """

    name = ADVERSARIAL

    def __init__(self, learner: SSGANViTLearner) -> None:
        self._learner = learner
        self.free_every = learner.critic_steps
        self.adjusted = learner.label_output != SOFTMAX  # whose findings are not told by odds
        self.train_defaults = train_defaults(learner.preset, self.name)

    def trained(self, module: nn.Module) -> tuple[str, ...]:
        """Return the critic's parameters."""
        return names_below(module, "critic")

    def free(self, module: nn.Module) -> tuple[str, ...]:
        """Return the generator's parameters."""
        return names_below(module, "generator")

    def buffers(self, module: nn.Module) -> tuple[str, ...]:
        """Return the running statistics of the generator's norms, which see noise only."""
        found = (name for name, _ in cast("SSGANViT", module).generator.named_buffers())
        return tuple(sorted(f"generator.{name}" for name in found))

    def draw(
        self,
        module: nn.Module,
        images: Tensor,
        labels: Tensor,  # noqa: ARG002 - generated findings come from the public prior
        generator: Generator,
    ) -> Draws:
        """Draw a generated image ``fake`` (B, 1, g, g) and a share ``between`` for each image."""
        made = generate(cast("SSGANViT", module), self._learner, len(images), generator)
        between = uniform((len(images), 1, 1, 1), generator, images.device)
        return {"fake": made["image"], "between": between}

    def loss(self, module: nn.Module, images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        """Return the critic's loss of each image and its generated one."""
        critic = cast("SSGANViT", module).critic
        real, fake = shrink(images, self._learner.gan_size), draws["fake"]
        count = len(real)
        realness, findings = critic(torch.cat([real, fake]))
        loss: Tensor = realness[count:] - realness[:count]
        if self._learner.penalty:
            mixed = fake + draws["between"] * (real - fake)
            slope: Tensor = torch.func.grad(lambda x: critic(x)[0].sum())(mixed)
            norm = (slope.square().sum(dim=(1, 2, 3)) + _TINY).sqrt()
            loss = loss + self._learner.penalty * (norm - 1).square()
        if self._learner.finding_weight:
            own = with_odds(findings[:count], draws)
            told = finding_loss(own, labels, self._learner.label_output)
            loss = loss + self._learner.finding_weight * told
        return loss

    def free_loss(self, module: nn.Module, count: int, generator: Generator) -> Tensor:
        """Return what the critic holds against ``count`` generated images."""
        network = cast("SSGANViT", module)
        noise, asked = draw_noise(network, self._learner, count, generator)
        realness, findings = network.critic(network.generator(noise, asked, settled=False))
        loss: Tensor = -realness.mean()
        if self._learner.conditional and self._learner.finding_weight:
            told = finding_loss(findings, asked, self._learner.label_output).mean()
            loss = loss + self._learner.finding_weight * told
        return loss


def generate(
    network: SSGANViT, learner: SSGANViTLearner, count: int, generator: Generator
) -> dict[str, Tensor]:
    """Return ``image`` (B, 1, g, g) in (-1, 1) and ``labels`` (B, L) int8, each row by itself.

    The findings are those the generator was asked for; one that is not told any is believed what
    its critic says.
    """
    noise, asked = draw_noise(network, learner, count, generator)
    image = network.generator(noise, asked, settled=True)
    if not learner.conditional:
        asked = (network.critic(image)[1] > 0).to(torch.int8)
    return {"image": image, "labels": asked}


def enlarge(generated: Tensor, size: int) -> Tensor:
    """Bring generated images (B, 1, g, g) to the side and the standard form of radiographs."""
    large = functional.interpolate(
        generated, size=(size, size), mode="bilinear", align_corners=False
    )
    return standardise(large)


def draw_noise(
    network: SSGANViT, learner: SSGANViTLearner, count: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Draw noise (B, latent) and findings (B, L) int8, each by its public share.

    Without a prior an image shows one of the findings on average; of a single one, every second
    image does, for else the generator would never be asked for a film without it.
    """
    device = network.head.weight.device
    size = (count, network.generator.latent)
    noise = torch.randn(size, generator=generator, device=generator.device)
    chance = uniform((count, learner.labels), generator, device)
    shares = chance.new_tensor(learner.prior or [1 / max(learner.labels, 2)] * learner.labels)
    return noise.to(device), (chance < shares).to(torch.int8)


def uniform(size: tuple[int, ...], generator: Generator, device: torch.device) -> Tensor:
    """Draw from [0, 1), and bring it to a device."""
    return torch.rand(size, generator=generator, device=generator.device).to(device)


def finding_loss(logits: Tensor, labels: Tensor, output: str) -> Tensor:
    """Return the critic's loss of the findings, one an image (B,).

    Under "softmax" the findings compete: cross-entropy with the present ones as a distribution
    (none, where an image shows none), which is the paper's, and wrong where findings coincide.
    """
    if output != SOFTMAX:
        return masked_bce(logits, labels)
    present = (labels == 1).to(logits.dtype)
    among = logits.masked_fill(labels < 0, torch.finfo(logits.dtype).min)
    spread = -functional.log_softmax(among, dim=1).masked_fill(labels < 0, 0.0)
    return (spread * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)
