"""One undisturbed run that several tests look at, by the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.node_process import find_anvil

SMALL = """
patients = 36
size = 32
learner = "cnn"
learner_options = { width = 8 }
rounds = 2
commit_window = 600
attest_window = 300
cpus = 1
epsilon = "off"
"""

# Ray lowers its workers' priority, so that on a busy machine hospitals would starve.
os.environ.setdefault("RAY_worker_niceness", "0")


def command(*words: str) -> list[str]:
    """Return the words that start our own program."""
    return [sys.executable, "-m", "thoracle", *words]


def thoracle(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(  # noqa: S603 - our own program
        command(*words), cwd=cwd, capture_output=True, text=True, timeout=500, check=False
    )


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``small.toml`` and its run, ``one``, of two verified rounds."""
    find_anvil()
    folder = tmp_path_factory.mktemp("simulate")
    (folder / "small.toml").write_text(SMALL)
    done = thoracle("simulate", "--config", "small.toml", "--out", "one", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    rounds = json.loads(done.stdout)["rounds"]
    assert [row["outcome"] for row in rounds] == ["SUM_VERIFIED"] * 2
    assert [row["accepted"] for row in rounds] == [3, 3]
    return folder


def model_names(run: Path) -> set[str]:
    """Return the digests of a run's models."""
    return {path.name for path in (run / "models").iterdir()}
