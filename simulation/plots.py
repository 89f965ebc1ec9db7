"""A run's curve as a picture: AUC by round, over the phases of its training."""

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
        spans = _phases(folder / "metrics.csv")
        for place, (name, first, last) in enumerate(spans):
            shade = "#eef2f5" if place % 2 == 0 else "#ffffff"
            axes.axvspan(first - 0.5, last + 0.5, color=shade, linewidth=0, zorder=0)
            axes.annotate(
                name,
                ((first + last) / 2, 1.0),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
                fontsize=8,
                color="#555555",
            )
        within = {number for _, first, last in spans for number in range(first, last + 1)}
        rounds = sorted({*federated, *central, *within})
        axes.set(xlabel="round", ylabel="macro AUC", xticks=rounds[:: 1 + len(rounds) // 25])
        axes.legend(frameon=False, loc="best")
        axes.spines[["top", "right"]].set_visible(False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    path = folder / PICTURE
    atomic_write(path, buffer.getvalue())
    return path


def _phases(path: Path) -> list[tuple[str, int, int]]:
    """Return each span of rounds of one phase: name, first round, last round; none without."""
    spans: list[tuple[str, int, int]] = []
    for row in sorted(_rows(path), key=lambda row: int(row["round"])):
        name, number = row.get("phase") or "", int(row["round"])
        if spans and spans[-1][0] == name:
            spans[-1] = (name, spans[-1][1], number)
        elif name:
            spans.append((name, number, number))
    return spans


def _column(path: Path, name: str) -> dict[int, float]:
    return {int(row["round"]): float(row[name]) for row in _rows(path) if row.get(name)}


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    return list(csv.DictReader(read_bounded(path, _LIMIT).decode().splitlines()))
