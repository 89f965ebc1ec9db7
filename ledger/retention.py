"""How long a federation keeps what it stores, as each round's configuration states it.

A *life* is counted in rounds: what belongs to round r may be erased once round r + life has ended.
It stands in the round's configuration, whose digest is on the chain and which every hospital
accepted by training; so an auditor tells what was *erased as declared* (`EvidenceErased`, a note)
from what was *deleted* (`EvidenceMissing`, a failure) by the chain alone, and nobody can declare a
life afterwards. Without a declaration everything is kept for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ledger.errors import ConfigError

FIELD: Final = "retention"
MAX_LIFE: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Lives in rounds; 0 keeps for ever.

    Attributes:
        evidence: of sealed updates.
        models: of sums, and of models that no later round needs.
    """

    evidence: int = 0
    models: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: a life is not a whole number of rounds in range.
        """
        for name in ("evidence", "models"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or not 0 <= value <= MAX_LIFE:
                raise ConfigError(f"the life of {name} is a whole number of rounds, not {value!r}")

    def to_config(self) -> dict[str, int]:
        """Return what a round's configuration holds."""
        return {"evidence": self.evidence, "models": self.models}

    @classmethod
    def of_config(cls, config: Mapping[str, object]) -> Retention:
        """Return what a round's configuration declares; nothing declared keeps for ever.

        Raises:
            ConfigError: it is declared in another form.
        """
        declared = config.get(FIELD)
        if declared is None:
            return cls()
        if not isinstance(declared, dict) or set(declared) != {"evidence", "models"}:
            raise ConfigError("a round's retention names the life of evidence and of models")
        return cls(**declared)

    def over(self, number: int, closed: int) -> frozenset[str]:
        """Return what of round ``number`` may be erased once ``closed`` rounds have ended."""
        lives = {"evidence": self.evidence, "models": self.models}
        return frozenset(name for name, life in lives.items() if life and number + life <= closed)
