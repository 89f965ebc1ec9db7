"""Which part of the model a round updates, and in which phase of training it stands.

Two optional fields of a round's configuration say so:

    "phase":   {"name": "adversarial", "round": 2, "rounds": 5}
    "travels": ["critic.weight", ...]

``phase`` names one of the learner's phases (``client.learners.phase``) and where in its span this
round stands; without it there is one phase, whose span is the run. ``travels`` lists the tensors
whose changes are summed; without it, all of them are. Updates, sums, probes, quantiser and norm
bound are over the *update manifest*: the model's manifest restricted to ``travels``, in manifest
order. The model file stays whole, and what does not travel stays in it bit for bit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Final

from ledger.errors import ConfigError, SpecMismatch
from ledger.manifest import Manifest

PHASE: Final = "phase"
TRAVELS: Final = "travels"
MOMENTS: Final = ("server_m/", "server_v/")
"""How the names of the server's first and second moments begin (``ledger.server_rule``)."""
MAX_ROUNDS: Final = 1_000_000

_NAME = re.compile(r"[a-z][a-z0-9_\-]{0,39}")


@dataclass(frozen=True, kw_only=True)
class PhaseTerms:
    """Where in which phase a round stands.

    Attributes:
        name: of the phase: 1 to 40 of ``a-z 0-9 _ -``, a letter first.
        round: of the phase, from 1; at most ``rounds``.
        rounds: planned for the phase, at most 1,000,000.

    Raises:
        ConfigError: a value is outside its range.
    """

    name: str
    round: int
    rounds: int

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigError(f"{str(self.name)[:60]!r} cannot name a phase")
        whole = all(type(value) is int for value in (self.round, self.rounds))
        if not whole or not 1 <= self.round <= self.rounds <= MAX_ROUNDS:
            raise ConfigError(f"phase {self.name}: there is no round {self.round} of {self.rounds}")

    def to_config(self) -> dict[str, object]:
        """Return what a round's configuration holds."""
        return asdict(self)

    @classmethod
    def of_config(cls, config: Mapping[str, object]) -> PhaseTerms | None:
        """Return the phase of a round's configuration; None where it says nothing.

        Raises:
            ConfigError: it is said in another form.
        """
        said = config.get(PHASE)
        if said is None and PHASE not in config:
            return None
        if not isinstance(said, dict) or set(said) != {"name", "round", "rounds"}:
            raise ConfigError("a round's phase is name, round and rounds")
        return cls(**said)


def update_manifest(manifest: Manifest, config: Mapping[str, object]) -> Manifest:
    """Return the manifest of a round's updates and sums.

    Args:
        manifest: of the whole model.
        config: of the round, from anybody.

    Raises:
        ConfigError: ``travels`` is no list of names, is empty, not in strictly ascending order, or
            names a tensor that the model has not, or one of the server's moments.
    """
    if TRAVELS not in config:
        return manifest
    said = config[TRAVELS]
    if not isinstance(said, list) or not said or not all(isinstance(n, str) for n in said):
        raise ConfigError("travels lists the names of the tensors that a round updates")
    if any(a >= b for a, b in pairwise(said)):
        raise ConfigError("travels is not in strictly ascending order")
    known = {spec.name: spec for spec in manifest.tensors}
    for name in said:
        if name.startswith(MOMENTS):
            raise ConfigError(f"travels names {name[:80]!r}: moments are computed, never sent")
        if name not in known:
            raise ConfigError(f"travels names {name[:80]!r}, which the model has not")
    return Manifest(tuple(known[name] for name in said))


@dataclass(frozen=True, kw_only=True)
class Run:
    """Coordinates that lie side by side in a model's flat vector and in an update's.

    Attributes:
        model: where they are in the model's.
        update: where they are in the update's; of the same length.
    """

    model: slice
    update: slice


def runs(manifest: Manifest, update: Manifest) -> tuple[Run, ...]:
    """Return where an update's coordinates are in the model, as few runs as there can be.

    Raises:
        SpecMismatch: a tensor of the update is not one of the model.
    """
    wanted = {spec.name: spec for spec in update.tensors}
    found: list[tuple[int, int, int]] = []
    at = done = 0
    for spec in manifest.tensors:
        if wanted.pop(spec.name, None) == spec:
            if found and found[-1][0] + found[-1][2] == at:
                first, second, length = found[-1]
                found[-1] = (first, second, length + spec.size)
            else:
                found.append((at, done, spec.size))
            done += spec.size
        at += spec.size
    if done != update.size:
        raise SpecMismatch("an update's tensors are not those of the model")
    return tuple(
        Run(model=slice(at, at + length), update=slice(done, done + length))
        for at, done, length in found
    )
