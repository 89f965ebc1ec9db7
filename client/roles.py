"""What the agent delegates and knows nothing about: training and scoring.

Both are injected, so that the protocol runs (and is attacked in tests) without torch, and so that
a trainer never sees keys, ledger or spool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ledger.manifest import Model
from ledger.statement import Mechanism

Config = dict[str, object]
"""A round's whole configuration, already checked against chain and policy."""


@dataclass(frozen=True, kw_only=True)
class TrainedUpdate:
    """What a training gives back.

    Attributes:
        model: the tensors that travel in the round (``ledger.travels``), and no others, after
            training.
        mechanism: what privacy mechanism was really run; empty without privacy.
        metrics: numbers about the training; only allow-listed ones ever leave.
    """

    model: Model
    mechanism: Mechanism = field(default_factory=Mechanism)
    metrics: Mapping[str, float] = field(default_factory=dict)


class Trainer(Protocol):
    """Trains one round on the hospital's own data.

    An implementation may also have ``check(config)``, called before any budget is spent: it
    raises if the configuration cannot be trained here; and ``forget()``, called once the update
    is durable: whatever was kept to go on after a crash is no longer needed.
    """

    def __call__(self, base: Model, config: Config, seed: int, /) -> TrainedUpdate:
        """Return what was trained; equal arguments on equal data give equal results.

        Args:
            base: the whole model to start from (the trainer may change the arrays).
            config: the round's configuration.
            seed: fixes everything random in this round, 63 bits.
        """


class Evaluator(Protocol):
    """Scores a model on the hospital's own held-back data."""

    def __call__(self, model: Model, config: Config, /) -> Mapping[str, float]:
        """Return named numbers; only allow-listed ones ever leave."""
