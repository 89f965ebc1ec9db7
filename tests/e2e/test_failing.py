"""Hospitals that raise, die, hang or answer rubbish, under Flower's real engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import thoracle

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]


def test_hospitals_that_fail_cost_only_their_own_place(tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "tests.e2e.failing_run", str(tmp_path / "run")],
        cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rounds = json.loads(done.stdout.splitlines()[-1])
    assert [row["outcome"] for row in rounds] == ["SUM_VERIFIED"] * 2
    for row in rounds:
        assert (row["accepted"], row["failed"]) == (2, 4)
    audit = thoracle("audit", "verify", "run", cwd=tmp_path)
    assert audit.returncode == 0, audit.stdout
