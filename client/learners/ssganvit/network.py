"""All networks of SS-GAN-ViT in one module, so that all phases have one model file."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from client.learners.ssganvit.centre import Centre
from client.learners.ssganvit.critic import Critic, shrink
from client.learners.ssganvit.encoder import GAN_MAPS, Encoded, Encoder
from client.learners.ssganvit.fusion import Fusion, Sources
from client.learners.ssganvit.generator import Generator
from client.learners.ssganvit.options import SIGMOID, Options
from client.learners.ssganvit.pretext import Pretext


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the classifier says: ``logits`` (B, outputs) and those of each group of the fusion."""

    logits: Tensor
    opinions: tuple[Tensor, ...]


class SSGANViT(nn.Module):
    """Images (B, 1, S, S) to logits (B, outputs); the parts are there for their phases."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.gan_size = options.gan_size
        self.generator = Generator(
            size=options.gan_size,
            latent=options.latent,
            width=options.generator_width,
            labels=options.labels if options.conditional else 0,
        )
        self.critic = Critic(
            size=options.gan_size,
            width=options.critic_width,
            labels=options.labels,
            bounded=options.critic_output == SIGMOID,
        )
        gan_channels = self.critic.channels[-GAN_MAPS:]
        self.encoder = Encoder(options, gan_channels)
        self.pretext = Pretext(options)
        self.centre = Centre(self.encoder.stem_channels) if options.centre else None
        self.reads_critic = options.gan_tokens
        self.fusion: Fusion | None = None
        features = options.width
        if options.fusion:
            groups: dict[str, tuple[int, ...]] = {
                "vit": (options.width,) * len(self.encoder.depths)
            }
            if options.gan_tokens:
                groups["gan"] = gan_channels
            if self.pretext.projector is not None:
                groups["self"] = (options.projection,)
            if self.encoder.stem_channels:
                groups["stem"] = (self.encoder.stem_channels,)
            self.fusion = Fusion(
                channels=groups,
                width=options.fusion_width,
                outputs=options.outputs,
                deep=options.deep_weight > 0,
            )
            features += options.fusion_width
        if self.centre is not None:
            features += self.encoder.stem_channels
        self.head = nn.Linear(features, options.outputs)
        if self.centre is not None:
            # So many channels weighed at random would drown what few private steps teach.
            nn.init.zeros_(self.head.weight)

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the critic's maps that others read, without a way back for gradients."""
        if not self.reads_critic:
            return ()
        found = self.critic.maps(shrink(images, self.gan_size))
        return tuple(features.detach() for features in found[-GAN_MAPS:])

    def encode(self, images: Tensor) -> Encoded:
        """Return the encoder's features of (B, 1, S, S)."""
        encoded: Encoded = self.encoder(images, self.maps(images))
        return encoded

    def tell(self, images: Tensor) -> Told:
        """Return the findings' logits and the fusion's opinions."""
        maps = self.maps(images)
        encoded: Encoded = self.encoder(images, maps)
        read = [encoded.mean]
        if self.centre is not None and encoded.stem is not None:
            read.append(self.centre(encoded.stem))
        if self.fusion is None:
            return Told(logits=self.head(torch.cat(read, dim=1)), opinions=())
        sources: Sources = {"vit": encoded.stages}
        if maps:
            sources["gan"] = tuple(each.flatten(2).transpose(1, 2) for each in maps)
        if self.pretext.projector is not None:
            sources["self"] = (self.pretext.projector(encoded.tokens),)
        if encoded.stem is not None:
            sources["stem"] = (encoded.stem,)
        fused, opinions = self.fusion(sources)
        logits: Tensor = self.head(torch.cat([*read, fused], dim=1))
        return Told(logits=logits, opinions=opinions)

    def forward(self, images: Tensor) -> Tensor:
        """Return the findings' logits."""
        return self.tell(images).logits


def names_below(module: nn.Module, *parts: str) -> tuple[str, ...]:
    """Return the sorted names of the trainable parameters of these parts of a module."""
    prefixes = tuple(f"{part}." for part in parts)
    found = (n for n, p in module.named_parameters() if p.requires_grad and n.startswith(prefixes))
    return tuple(sorted(found))


def statistics_below(module: nn.Module, part: str) -> tuple[str, ...]:
    """Return the sorted names of the running statistics of a part's batch norms."""
    found = (
        f"{name}.{kind}"
        for name, layer in module.named_modules()
        if isinstance(layer, nn.BatchNorm2d) and name.startswith(f"{part}.")
        for kind in ("running_mean", "running_var")
    )
    return tuple(sorted(found))
