"""SS-GAN-ViT as a learner: what the registry knows as ``ssganvit``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from client.learners.phase import SUPERVISED, Phase
from client.learners.ssganvit.adversarial import ADVERSARIAL, Adversarial
from client.learners.ssganvit.mobilenet import in_timm_names
from client.learners.ssganvit.network import SSGANViT
from client.learners.ssganvit.options import MOBILENET, Options
from client.learners.ssganvit.self_supervised import SELF_SUPERVISED, SelfSupervised
from client.learners.ssganvit.supervised import Findings
from client.learners.target import Target, is_attention, search_target
from ledger.errors import ConfigError

_TRANSFORMER = "encoder.vit."
_STEM = f"{_TRANSFORMER}patch_embed."


@dataclass(frozen=True, kw_only=True)
class SSGANViTLearner(Options):
    """Three phases, one model file; see the package and ``Options``."""

    name: ClassVar[str] = "ssganvit"
    phases: ClassVar[tuple[str, ...]] = (ADVERSARIAL, SELF_SUPERVISED, SUPERVISED)

    def network(self) -> nn.Module:
        """Return all networks in one module."""
        return SSGANViT(self)

    def head(self, module: nn.Module) -> nn.Linear:
        """Return the layer over mean token and fused features."""
        head = module.get_submodule("head")
        if not isinstance(head, nn.Linear):
            raise ConfigError("this module is not of the learner ssganvit")
        return head

    def place_weights(self, given: Mapping[str, Tensor]) -> tuple[str, Mapping[str, Tensor]]:
        """Put a file of MobileNetV2 into the mobile stem, any other into the transformer.

        The transformer has no class token, so positions lose the first.
        """
        if self.stem == MOBILENET:
            return f"{_STEM}backbone.", in_timm_names(given)
        placed = dict(given)
        positions = placed.get("pos_embed")
        count = (self.input_size // self.patch) ** 2
        if positions is not None and positions.ndim == 3 and positions.shape[1] == count + 1:
            placed["pos_embed"] = positions[:, 1:]
        return _TRANSFORMER, placed

    def phase(self, name: str) -> Phase:
        """Return one of the three.

        Raises:
            ConfigError: this learner has no such phase, or nothing to do in it.
        """
        if name == ADVERSARIAL:
            return Adversarial(self)
        if name == SELF_SUPERVISED:
            return SelfSupervised(self)
        if name == SUPERVISED:
            return Findings(self)
        known = ", ".join(self.phases)
        raise ConfigError(f"learner {self.name} has no phase {name!r}; it has {known}")

    def needs_weights(self) -> str:
        """Return that a stem which nothing trains has to know something already."""
        if self.stem == MOBILENET and not self.train_stem:
            return "its stem is not trained (train_stem = false), so it must be trained already"
        return ""

    def explain_at(self, module: nn.Module) -> Target:
        """Return a mobile stem's last map, which blocks, fusion and centre all read; else search.

        What the critic makes of the image is in no map: its tokens have no place of their own here.
        """
        if self.stem != MOBILENET or not isinstance(module, SSGANViT):
            return search_target(self, module)
        side = self.input_size // self.patch
        return Target(
            layer=module.get_submodule(f"{_STEM}backbone.bn2"),
            grid=(side, side),
            attention=tuple(layer for layer in module.encoder.modules() if is_attention(layer)),
        )

    def check_phases(self, names: Sequence[str]) -> None:
        """Refuse findings over a centre that no round before them has learnt."""
        before = names[: names.index(SUPERVISED)] if SUPERVISED in names else names
        if self.centre and SUPERVISED in names and SELF_SUPERVISED not in before:
            raise ConfigError(
                f"learner {self.name}: a centre is learnt in a self-supervised round before the"
                " first supervised one, and this run has none"
            )

    def schedule(self, rounds: int) -> dict[str, int]:
        """Return each phase's rounds: one at least for each that has a share, if there are enough.

        A run of fewer rounds than phases leaves the earlier ones out.
        """
        shares = {ADVERSARIAL: self.adversarial_share, SELF_SUPERVISED: self.self_supervised_share}
        tasks = (self.rotation, self.colour, self.masked, self.triplet, self.nt_xent, self.centre)
        if not any(tasks):
            shares[SELF_SUPERVISED] = 0.0
        left, counts = rounds, {}
        for place, (name, share) in enumerate(shares.items()):
            # Those after it that need a round: the supervised one, and perhaps the second.
            needed = 1 + sum(later > 0 for later in list(shares.values())[place + 1 :])
            wanted = max(1, round(share * rounds)) if share > 0 else 0
            counts[name] = max(0, min(wanted, left - needed))
            left -= counts[name]
        counts[SUPERVISED] = left
        return {name: count for name, count in counts.items() if count}

    def rate_share(self, parameter: str) -> float:
        """Return the shares of the generator, and of the transformer's blocks and stem.

        What projects the mobile stem's channels is never pretrained, so it has the whole rate.
        """
        if parameter.startswith("generator."):
            return self.generator_rate
        if parameter.startswith(f"{_TRANSFORMER}blocks."):
            return self.block_rate
        if parameter.startswith(f"{_STEM}backbone." if self.stem == MOBILENET else _STEM):
            return self.stem_rate
        return 1.0
