"""A run that loses its chain or is interrupted stops at once, goes on later, and audits clean."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
CONFIG = """
patients = 36
size = 32
learner = "cnn"
learner_options = { width = 8 }
rounds = 2
commit_window = 600
attest_window = 300
cpus = 2
epsilon = "off"
"""


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "thoracle", *words]


def start(folder: Path) -> subprocess.Popen[str]:
    """Start a run and return once its first round is over."""
    (folder / "small.toml").write_text(CONFIG)
    process = subprocess.Popen(  # noqa: S603 - our own program
        command("simulate", "--config", "small.toml", "--out", "run"),
        cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    told = []
    for line in process.stderr:
        told.append(line)
        if line.startswith("Round 1: sum verified"):
            return process
    raise AssertionError(f"the run ended early with {process.wait()}: {''.join(told)}")


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
def test_without_its_chain_a_run_stops_and_later_goes_on(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert process.stderr is not None
    os.kill(anvil_of(tmp_path), signal.SIGKILL)
    with process:
        told = process.stderr.read()
    assert process.returncode == 1
    assert "LedgerUnavailable" in told
    assert "Traceback" not in told
    finish(tmp_path)


def test_an_interrupt_ends_a_run_at_once_and_says_how_to_go_on(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert process.stderr is not None
    process.send_signal(signal.SIGINT)
    with process:
        told = process.stderr.read()
    assert process.returncode == 130
    assert "thoracle simulate --resume run" in told
    assert "Traceback" not in told
    time.sleep(3.0)
    finish(tmp_path)


def finish(folder: Path) -> None:
    done = subprocess.run(  # noqa: S603 - our own program
        command("simulate", "--resume", "run", "--json"),
        cwd=folder, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = (folder / "run" / "metrics.csv").read_text().splitlines()[1:]
    assert [row.split(",")[1] for row in rows] == ["SUM_VERIFIED"] * 2
    audit = subprocess.run(  # noqa: S603 - our own program
        command("audit", "verify", "run"), cwd=folder, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert audit.returncode == 0, audit.stdout
