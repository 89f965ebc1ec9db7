"""What a learner is: a model family with its objective, small enough to write in one file.

A learner is a frozen dataclass: its fields are its options, so that ``describe`` can put them in
the round configuration (whose digest is on the chain) and every hospital builds the same network.
A third party subclasses ``Learner``, sets ``name``, writes ``network`` and ``head``, and declares
the class under the entry-point group ``thoracle.learners``; everything else has a default:

    @dataclass(frozen=True, kw_only=True)
    class Linear(Learner):
        name: ClassVar[str] = "linear"

        def network(self) -> nn.Module:
            return nn.Sequential(nn.Flatten(), nn.Linear(self.input_size**2, self.outputs))

        def head(self, module: nn.Module) -> nn.Linear:
            return module[1]

What travels between hospitals and server (``shared``): all parameters and all persistent
floating-point buffers, which includes the running mean and variance of batch norm (and the power
iteration vectors of spectral norm) where a learner has them. Integer buffers, such as batch
norm's count of batches, never travel. The option ``local`` keeps the norms or the head at each
hospital: ``shared`` then leaves them out, and ``local_tensors`` names them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from client.learners.losses import (
    CLASSES,
    LOSSES,
    MULTICLASS,
    balance_weights,
    positive_logits,
)
from client.learners.phase import SUPERVISED, Phase, Supervised
from ledger.errors import ConfigError
from ledger.server_rule import is_moment, moment_names

MAX_LABELS = 256
MAX_INPUT_SIZE = 1024
SHARED, NORMS_LOCAL, HEAD = "", "norms", "head"
NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)
_PRIOR_FLOOR = 1e-4
_UNCERTAIN_PRIOR = 0.05
"""Where the share of uncertain labels starts under U-MultiClass: rare, as they are."""


@dataclass(frozen=True, kw_only=True)
class Learner(ABC):
    """One model family and its objective.

    Args:
        labels: number of findings L, 1 to 256.
        input_size: side of the square input in pixels, 8 to 1024.
        objective: a name in ``losses.LOSSES``.
        balance: how far present and absent are weighed as equals in the loss, [0, 1]; 0 not at
            all, 1 wholly (``losses.balance_weights``). Scores are corrected for it.
        prior: share of positives of each label, strictly within (0, 1), where ``balance`` is not
            0. Public values: they are in the configuration that everyone sees.
        local: what each hospital keeps for itself: "" nothing, "norms" the norms (FedBN: Li et al.,
            ICLR 2021), "head" the output layer (FedPer: Arivazhagan et al. 2019).
        moments: whether the model carries the server's moments of its parameters
            (``ledger.server_rule``): buffers that nothing here reads or trains.

    Raises:
        ConfigError: an option is outside its range.
    """

    name: ClassVar[str]
    phases: ClassVar[tuple[str, ...]] = (SUPERVISED,)
    """Spans of rounds with an objective of their own, in order; ``phase`` gives each."""
    channels: ClassVar[int] = 1

    labels: int = 14
    input_size: int = 64
    objective: str = "bce"
    balance: float = 0.0
    prior: tuple[float, ...] = ()
    local: str = SHARED
    moments: bool = False

    @property
    def outputs(self) -> int:
        """Width of the network's output: L, or 3 L for the classes of ``multiclass``."""
        return self.labels * (CLASSES if self.objective == MULTICLASS else 1)

    def __post_init__(self) -> None:
        self.check_range("labels", 1, MAX_LABELS)
        self.check_range("input_size", 8, MAX_INPUT_SIZE)
        if self.objective not in LOSSES:
            known = ", ".join(sorted(LOSSES))
            raise ConfigError(f"learner {self.name}: objective is one of {known}")
        self.check_range("balance", 0.0, 1.0)
        self._check_prior()
        if self.local not in (SHARED, NORMS_LOCAL, HEAD):
            raise ConfigError(f'learner {self.name}: local is "", "norms" or "head"')
        if not isinstance(self.moments, bool):
            raise ConfigError(f"learner {self.name}: moments is true or false")

    def _check_prior(self) -> None:
        """Make the prior a tuple (JSON knows lists only) and check it against the balance."""
        given: object = self.prior
        if not isinstance(given, (tuple, list)) or not all(
            isinstance(share, float) and 0 < share < 1 for share in given
        ):
            raise ConfigError(f"learner {self.name}: prior is a list of shares within (0, 1)")
        object.__setattr__(self, "prior", tuple(given))
        if len(given) not in {0, self.labels} or bool(self.balance) > bool(given):
            raise ConfigError(
                f"learner {self.name}: a balanced loss needs the prior of its {self.labels} labels"
            )
        if self.balance and self.objective == MULTICLASS:
            raise ConfigError(f"learner {self.name}: balance is for losses of two classes")

    @abstractmethod
    def network(self) -> nn.Module:
        """Return a fresh module mapping float32 images (B, 1, S, S) to logits (B, ``outputs``)."""

    @abstractmethod
    def head(self, module: nn.Module) -> nn.Linear:
        """Return the module's output layer, whose bias starts at the label prior."""

    def features(self, module: nn.Module, images: Tensor) -> Tensor:
        """Return what the head sees, (B, D), for explanation and fusion."""
        captured: list[Tensor] = []
        handle = self.head(module).register_forward_pre_hook(
            lambda _module, inputs: captured.append(inputs[0])
        )
        try:
            module(images)
        finally:
            handle.remove()
        return captured[-1]

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return one loss per example (B,), from logits and labels in {1, 0, -1, -2} (B, L)."""
        weights = None
        if self.balance:
            weights = balance_weights(self.prior, self.balance).to(logits.device)
        return LOSSES[self.objective](logits, labels, weights)

    def scores(self, logits: Tensor) -> Tensor:
        """Return the logits (B, L) that each finding is present, from the network's outputs.

        Under ``multiclass`` the class uncertain is left out, as in the CheXpert paper; of a
        balanced loss the outputs are brought back to the odds of the prior.
        """
        if self.objective == MULTICLASS:
            return positive_logits(logits)
        return logits + logits.new_tensor(self._correction()) if self.balance else logits

    def rate_share(self, parameter: str) -> float:  # noqa: ARG002 - for learners that differ
        """Return the share of the plan's learning rate that this parameter trains with."""
        return 1.0

    def build(self, seed: int, prior: Sequence[float] | None = None) -> nn.Module:
        """Build the initial module; equal arguments give equal weights.

        Args:
            seed: of the initial weights.
            prior: for each label, its share of positives in [0, 1], where the output bias
                starts. It ends up in the initial model that everyone sees, so it must come from
                public data or the configuration, never from a hospital's private labels.
                None: the learner's own ``prior``, or else bias zero, that is one half.

        Raises:
            ConfigError: the prior's length or range is wrong.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = self.network()
        start = self.prior or [0.5] * self.labels if prior is None else prior
        self._set_prior(self.head(module), start)
        if self.moments:
            attach_moments(module, set(self.local_tensors(module)))
        return module

    def place_weights(self, given: Mapping[str, Tensor]) -> tuple[str, Mapping[str, Tensor]]:
        """Return which part of the module weights from elsewhere are for, and them in its names.

        Args:
            given: tensors by the names of the file that they come from.

        Returns:
            the part's prefix, "" for the whole module, and tensors by names within the part.
        """
        return "", given

    def phase(self, name: str) -> Phase:
        """Return one of ``phases``.

        Raises:
            ConfigError: this learner has no such phase.
        """
        if name != SUPERVISED or name not in self.phases:
            known = ", ".join(self.phases)
            raise ConfigError(f"learner {self.name} has no phase {name!r}; it has {known}")
        return Supervised(self)

    def needs_weights(self) -> str:
        """Return why this learner is nothing without a file of initial weights, or nothing."""
        return ""

    def check_phases(self, names: Sequence[str]) -> None:  # noqa: B027 - most refuse nothing
        """Refuse a run's phases, in their order, of which one would lack what another makes.

        Raises:
            ConfigError: says which.
        """

    def schedule(self, rounds: int) -> dict[str, int]:
        """Return how many of a run's rounds each phase has where nobody says otherwise.

        Args:
            rounds: of the run, at least 1.

        Returns:
            phases in their order to their rounds, which make up all; one of 0 is left out.
        """
        return {self.phases[-1]: rounds}

    def shared(self, module: nn.Module) -> tuple[str, ...]:
        """Return the sorted names of the tensors of the model file (see the module).

        In one phase only the changes of ``Phase.travels`` are summed; the rest stay as they are.
        """
        parameters = dict(module.named_parameters())
        aliases = dict(module.named_parameters(remove_duplicate=False))
        buffers = [
            name
            for name, tensor in module.state_dict().items()
            if name not in aliases and tensor.is_floating_point()
        ]
        return tuple(sorted({*parameters, *buffers} - set(self.local_tensors(module))))

    def local_tensors(self, module: nn.Module) -> tuple[str, ...]:
        """Return the sorted names of the floating tensors that each hospital keeps for itself."""
        if self.local == SHARED:
            return ()
        head = self.head(module)
        names = [
            f"{prefix}.{name}"
            for prefix, layer in module.named_modules()
            if (layer is head if self.local == HEAD else isinstance(layer, NORMS))
            for name, tensor in layer.state_dict().items()
            if tensor.is_floating_point()
        ]
        return tuple(sorted(names))

    def describe(self) -> dict[str, object]:
        """Return name and options as JSON values; ``from_description`` inverts it."""
        return {"name": self.name, **asdict(self), "prior": list(self.prior)}

    def _correction(self) -> list[float]:
        """Return what a balanced loss takes from each logit: ``balance * logit(prior)``."""
        return [self.balance * math.log(share / (1 - share)) for share in self.prior]

    def check_range(self, option: str, low: float, high: float) -> None:
        """Refuse a number outside [low, high]: options may come from a coordinator.

        Raises:
            ConfigError: it is outside, of the wrong kind, or not finite.
        """
        value = getattr(self, option)
        whole = isinstance(low, int)
        right = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not right or not low <= value <= high:
            kind = "an integer" if whole else "a number"
            raise ConfigError(
                f"learner {self.name}: {option} is {kind} in [{low}, {high}], not {value!r}"
            )

    def _set_prior(self, head: nn.Linear, prior: Sequence[float]) -> None:
        if len(prior) != self.labels or not all(0 <= share <= 1 for share in prior):
            raise ConfigError(f"a label prior holds {self.labels} shares in [0, 1]")
        bounded = [min(max(float(share), _PRIOR_FLOOR), 1 - _PRIOR_FLOOR) for share in prior]
        if head.out_features != self.outputs:
            raise ConfigError(
                f"learner {self.name} gives {head.out_features} outputs where the objective"
                f" {self.objective} needs {self.outputs}"
            )
        values = [math.log(share / (1 - share)) for share in bounded]
        if self.balance:
            values = [v - c for v, c in zip(values, self._correction(), strict=True)]
        if self.objective == MULTICLASS:
            known = 1 - _UNCERTAIN_PRIOR
            values = [
                math.log(each)
                for share in bounded
                for each in (known * (1 - share), known * share, _UNCERTAIN_PRIOR)
            ]
        with torch.no_grad():
            head.bias.copy_(torch.tensor(values))


def attach_moments(module: nn.Module, local: set[str]) -> None:
    """Give a module two zero buffers for each parameter that travels: the server's moments."""
    for name, parameter in list(module.named_parameters()):
        if name not in local:
            for moment in moment_names(name):
                module.register_buffer(moment, torch.zeros_like(parameter, requires_grad=False))


def drop_moments(module: nn.Module) -> None:
    """Take the server's moments off a module that will not be trained any more."""
    for name in [name for name, _ in module.named_buffers(recurse=False)]:
        if is_moment(name):
            delattr(module, name)
