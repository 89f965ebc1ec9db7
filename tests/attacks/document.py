"""Writes ``docs/attacks.md`` from the table; a test holds the file to it."""

from __future__ import annotations

from pathlib import Path

from tests.attacks.case import Case
from tests.attacks.table import ELSEWHERE, NOT_BUILT, TABLE

PATH = Path(__file__).parents[2] / "docs" / "attacks.md"

HEAD = """# What is tried against it

Every row tampers with exactly one thing in an otherwise honest federation of three hospitals: the
real contract on an in-process EVM, the real coordinator and hospitals, a model of 300 parameters
(`tests/world.py`). It must be caught where the row says, as exactly that error; leave exactly the
records the row states on the chain and in the run folder; and cost its author a place, never the
federation: the same moment played honestly ends with everybody accepted, and rows that could do
lasting harm are followed by an honest round in the attacked world (for all rows with
`THORACLE_ATTACK_RERUNS=all`).

`make attack` runs the table in two processes (`--jobs`) and prints it. Written by
`python -m tests.attacks --document`; a test compares this file with the table. What cannot be
caught is in [`SECURITY.md`](../SECURITY.md).
"""


def document() -> str:
    """Return the whole file."""
    rooms = list(dict.fromkeys(case.room for case in TABLE))
    heads = ("attack", "tampered", "caught by", "error")
    parts = [HEAD]
    parts += [_table(room, heads, [_row(c) for c in TABLE if c.room == room]) for room in rooms]
    elsewhere = [f"| `{name}` | {error} | `{where}` |" for name, error, where in ELSEWHERE]
    parts.append(_table("run elsewhere", ("attack", "error", "where"), elsewhere))
    missing = [f"| `{name}` | {state} |" for name, state in NOT_BUILT]
    if missing:
        parts.append(_table("not yet built", ("attack", "state"), missing))
    return "\n".join(part.rstrip() + "\n" for part in parts)


def _table(title: str, heads: tuple[str, ...], rows: list[str]) -> str:
    lines = [f"## {title}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *rows])


def _row(case: Case) -> str:
    error = f"`{case.error.__name__}`" if case.error else "none: by design"
    return f"| `{case.name}` | {case.tampers} | {case.caught or '—'} | {error} |"
