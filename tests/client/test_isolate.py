"""A hospital's own process: it ends with the worker that wanted its answer."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARENT = """
import sys
from client import isolate
from tests.client.test_isolate import linger
isolate._PRELOAD = []  # nothing here needs the heavy libraries
isolate.run_isolated(linger, sys.argv[1].encode(), timeout=120.0, who="hospital 0")
"""


def linger(payload: bytes) -> bytes:
    """Hold a lock, which ends with the process and not before, for two minutes."""
    with Path(payload.decode()).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("held")
        file.flush()
        time.sleep(120.0)
    return b""


def _becomes(true: Callable[[], bool]) -> bool:
    """Wait for a minute at most, which only a failure takes."""
    until = time.monotonic() + 60.0
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.05)
    return False


def _free(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_a_killed_worker_leaves_no_hospital_training_for_nobody(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    command = [sys.executable, "-c", PARENT, str(lock)]
    with subprocess.Popen(command, cwd=ROOT) as parent:  # noqa: S603 - our own interpreter
        try:
            assert _becomes(lambda: lock.is_file() and lock.read_text() == "held")
            assert not _free(lock)
        finally:
            parent.kill()
    assert _becomes(lambda: _free(lock))
