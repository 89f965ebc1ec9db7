"""A run that loses its chain, then is interrupted, goes on to an undisturbed run's models."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import SMALL, command, model_names, thoracle

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def start(folder: Path, *words: str, until: str) -> subprocess.Popen[str]:
    """Start a command and return once it said something."""
    process = subprocess.Popen(  # noqa: S603 - our own program
        command(*words),
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    told = []
    for line in process.stderr:
        told.append(line)
        if line.startswith(until):
            return process
    raise AssertionError(f"the run ended early with {process.wait()}: {''.join(told)}")


def ended(process: subprocess.Popen[str]) -> str:
    """Return what a command still says until its end."""
    assert process.stderr is not None
    with process:
        return process.stderr.read()


def anvil_of(folder: Path) -> int:
    """Return the process id of the run's chain node."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if re.search(r"anvil\0", words) and str(folder) in words:
                return int(entry.name)
    raise AssertionError("no anvil runs for this folder")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the node by /proc")
def test_a_run_stopped_twice_ends_in_the_models_of_an_undisturbed_run(
    tmp_path: Path, undisturbed: Path
) -> None:
    (tmp_path / "small.toml").write_text(SMALL)
    process = start(
        tmp_path, "simulate", "--config", "small.toml", "--out", "run",
        until="Round 1: sum verified",
    )  # fmt: skip
    os.kill(anvil_of(tmp_path), signal.SIGKILL)
    told = ended(process)
    assert process.returncode == 1
    assert "LedgerUnavailable" in told
    assert "Traceback" not in told

    process = start(tmp_path, "simulate", "--resume", "run", until="Taking up the run")
    process.send_signal(signal.SIGINT)
    told = ended(process)
    assert process.returncode == 130
    assert "thoracle simulate --resume run" in told
    assert "Traceback" not in told

    done = thoracle("simulate", "--resume", "run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]
    assert [row.split(",")[1] for row in rows] == ["SUM_VERIFIED"] * 2
    assert model_names(tmp_path / "run") == model_names(undisturbed / "one")
    audit = thoracle("audit", "verify", "run", cwd=tmp_path)
    assert audit.returncode == 0, audit.stdout
