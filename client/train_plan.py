"""How a hospital trains in one round: the fields of a configuration's ``train``, checked.

The plan says what everybody agreed on; where it runs (processor or GPU) is each hospital's own
affair (``client.learners.device``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from client.learners.augment import Augmentation
from ledger.errors import ConfigError

OPTIMISERS = ("adamw", "adam", "sgd")
_MAX_EPOCHS = 1000
_MAX_BATCH = 65_536
_MAX_PARTS = 1000
_MAX_TURN = 1 << 32
_FREE_RATE = 1e-4
_OF_ROUND = ("span", "turn")


@dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """How to train in one round.

    The learning rate follows a half cosine over the whole run, after a linear warm-up; ``span``
    is the part of the run that this round covers, and ``turn`` how many rounds were before it (see
    ``for_round``).

    Args:
        epochs: passes over the hospital's images, 1 to 1000.
        parts: rounds that a pass is divided over, each over a part of the images of its own
            (``pass_parts``), 1 to 1000; with ``epochs`` above 1 each part is passed so often.
            Without privacy only: private steps draw their patients anew anyway.
        batch_size: images a step; the last batch of an epoch may be smaller.
        learning_rate: at the peak, (0, 10].
        final_share: share of the peak that is left at the end of the run, [0, 1]; 1 is constant.
        warmup: share of the run spent rising from zero, [0, 0.5].
        weight_decay: decoupled for AdamW; not applied to biases and norms, [0, 1].
        optimiser: "adamw", "adam" or "sgd" (momentum 0.9); its state starts fresh each round.
        betas: decay of the two moments of Adam and AdamW, each in [0, 1); (0.5, 0.999) is usual
            where networks are trained against each other (Radford et al., ICLR 2016).
        free_rate: peak learning rate of a phase's free parameters, which Adam trains with the
            same betas, clipping and schedule whatever ``optimiser`` is, (0, 10]. None: that of the
            others, or 1e-4 where it is SGD's, which is no rate for Adam.
        clip_norm: largest L2 norm of a step's gradient, or None.
        proximal: weight mu of (mu / 2) |w - w0|^2, which pulls towards the round's first weights
            (FedProx: Li et al., MLSys 2020), [0, 100].
        logit_adjustment: how much of the difference between a hospital's own label odds and the
            learner's prior is taken out of what it teaches (``learners.label_odds``), [0, 1];
            without privacy only.
        augmentation: how training images may move.
        threads: torch threads, part of what a result depends on.
        span: (from, to) within the run, 0 <= from < to <= 1.
        turn: rounds before this one, of the phase where there are phases, at least 0.

    Raises:
        ConfigError: a value is outside its range.
    """

    epochs: int = 1
    parts: int = 1
    batch_size: int = 32
    learning_rate: float = 2e-3
    final_share: float = 0.1
    warmup: float = 0.05
    weight_decay: float = 0.05
    optimiser: str = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    free_rate: float | None = None
    clip_norm: float | None = 1.0
    proximal: float = 0.0
    logit_adjustment: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    threads: int = 1
    span: tuple[float, float] = (0.0, 1.0)
    turn: int = 0

    def __post_init__(self) -> None:
        _check(self, "epochs", 1, _MAX_EPOCHS, whole=True)
        _check(self, "parts", 1, _MAX_PARTS, whole=True)
        _check(self, "turn", 0, _MAX_TURN, whole=True)
        _check(self, "batch_size", 1, _MAX_BATCH, whole=True)
        _check(self, "threads", 1, 256, whole=True)
        _check(self, "learning_rate", 1e-9, 10)
        if self.free_rate is not None:
            _check(self, "free_rate", 1e-9, 10)
        _check(self, "final_share", 0, 1)
        _check(self, "warmup", 0, 0.5)
        _check(self, "weight_decay", 0, 1)
        _check(self, "proximal", 0, 100)
        _check(self, "logit_adjustment", 0, 1)
        if self.clip_norm is not None:
            _check(self, "clip_norm", 1e-9, 1e9)
        object.__setattr__(self, "betas", _pair(self.betas))
        if self.optimiser not in OPTIMISERS:
            raise ConfigError(f"train: optimiser is one of {', '.join(OPTIMISERS)}")
        if not 0 <= self.span[0] < self.span[1] <= 1:
            raise ConfigError("train: span is a part of [0, 1]")

    def for_round(self, number: int, rounds: int) -> TrainPlan:
        """Return the plan of round ``number`` (from 1) of ``rounds``.

        Raises:
            ConfigError: there is no such round.
        """
        if not 1 <= number <= rounds:
            raise ConfigError(f"train: there is no round {number} of {rounds}")
        return replace(self, span=((number - 1) / rounds, number / rounds), turn=number - 1)

    def rate(self, share: float) -> float:
        """Return the learning rate at ``share`` in [0, 1] of this plan's span."""
        at = self.span[0] + share * (self.span[1] - self.span[0])
        if at < self.warmup:
            return self.learning_rate * at / self.warmup
        left = 0.5 * (1 + math.cos(math.pi * (at - self.warmup) / (1 - self.warmup)))
        return self.learning_rate * (self.final_share + (1 - self.final_share) * left)

    def free_rate_at(self, share: float) -> float:
        """Return the free parameters' learning rate at ``share`` of this plan's span."""
        peak = self.free_rate
        if peak is None:
            peak = _FREE_RATE if self.optimiser == "sgd" else self.learning_rate
        return peak * self.rate(share) / self.learning_rate

    def describe(self) -> dict[str, object]:
        """Return the plan as JSON values without what the round's number gives."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["augmentation"] = {
            item.name: getattr(self.augmentation, item.name) for item in fields(Augmentation)
        }
        values["betas"] = list(self.betas)
        for name in _OF_ROUND:
            del values[name]
        return values

    @classmethod
    def from_description(cls, values: Mapping[str, object]) -> TrainPlan:
        """Return the plan that ``describe`` described.

        Raises:
            ConfigError: an unknown key, or a value outside its range.
        """
        moves = values.get("augmentation", {})
        known = {item.name for item in fields(cls)} - {*_OF_ROUND}
        inner = {item.name for item in fields(Augmentation)}
        if not isinstance(moves, Mapping):
            raise ConfigError("train: augmentation is a table")
        odd = sorted({*values} - known) + sorted({*moves} - inner)
        if odd:
            raise ConfigError(f"train: there is no setting {odd[0]!r}")
        rest = {key: value for key, value in values.items() if key != "augmentation"}
        return cls(augmentation=Augmentation(**moves), **rest)  # type: ignore[arg-type]


def _check(plan: TrainPlan, name: str, low: float, high: float, *, whole: bool = False) -> None:
    value = getattr(plan, name)
    right = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not right or not low <= value <= high:
        kind = "an integer" if whole else "a number"
        raise ConfigError(f"train: {name} is {kind} in [{low:g}, {high:g}], not {value!r}")


def _pair(given: object) -> tuple[float, float]:
    """Return the betas as a tuple (JSON knows lists only)."""
    if isinstance(given, tuple | list) and len(given) == 2:
        first, second = given
        if all(isinstance(beta, float) and 0 <= beta < 1 for beta in given):
            return first, second
    raise ConfigError("train: betas is two numbers in [0, 1)")
