"""What every test shares: a busy machine fails none of them by the clock, and none waits idle."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import settings

# Hypothesis fails an example that takes over 200 ms, which a loaded machine makes of any.
settings.register_profile("thoracle", deadline=None)
settings.load_profile("thoracle")

_SPREAD = 0.7
"""Share of the unit tests' files among which the real runs are spread; none begins last."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files of real runs among the others, which compute while the runs wait."""
    files = [list(group) for _path, group in groupby(items, key=lambda item: item.path)]
    real = [file for file in files if file[0].get_closest_marker("e2e")]
    others = [file for file in files if not file[0].get_closest_marker("e2e")]
    every = max(1, int(len(others) * _SPREAD) // max(1, len(real)))
    for place, file in enumerate(real):
        others.insert(place * (every + 1), file)
    items[:] = [item for file in others for item in file]
