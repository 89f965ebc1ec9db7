"""How far a private round has got, and where that is put down.

What a checkpoint holds is the *output* of the mechanism after some of its planned steps: noisy
parameters and what the optimiser made of noisy gradients. The steps that follow draw from a fresh
keystream; the key of the old one ended with its process, and is nowhere. So no noise is ever used
for two different sums, and the steps that made the update number what was charged. A test's
keystream, which is known anyway, goes on where it was, so that a test can compare every bit
(docs/adr/0010-checkpoints.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Generator, nn
from torch.optim import Optimizer

from client.checkpoint import Checkpoint
from client.dp_optimiser import PrivateOptimiser


@dataclass(kw_only=True)
class Course:
    """One private round's progress.

    Attributes:
        module: what is trained.
        optimiser: its private optimiser.
        checkpoint: where the round is put down; None: nowhere.
        others: optimisers that never see an image (a generator's), put down with the rest.
        generators: by name, those that augmentation and draws come from, put down as well:
            they are secret from everybody else (docs/adr/0011-privacy.md), not from this home.
        done: steps taken so far.
    """

    module: nn.Module
    optimiser: PrivateOptimiser
    checkpoint: Checkpoint | None = None
    others: Mapping[str, Optimizer] = field(default_factory=dict)
    generators: Mapping[str, Generator] = field(default_factory=dict)
    done: int = 0

    def take_up(self) -> int:
        """Restore the last checkpoint, if any; return how many units were drawn before it."""
        if self.checkpoint is None:
            return 0
        numbers = self.checkpoint.load(self.module, self._optimisers, self.generators)
        if numbers is None:
            return 0
        self.done = int(numbers["done"])
        self.optimiser.refused_samples = int(numbers["refused"])
        if self.optimiser.keystream.insecure:
            self.optimiser.keystream.take_up(int(numbers["taken"]))
        return int(numbers["drawn"])

    def put_down(self, done: int, drawn: int) -> None:
        """Write a checkpoint after ``done`` steps, if it is time."""
        self.done = done
        if self.checkpoint is None or not self.checkpoint.due(done):
            return
        keystream = self.optimiser.keystream
        self.checkpoint.save(
            self.module,
            self._optimisers,
            {name: each.get_state() for name, each in self.generators.items()},
            {
                "done": done,
                "drawn": drawn,
                "refused": self.optimiser.refused_samples,
                **({"taken": keystream.taken} if keystream.insecure else {}),
            },
        )

    @property
    def _optimisers(self) -> dict[str, Optimizer]:
        return {"main": self.optimiser.original_optimizer, **self.others}
