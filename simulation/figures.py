"""A figure as text, and a table's rows from its file: what every report here is made of."""

from __future__ import annotations

import csv
from pathlib import Path

from ledger.files import read_bounded

MAX_TABLE = 1 << 24


def figure(value: float | None, digits: int = 3) -> str:
    """Return a figure as text; a dash where it is not defined."""
    return "–" if value is None else f"{value:.{digits}f}"


def table_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file of a run; none where the run has no such file."""
    if not path.is_file():
        return []
    return list(csv.DictReader(read_bounded(path, MAX_TABLE).decode().splitlines()))
