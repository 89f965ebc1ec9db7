"""A figure as text, a table's rows, a picture's file: what every report here is made of."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.files import atomic_write, read_bounded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_TABLE = 1 << 24


def figure(value: float | None, digits: int = 3) -> str:
    """Return a figure as text; a dash where it is not defined."""
    return "–" if value is None else f"{value:.{digits}f}"


def table_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file of a run; none where the run has no such file."""
    if not path.is_file():
        return []
    return list(csv.DictReader(read_bounded(path, MAX_TABLE).decode().splitlines()))


def save_svg(figure: Figure, path: Path) -> None:
    """Write a picture whose bytes are the same for the same figures, its text as text."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    # Without a salt every drawing would differ by random identifiers.
    with mpl.rc_context({"svg.hashsalt": "thoracle", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    atomic_write(path, buffer.getvalue())
