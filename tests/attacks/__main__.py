"""Runs the attack table and prints it: ``python -m tests.attacks [--document]``."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ledger.console import err, out
from tests.attacks.case import Case, run_case
from tests.attacks.document import PATH, document
from tests.attacks.stages import Stages
from tests.attacks.table import ELSEWHERE, NOT_BUILT, TABLE


def main() -> int:
    """Run every row; return 0 only if each was caught where and as the table says."""
    parser = argparse.ArgumentParser(prog="tests.attacks", description=__doc__)
    parser.add_argument("--document", action="store_true", help="write docs/attacks.md and stop")
    parser.add_argument("names", nargs="*", help="only these rows")
    asked = parser.parse_args()
    if asked.document:
        PATH.write_text(document())
        return 0
    known = {case.name: case for case in TABLE}
    unknown = [name for name in asked.names if name not in known]
    if unknown:
        err.print(f"unknown rows: {', '.join(unknown)}")
        return 1
    return _run([known[name] for name in asked.names] or list(TABLE))


def _run(cases: list[Case]) -> int:
    memory = Path("/dev/shm")  # noqa: S108 - hundreds of fsyncs, nothing secret
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    table = Table("room", "attack", "tampered", "caught by", "error", "")
    failures: list[str] = []
    begun, room = time.monotonic(), ""
    try:
        stages = Stages(folder)
        for place, case in enumerate(cases):
            if err.is_terminal:
                err.print(f"{place + 1}/{len(cases)} {case.name}", end="\r")
            verdict = _verdict(case, stages, folder / f"case-{place}")
            if verdict:
                failures.append(f"{case.name}: {verdict}")
            shown = case.room if case.room != room else ""
            room = case.room
            error = case.error.__name__ if case.error else "none, by design"
            table.add_row(
                shown,
                case.name,
                case.tampers,
                case.caught or "—",
                error,
                "FAILED" if verdict else "held",
            )
    finally:
        shutil.rmtree(folder)
    # A file or a pipe has no width of its own: give every row one line there.
    Console(width=None if out.is_terminal else 190).print(table)
    for failure in failures:
        err.print(failure)
    seconds = time.monotonic() - begun
    out.print(f"{len(cases) - len(failures)} of {len(cases)} rows held, in {seconds:.0f} s")
    out.print(f"{len(ELSEWHERE)} more run in other tests, {len(NOT_BUILT)} not yet built")
    return 1 if failures else 0


def _verdict(case: Case, stages: Stages, folder: Path) -> str:
    """Return what is wrong with a row, nothing if it held."""
    try:
        run_case(case, stages, folder)
    except Exception as error:  # noqa: BLE001 - a row that fails is a row of the table
        return f"{type(error).__name__}: {str(error)[:300]}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
