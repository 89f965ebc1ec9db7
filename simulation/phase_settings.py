"""The settings of phases: ``[[phases]]`` tables, each with rounds of its own and what differs.

    [[phases]]
    name = "adversarial"
    rounds = 4
    learning_rate = 2e-4

    [[phases]]
    name = "supervised"
    rounds = 6

Whatever a phase does not say is the run's own setting. Nothing of a phase changes epsilon: noise
multiplier, sample rate and steps are the run's in every round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ledger.errors import ConfigError

if TYPE_CHECKING:
    from simulation.settings import Settings

OWN: Final[Mapping[str, type]] = {
    "epochs": int,
    "batch_size": int,
    "learning_rate": float,
    "weight_decay": float,
    "clip_norm": float,
    "multiplicity": int,
    "max_norm": float,
    "coordinate_drift": float,
    "train_options": dict,
}
"""Settings that a phase may have for itself; ``train_options`` are laid over the run's."""


def read_phases(tables: Sequence[object]) -> list[dict[str, Any]]:
    """Return the phases of a settings file, names and types checked.

    Raises:
        ConfigError: a table without a name or rounds, an unknown key, or another type.
    """
    return [_read(number, table) for number, table in enumerate(tables, 1)]


def _read(number: int, table: object) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ConfigError("phases are [[phases]] tables with a name, rounds and what differs")
    unknown = sorted(set(table) - {"name", "rounds", *OWN})
    if unknown:
        raise ConfigError(f"phase {number}: unknown {unknown[0]!r}; known are {', '.join(OWN)}")
    if not isinstance(table.get("name"), str) or type(table.get("rounds")) is not int:
        raise ConfigError(f"phase {number}: a phase has a name and a whole number of rounds")
    if table["rounds"] < 1:
        raise ConfigError(f"phase {table['name']}: rounds must be at least 1")
    found = dict(table)
    for key, kind in OWN.items():
        if key not in found:
            continue
        if kind is float and type(found[key]) is int:
            found[key] = float(found[key])  # TOML writes 1 for 1.0
        if type(found[key]) is not kind:
            raise ConfigError(f"phase {table['name']}: {key} must be of type {kind.__name__}")
    return found


def rounds_of(tables: Sequence[Mapping[str, Any]]) -> int:
    """Return the rounds of all phases together."""
    return sum(table["rounds"] for table in tables)


def settings_of(settings: Settings, table: Mapping[str, Any]) -> Settings:
    """Return the settings of a run as they are in one phase; ``rounds`` stay the run's.

    Raises:
        ConfigError: a value is out of range.
    """
    own = {key: table[key] for key in OWN if key in table}
    own["train_options"] = {**settings.train_options, **table.get("train_options", {})}
    try:
        return replace(settings, phases=[], **own)
    except ConfigError as error:
        raise ConfigError(f"phase {table['name']}: {error}") from None
