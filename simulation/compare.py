"""A bench of learners: a grid of trainings, each scored the same way on the same test list.

A grid file has ``[settings]`` of every cell; ``[modes.central]``, ``[modes.federated]`` and
``[modes.private]`` with what differs between them; ``[variants.NAME]`` with any further changes to
try side by side; ``[grid]`` with lists of ``learner``, ``mode``, ``partition``, ``seed`` and
``variant`` (and of any other setting), whose combinations are the cells; and any number of
``[[override]]``: where all of ``when`` holds, ``set`` applies.

*Central* is one training on all hospitals' patients together (``epochs`` passes, no chain).
*Federated* and *private* are whole audited runs. A cell is known by the digest of everything that
its result depends on: settings, records and versions, so a changed grid makes only what changed.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ledger.canonical import canonical_json, tagged_digest
from ledger.errors import ConfigError
from simulation.grid import combinations, overrides, section, word
from simulation.settings import Settings, parse_epsilon, read_config, settings_from

CENTRAL, FEDERATED, PRIVATE = "central", "federated", "private"
MODES = (CENTRAL, FEDERATED, PRIVATE)
TABLES = ("settings", "modes", "variants", "grid", "override")
PLAIN = "plain"
"""The variant that changes nothing."""
FORMAT = "thoracle/compare-cell/v1"
_ELSEWHERE = ("cpus", "cache", "chain", "hospital_timeout")
"""Settings that change how a result is made, not what it is."""
_FEDERAL = (
    "hospitals", "rounds", "partition", "held_back", "share_cap", "min_accepted", "silent_share",
    "screen", "max_norm", "coordinate_drift", "aggregation", "epsilon", "delta", "unit",
    "sample_rate", "steps", "clip_norm", "multiplicity", "insecure_noise", "commit_window",
    "attest_window", "retain_evidence", "retain_models",
)  # fmt: skip
"""Settings that a central training does not look at; ``held_back`` it does."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training of the grid.

    Attributes:
        mode: one of ``MODES``.
        variant: its name.
        settings: all of it.
    """

    mode: str
    variant: str
    settings: Settings

    @property
    def name(self) -> str:
        """What people call it, without the seed's and the digest's part."""
        where = "" if self.mode == CENTRAL else f"_{word(self.settings.partition)}"
        what = "" if self.variant == PLAIN else f"_{word(self.variant)}"
        return f"{self.settings.learner}{what}_{self.mode}{where}_seed{self.settings.seed}"

    def matters(self) -> dict[str, object]:
        """Return the settings that the result depends on."""
        left_out = {*_ELSEWHERE}
        if self.mode == CENTRAL:
            left_out |= {*_FEDERAL} - {"held_back"}
        values = self.settings.to_dict()
        return {key: value for key, value in values.items() if key not in left_out}

    def told(self) -> dict[str, object]:
        """Return what ``matters``, without places: a file's digest, and the data folders' names.

        Raises:
            ConfigError: the initial weights cannot be read.
        """
        weights = weights_digest(self.settings.initial_weights)
        data = ",".join(Path(part.strip()).name for part in self.settings.data.split(","))
        return {**self.matters(), "data": data, "initial_weights": weights}

    def digest(self, data: Mapping[str, str]) -> str:
        """Return the cell's digest, 64 hexadecimal digits.

        Options that the settings do not name count too, as learner and phases fill them: a preset
        that changes is another cell.

        Args:
            data: digests of the records trained and scored on, by name.
        """
        from simulation.planning import learner_of, schedule_of, settings_in, train_plan

        learner = learner_of(self.settings)
        about = {
            "format": FORMAT,
            "mode": self.mode,
            "settings": self.told(),
            "learner": learner.describe(),
            "train": [
                train_plan(settings_in(self.settings, learner, table)).describe()
                for table in schedule_of(self.settings, learner)
            ],
            "data": dict(data),
            "versions": versions(),
        }
        del about["settings"]["data"]  # type: ignore[attr-defined]  # names; the records count
        return tagged_digest(FORMAT, canonical_json(about)).hex()


def weights_digest(source: str) -> str:
    """Return what stands for a file of initial weights: its name and the SHA-256 of its bytes.

    Raises:
        ConfigError: it cannot be read.
    """
    from client.learners.pretrained import HUB

    if source in {"", HUB}:
        return source
    try:
        with Path(source).open("rb") as file:
            return f"{Path(source).name}:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise ConfigError(f"cannot read the initial weights {source}: {error.strerror}") from None


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    names = ("thoracle", "torch", "timm", "numpy", "scikit-learn")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def read_cells(path: Path, data: str | None = None) -> tuple[Cell, ...]:
    """Return the cells of a grid file, in its order; what would be the same twice, once.

    Args:
        path: TOML, as the module describes.
        data: the radiographs, over the file's own ``settings.data``.

    Raises:
        ConfigError: another table, no lists to combine, or a wrong setting.
    """
    tables = read_config(path)
    if set(tables) - set(TABLES):
        raise ConfigError(f"a grid of learners holds {', '.join(TABLES)}, nothing else")
    cells: dict[bytes, Cell] = {}
    for chosen in combinations(tables):
        cell = _cell(tables, chosen, data)
        cells.setdefault(canonical_json([cell.mode, cell.variant, cell.matters()]), cell)
    return tuple(cells.values())


def _cell(tables: Mapping[str, Any], chosen: dict[str, Any], data: str | None) -> Cell:
    mode, variant = chosen.get("mode", CENTRAL), chosen.get("variant", PLAIN)
    if not isinstance(mode, str) or not isinstance(variant, str):
        raise ConfigError("modes and variants of the [grid] are names")
    modes, known = section(tables, "modes"), section(tables, "variants")
    if mode not in MODES or set(modes) - {*MODES}:
        raise ConfigError(f"a mode is {', '.join(MODES)}, not {mode!r}")
    if variant != PLAIN and variant not in known:
        raise ConfigError(f"there is no [variants.{variant}] in the grid file")
    plain = {key: value for key, value in chosen.items() if key not in {"mode", "variant"}}
    merged: dict[str, Any] = {}
    for layer in (
        section(tables, "settings"),
        section(modes, mode),
        section(known, variant),
        plain,
        *overrides(tables, chosen),
    ):
        merged = _merge(merged, layer)
    epsilon = merged.get("epsilon", Settings.epsilon if mode == PRIVATE else "off")
    budget = 0.0 if epsilon == 0 else parse_epsilon(str(epsilon))
    if (mode == PRIVATE) != bool(budget):
        raise ConfigError(f"a cell that is {mode} cannot have epsilon {epsilon!r}")
    merged["epsilon"] = budget
    return Cell(
        mode=mode,
        variant=variant,
        settings=settings_from({**merged, **({"data": data} if data is not None else {})}),
    )


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one table over another; tables inside (options) are merged key by key."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = {**old, **value}
        else:
            merged[key] = value
    return merged
