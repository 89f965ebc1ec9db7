"""What grid files have in common: lists of values to combine, and what else applies where.

``[grid]`` holds lists of values of settings, whose combinations are the trainings; ``[[override]]``
any number of times: where all of ``when`` holds of a combination, ``set`` applies.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from ledger.errors import ConfigError


def combinations(tables: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every combination of the grid's values, the last name's changing quickest.

    Raises:
        ConfigError: there is no [grid] that holds lists, none of them empty.
    """
    grid = section(tables, "grid")
    if not grid or not all(isinstance(values, list) and values for values in grid.values()):
        raise ConfigError("a grid file's [grid] holds lists of values")
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def section(tables: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return one table of a grid file; empty where it has none.

    Raises:
        ConfigError: it is no table.
    """
    found = tables.get(name, {})
    if not isinstance(found, dict):
        raise ConfigError(f"a grid file's {name} is a table")
    return found


def overrides(tables: Mapping[str, Any], chosen: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield, in the file's order, what the overrides set for one combination.

    Raises:
        ConfigError: an override is not two tables, ``when`` and ``set``, or waits for a setting
            that the grid does not list.
    """
    grid = section(tables, "grid")
    rules = tables.get("override", [])
    for rule in rules if isinstance(rules, list) else [rules]:
        if not isinstance(rule, dict) or set(rule) != {"when", "set"}:
            raise ConfigError("a grid file's [[override]] holds when and set")
        when, made = section(rule, "when"), section(rule, "set")
        unknown = sorted(set(when) - set(grid))
        if unknown:
            raise ConfigError(f"an [[override]] waits for {unknown[0]!r}, which no [grid] list has")
        if all(chosen.get(key) == value for key, value in when.items()):
            yield made


def word(value: object) -> str:
    """Return a value as a part of a folder's name."""
    text = str(value) or "none"
    return "".join(c if c.isalnum() or c in ".-" else "-" for c in text)
