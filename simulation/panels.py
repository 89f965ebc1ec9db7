"""Predicted against actual, film by film: a sheet of radiographs beside what a model says of them.

The films are chosen by what they show and by a digest of what names them, never by how right the
model is. Beside each stands a bar a finding: its calibrated probability, and the threshold that it
is decided at. Both come from other patients of the scored set: the five folds of the weighted F1
(``client.learners.operating``), so the decisions shown are those that were counted there.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from client.data.images import Grey
from client.learners.operating import best_threshold, fold_of
from client.learners.platt import apply_lines, fit_lines
from ledger.canonical import sha256
from ledger.files import atomic_write
from server.evaluate import TestSet

DPI = 150
COLUMNS = 3
# Inches: of a film, of the bars and signs beside it, around them; of a letter of a name; of a row
# of a chart, at least and at most, above a chart, and above and below all.
_FILM, _BARS, _SIGN, _GAP, _LETTER = 1.75, 1.3, 0.6, 0.15, 0.06
_ROW, _TALLEST, _HEAD, _TOP, _FOOT = 0.118, 0.25, 0.3, 0.05, 0.62
# Of Okabe and Ito's colours for all kinds of sight; told apart by lightness and hatching as well.
_COLOURS: MappingProxyType[bool | None, str] = MappingProxyType(
    {True: "#d55e00", False: "#a9c3d3", None: "#ffffff"}
)
_SIGNS: MappingProxyType[bool | None, str] = MappingProxyType(
    {True: "+", False: "\N{EN DASH}", None: "?"}
)
_FOOTER = (
    "Probability (bar) and threshold of best F1 (line) are fitted on other patients of the set.",
    "* not calibrated: too few positives. Research software: no diagnosis.",
)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One finding of one film.

    Attributes:
        finding: its name.
        probability: in [0, 1].
        calibrated: whether there were enough positives to calibrate it.
        threshold: on the probability; None where other patients gave none.
        actual: what the label says; None: unknown.
    """

    finding: str
    probability: float
    calibrated: bool
    threshold: float | None
    actual: bool | None

    @property
    def above(self) -> bool | None:
        """Whether it is decided present; None without a threshold."""
        return None if self.threshold is None else self.probability >= self.threshold


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A film (H, W) and its findings, in the model's order."""

    film: Grey
    bars: tuple[Bar, ...]


def choose_films(
    labels: NDArray[np.integer], patients: Sequence[str], keys: Sequence[bytes], count: int
) -> tuple[int, ...]:
    """Choose films so that the findings that occur are shown, whatever a model says of them.

    In turns over the findings, and "none of them" after these: a turn takes the film with the
    lowest SHA-256 of its key among those with the finding, patients who are not shown yet first.
    A finding waits while films that others asked for show it as often as its turn.

    Args:
        labels: (N, L) of 1, 0 and below 0 (unknown).
        patients: of each film.
        keys: what names each film: its identifier, or its pixels where it has none.
        count: how many; all, where there are fewer.
    """
    present = np.asarray(labels) == 1
    shows = np.column_stack([present, ~present.any(axis=1)])
    rank = {film: (sha256(key), film) for film, key in enumerate(keys)}
    chosen: list[int] = []
    seen: set[str] = set()
    turn = 0
    while len(chosen) < min(count, len(keys)):
        turn += 1
        for kind in shows.T:
            if len(chosen) == count or kind[chosen].sum() >= turn:
                continue
            left = [film for film in np.flatnonzero(kind).tolist() if film not in chosen]
            if left:
                film = min(left, key=lambda each: (patients[each] in seen, rank[each]))
                chosen.append(film)
                seen.add(patients[film])
    return tuple(chosen)


def bars_of(
    test: TestSet, scores: NDArray[np.floating], places: Sequence[int]
) -> tuple[tuple[Bar, ...], ...]:
    """Return each chosen film's findings.

    Args:
        test: the scored set.
        scores: (N, L) logits of all of it.
        places: of the chosen films.
    """
    folds = fold_of(test.patients)
    found: dict[int, tuple[Bar, ...]] = {}
    for fold in {int(folds[place]) for place in places}:
        others = folds != fold
        lines = fit_lines(scores[others], test.labels[others])
        said = apply_lines(scores, lines)
        thresholds = [
            best_threshold(said[others, column], test.labels[others, column])
            for column in range(len(test.findings))
        ]
        for place in places:
            if folds[place] == fold:
                found[place] = tuple(
                    Bar(
                        finding=name,
                        probability=float(said[place, column]),
                        calibrated=lines[column].fitted,
                        threshold=thresholds[column],
                        actual=_actual(int(test.labels[place, column])),
                    )
                    for column, name in enumerate(test.findings)
                )
    return tuple(found[place] for place in places)


def _actual(label: int) -> bool | None:
    return None if label < 0 else label == 1


