"""A bench as its papers print it: a line a learner, a column for each way of training.

The full table has a row for each of them (``compare_report``); here they stand beside each other.
"""

from __future__ import annotations

from collections.abc import Sequence

from simulation.compare import MODES
from simulation.compare_report import Row
from simulation.figures import figure


def by_mode(rows: Sequence[Row]) -> str:
    """Return a Markdown table: macro AUC, its interval and weighted F1 of each way of training.

    Args:
        rows: of the full table; where two differ in other settings only, both are told.
    """
    ways = sorted({_way(row) for row in rows}, key=_place)
    lines: dict[tuple[str, str], dict[tuple[str, str], list[str]]] = {}
    for row in rows:
        line = lines.setdefault((row.learner, row.variant), {})
        line.setdefault(_way(row), []).append(_told(row))
    heads = ["learner", "variant", *(", ".join(filter(None, way)) for way in ways)]
    table = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for name, line in sorted(lines.items()):
        texts = (" / ".join(line.get(way, ["–"])) for way in ways)
        table.append(f"| {' | '.join((*name, *texts))} |")
    return "\n".join(table) + "\n"


def _way(row: Row) -> tuple[str, str]:
    return row.mode, row.partition


def _place(way: tuple[str, str]) -> tuple[int, str]:
    mode, partition = way
    return MODES.index(mode), partition


def _told(row: Row) -> str:
    if row.macro_auc is None or row.low is None or row.high is None:
        return f"{figure(row.federated_auc)} at hospitals"
    interval = f"{row.low:.3f} to {row.high:.3f}"
    return f"{row.macro_auc:.3f} ({interval}), F1 {figure(row.weighted_f1)}"
