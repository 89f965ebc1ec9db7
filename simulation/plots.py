"""A run's curve as a picture: AUC by round, with what each round accepted."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from ledger.files import atomic_write, read_bounded

PICTURE = "rounds.svg"
_LIMIT = 1 << 24


def plot_rounds(folder: Path) -> Path | None:
    """Draw ``rounds.svg`` of a run folder from its ``metrics.csv`` and ``central.csv``.

    Returns:
        the picture's path; None where no score was recorded (a private run without a test set).
    """
    federated = _column(folder / "metrics.csv", "metric_auc")
    central = _column(folder / "central.csv", "macro_auc")
    if not federated and not central:
        return None
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Without it every drawing of the same figures would differ by random identifiers.
    with mpl.rc_context({"svg.hashsalt": "thoracle", "svg.fonttype": "none"}):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for points, name, colour in (
            (federated, "federated: hospitals' held-back patients, by weight", "#1f6f8b"),
            (central, "central: test list", "#c8553d"),
        ):
            if points:
                axes.plot(list(points), list(points.values()), "o-", label=name, color=colour)
        axes.axhline(0.5, color="#999999", linewidth=0.8, linestyle=":")
        rounds = sorted({*federated, *central})
        axes.set(xlabel="round", ylabel="macro AUC", xticks=rounds)
        axes.legend(frameon=False, loc="best")
        axes.spines[["top", "right"]].set_visible(False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    path = folder / PICTURE
    atomic_write(path, buffer.getvalue())
    return path


def _column(path: Path, name: str) -> dict[int, float]:
    if not path.is_file():
        return {}
    rows = csv.DictReader(read_bounded(path, _LIMIT).decode().splitlines())
    return {int(row["round"]): float(row[name]) for row in rows if row.get(name)}
