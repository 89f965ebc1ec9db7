"""Commands of ours that a test stops on the way, and the chain node they started."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.e2e.conftest import command


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
