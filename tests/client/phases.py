"""A learner of two phases, tiny: a Wasserstein critic with its generator, then findings.

What is awkward about the real ones is here: spectral norm with its vectors, a gradient penalty, a
generator with batch norm, dropout, and a part that a phase leaves alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from client.learners.interface import Learner
from client.learners.phase import Draws, Phase, Supervised
from ledger.errors import ConfigError

SIDE, LATENT = 8, 4


class Networks(nn.Module):
    def __init__(self, labels: int) -> None:
        super().__init__()
        self.critic = nn.Sequential(
            spectral_norm(nn.Conv2d(1, 4, 4, 2, 1)),
            nn.GroupNorm(2, 4),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(4 * (SIDE // 2) ** 2, 1, bias=False),  # a constant would have no gradient
        )
        self.generator = nn.Sequential(
            nn.Linear(LATENT, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, SIDE**2), nn.Tanh()
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, labels))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(images)
        return logits

    def made(self, noise: Tensor) -> Tensor:
        images: Tensor = self.generator(noise).reshape(-1, 1, SIDE, SIDE)
        return images


def below(module: nn.Module, part: str) -> tuple[str, ...]:
    return tuple(sorted(n for n, _ in module.named_parameters() if n.startswith(f"{part}.")))


class Adversarial(Phase):
    name = "adversarial"
    free_every = 2

    def trained(self, module: nn.Module) -> tuple[str, ...]:
        return below(module, "critic")

    def free(self, module: nn.Module) -> tuple[str, ...]:
        return below(module, "generator")

    def buffers(self, module: nn.Module) -> tuple[str, ...]:
        named = dict(module.named_buffers())
        return tuple(sorted(n for n, buffer in named.items() if buffer.is_floating_point()))

    def draw(
        self, module: nn.Module, images: Tensor, labels: Tensor, generator: Generator
    ) -> Draws:
        noise = torch.randn((len(images), LATENT), generator=generator, dtype=images.dtype)
        share = torch.rand((len(images), 1, 1, 1), generator=generator, dtype=images.dtype)
        return {"fake": module.made(noise), "share": share}  # type: ignore[operator]

    def loss(self, module: nn.Module, images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        critic, fake = module.get_submodule("critic"), draws["fake"]
        mixed = fake + draws["share"] * (images - fake)
        slope: Tensor = torch.func.grad(lambda x: critic(x).sum())(mixed)
        norm = (slope.square().sum(dim=(1, 2, 3)) + 1e-12).sqrt()
        loss: Tensor = (critic(fake) - critic(images)).squeeze(1) + 10 * (norm - 1).square()
        return loss

    def free_loss(self, module: nn.Module, count: int, generator: Generator) -> Tensor:
        noise = torch.randn((count, LATENT), generator=generator)
        loss: Tensor = -module.get_submodule("critic")(module.made(noise)).mean()  # type: ignore[operator]
        return loss


@dataclass(frozen=True, kw_only=True)
class Toy(Learner):
    name: ClassVar[str] = "toy"
    phases: ClassVar[tuple[str, ...]] = ("adversarial", "supervised")

    labels: int = 2
    input_size: int = SIDE

    def network(self) -> nn.Module:
        return Networks(self.labels)

    def head(self, module: nn.Module) -> nn.Linear:
        head = module.get_submodule("classifier.1")
        assert isinstance(head, nn.Linear)
        return head

    def phase(self, name: str) -> Phase:
        if name not in self.phases:
            raise ConfigError(f"no phase {name}")
        return Adversarial() if name == "adversarial" else Findings(self)


class Findings(Supervised):
    def trained(self, module: nn.Module) -> tuple[str, ...]:
        return below(module, "classifier")

    def travels(self, module: nn.Module) -> tuple[str, ...]:
        return self.trained(module)
