"""What every test shares: a busy machine fails none of them by the clock, and none waits idle."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

# Hypothesis fails an example that takes over 200 ms, which a loaded machine makes of any.
settings.register_profile("thoracle", deadline=None)
settings.load_profile("thoracle")

_HERE: Final = Path(__file__).parent
_LONG: Final = (
    "e2e/test_simulate.py",
    "attacks/test_attacks.py",
    "e2e/test_private.py",
    "contracts/test_artefact.py",
    "e2e/test_compare.py",
    "client/test_agent.py",
    "e2e/test_failing.py",
    "contracts/test_machine.py",
    "e2e/test_identifiers.py",
    "faults/test_faults.py",
    "faults/test_soak.py",
    "server/test_retention.py",
)
"""The longest files, in this order: real runs, which often wait, between those that compute."""
_SPREAD: Final = 0.5
"""Share of the remaining files among which the remaining real runs are spread."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest files begin first, so that no worker is left alone with one at the end."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    long = [files.pop(_HERE / name) for name in _LONG if _HERE / name in files]
    real = [file for file in files.values() if file[0].get_closest_marker("e2e")]
    others = [file for file in files.values() if not file[0].get_closest_marker("e2e")]
    every = max(1, int(len(others) * _SPREAD) // max(1, len(real)))
    for place, file in enumerate(real):
        others.insert(place * (every + 1), file)
    items[:] = [item for file in (*long, *others) for item in file]
