"""Runs rows in several processes, each with a federation of its own.

A row starts from a stage of a federation that was deployed once (``tests.attacks.stages``), so rows
do not depend on their order. They are dealt out by stage, that no two processes play the same
honest rounds, and their verdicts come back in the table's order.
"""

from __future__ import annotations

import gc
import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from ledger.console import err
from tests.attacks.case import Case, run_case
from tests.attacks.stages import Stages
from tests.attacks.table import TABLE

STAGES = ("fresh", "idle", "open", "two", "all", "proposed", "attested")
RERUN_COST = 3
"""What an honest rerun adds to a row, in rows."""


def run_rows(cases: Sequence[Case], jobs: int) -> list[str]:
    """Run rows and return, for each, what is wrong with it (nothing if it held)."""
    parts = deal([case.name for case in cases], jobs)
    if len(parts) == 1:
        found = _run_part(parts[0])
    else:
        gc.freeze()  # what is imported by now is shared with the children: leave it in peace
        way = "fork" if sys.platform == "linux" else "spawn"
        context = multiprocessing.get_context(way)
        with ProcessPoolExecutor(len(parts), mp_context=context) as pool:
            found = {
                name: said for part in pool.map(_run_part, parts) for name, said in part.items()
            }
    return [found[case.name] for case in cases]


def deal(names: Sequence[str], jobs: int) -> list[list[str]]:
    """Split rows into at most ``jobs`` parts of like cost; rows of one stage stay together."""
    known = {case.name: case for case in TABLE}

    def depth(name: str) -> tuple[str, int]:
        setting, _, stage = known[name].stage.rpartition("/")
        return setting, STAGES.index(stage)

    ordered = sorted(names, key=depth)
    costs = [1 + RERUN_COST * known[name].lasting for name in ordered]
    parts: list[list[str]] = [[] for _ in range(max(1, jobs))]
    done, total = 0, sum(costs)
    for name, cost in zip(ordered, costs, strict=True):
        parts[min(done * len(parts) // max(1, total), len(parts) - 1)].append(name)
        done += cost
    return [part for part in parts if part]


def _run_part(names: list[str]) -> dict[str, str]:
    memory = Path("/dev/shm")  # noqa: S108 - hundreds of fsyncs, nothing secret
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    known = {case.name: case for case in TABLE}
    found: dict[str, str] = {}
    try:
        stages = Stages(folder)
        for place, name in enumerate(names):
            if err.is_terminal:
                err.print(f"{name:<40}", end="\r")
            found[name] = _verdict(known[name], stages, folder / f"case-{place}")
    finally:
        shutil.rmtree(folder)
    return found


def _verdict(case: Case, stages: Stages, folder: Path) -> str:
    """Return what is wrong with a row, nothing if it held."""
    try:
        run_case(case, stages, folder)
    except Exception as error:  # noqa: BLE001 - a row that fails is a row of the table
        return f"{type(error).__name__}: {str(error)[:300]}"
    return ""