def write_panels(path: Path, panels: Sequence[Panel]) -> None:
    """Write a sheet of panels as PNG; no identifier of a film or a patient is on it.

    Raises:
        OutputError: the file cannot be written.
    """
    with mpl.rc_context({"font.size": 6.5, "hatch.linewidth": 0.5}):
        figure = draw(panels)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    atomic_write(path, buffer.getvalue())


def draw(panels: Sequence[Panel]) -> Figure:
    """Return the sheet: at most ``COLUMNS`` panels a row, all on one scale of probability."""
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    tall = _HEAD + max(_FILM, _ROW * max(len(panel.bars) for panel in panels))
    names = _LETTER * max(len(_name(bar)) for panel in panels for bar in panel.bars)
    wide = _FILM + names + _BARS + _SIGN + _GAP
    width, height = columns * wide + _GAP, _TOP + rows * tall + _FOOT
    figure = Figure(figsize=(width, height), dpi=DPI)

    def axes(left: float, bottom: float, across: float, high: float) -> Axes:
        return figure.add_axes((left / width, bottom / height, across / width, high / height))

    limit = _limit(panels)
    for place, panel in enumerate(panels):
        left = _GAP + wide * (place % columns)
        bottom = height - _TOP - tall * (1 + place // columns)
        high = tall - _HEAD
        film = axes(left, bottom + (high - _FILM) / 2, _FILM, _FILM)
        film.set_axis_off()
        film.imshow(panel.film, cmap="gray", vmin=0, vmax=255, interpolation="hanning")
        charted = min(high, _TALLEST * len(panel.bars))  # few bars are no blocks
        chart = axes(left + _FILM + names, bottom + (high - charted) / 2, _BARS, charted)
        _chart(chart, panel.bars, limit)
    _legend(figure, width, height, narrow=columns == 1)
    return figure


def _limit(panels: Sequence[Panel]) -> float:
    """Return the highest probability or threshold on the sheet, rounded up to a tenth."""
    bars = [bar for panel in panels for bar in panel.bars]
    highest = max(max(bar.probability, bar.threshold or 0.0) for bar in bars)
    return min(1.0, math.ceil(highest * 10 + 1e-9) / 10)


def _chart(axis: Axes, bars: Sequence[Bar], limit: float) -> None:
    """Draw one film's findings from the top, and two columns of signs: the label, the decision."""
    axis.set(xlim=(0, limit), ylim=(len(bars) - 0.5, -0.5))
    axis.xaxis.tick_top()
    axis.set_xticks([0, limit], ["0", f"{limit:g}"])
    lowest, highest = axis.get_xticklabels()
    lowest.set_horizontalalignment("left")
    highest.set_horizontalalignment("right")
    axis.tick_params(length=0, pad=2)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.set_yticks(range(len(bars)), [_name(bar) for bar in bars])
    across = axis.get_yaxis_transform()  # x in shares of the chart's width
    for row, (bar, text) in enumerate(zip(bars, axis.get_yticklabels(), strict=True)):
        hatch, edge = ("/////", "#777777") if bar.actual is None else (None, "none")
        axis.barh(row, bar.probability, 0.72, color=_COLOURS[bar.actual], hatch=hatch, ec=edge)
        if bar.threshold is not None:
            axis.plot([bar.threshold] * 2, [row - 0.42, row + 0.42], "k-", linewidth=1.1)
        text.set_fontweight("bold" if bar.actual else "normal")
        for column, sign in ((0.13, bar.actual), (0.33, bar.above)):
            axis.text(1 + column, row, _SIGNS[sign], transform=across, ha="center", va="center",
                      fontweight="bold" if sign else "normal",
                      color="black" if sign else "#777777")  # fmt: skip
    for column, head in ((0.13, "label"), (0.33, "model")):
        axis.annotate(head, (1 + column, 1), (0, 2), xycoords="axes fraction", ha="center",
                      textcoords="offset points", fontsize=5.5)  # fmt: skip


def _name(bar: Bar) -> str:
    return bar.finding.replace("_", " ") + ("" if bar.calibrated else "*")


def _legend(figure: Figure, width: float, height: float, *, narrow: bool) -> None:
    kinds = [
        Patch(facecolor=_COLOURS[True], label="label: present (+)"),
        Patch(facecolor=_COLOURS[False], label="label: absent (\N{EN DASH})"),
        Patch(facecolor="white", hatch="/////", edgecolor="#777777", label="label: unknown (?)"),
        Line2D([], [], color="black", marker="|", linestyle="none",
               label="threshold; model: + at or above it, ? without one"),
    ]  # fmt: skip
    left = _GAP / width
    figure.legend(handles=kinds, loc="lower left", ncols=2 if narrow else 4, frameon=False,
                  borderaxespad=0, borderpad=0, bbox_to_anchor=(left, 0.3 / height))  # fmt: skip
    footer = ("\n" if narrow else " ").join(_FOOTER)
    figure.text(left, 0.06 / height, footer, fontsize=5.5, va="bottom", linespacing=1.3)
