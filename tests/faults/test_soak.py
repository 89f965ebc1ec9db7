"""The soak in small: two rounds on a real node, processes and node killed at random."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.soak import soak

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_two_rounds_with_everything_killed(tmp_path: Path) -> None:
    found = soak(tmp_path, rounds=2, hospitals=2, seed="two rounds", chance=0.04)
    assert not found.wrong
    assert sum(found.kills.values()) > 0
    assert found.audit.startswith("holds at the level replay")
