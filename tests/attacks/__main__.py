"""Runs the attack table and prints it: ``python -m tests.attacks [--jobs N] [--document]``."""

from __future__ import annotations

import argparse
import os
import sys
import time

from rich.console import Console
from rich.table import Table

from ledger.console import err, out
from tests.attacks.case import Case
from tests.attacks.document import PATH, document
from tests.attacks.runner import run_rows
from tests.attacks.table import ELSEWHERE, NOT_BUILT, TABLE


def main() -> int:
    """Run every row; return 0 only if each was caught where and as the table says."""
    parser = argparse.ArgumentParser(prog="tests.attacks", description=__doc__)
    parser.add_argument("--document", action="store_true", help="write docs/attacks.md and stop")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
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
    return _run([known[name] for name in asked.names] or list(TABLE), asked.jobs)


def _run(cases: list[Case], jobs: int) -> int:
    begun = time.monotonic()
    verdicts = run_rows(cases, jobs)
    seconds = time.monotonic() - begun
    spent = os.times()
    processor = spent.user + spent.system + spent.children_user + spent.children_system
    # A file or a pipe has no width of its own: give every row one line there.
    Console(width=None if out.is_terminal else 190).print(_table(cases, verdicts))
    failures = [f"{c.name}: {said}" for c, said in zip(cases, verdicts, strict=True) if said]
    for failure in failures:
        err.print(failure)
    out.print(
        f"{len(cases) - len(failures)} of {len(cases)} rows held, in {seconds:.0f} s"
        f" ({processor:.0f} s of processor time)"
    )
    out.print(f"{len(ELSEWHERE)} more run in other tests, {len(NOT_BUILT)} not yet built")
    return 1 if failures else 0


def _table(cases: list[Case], verdicts: list[str]) -> Table:
    table = Table("room", "attack", "tampered", "caught by", "error", "")
    room = ""
    for case, said in zip(cases, verdicts, strict=True):
        table.add_row(
            case.room if case.room != room else "",
            case.name,
            case.tampers,
            case.caught or "—",
            case.error.__name__ if case.error else "none, by design",
            "FAILED" if said else "held",
        )
        room = case.room
    return table


if __name__ == "__main__":
    sys.exit(main())
