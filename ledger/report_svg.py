"""The pictures of an audit report, as plain SVG text: no library, no script, no network.

Colours come from the page's style sheet by class, so that light and dark both read; every mark has
a ``<title>``, so that a pointer (or a screen reader) gets the figure behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH = 860
_LEFT = 150
_PALETTE = 8


def _text(x: float, y: float, value: str, css: str = "", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(value)}</text>'
    )


def _svg(height: float, parts: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">'
        + "".join(parts)
        + "</svg>"
    )


def matrix(
    columns: Sequence[str], rows: Sequence[str], cells: Mapping[tuple[int, int], tuple[str, str]]
) -> str:
    """Draw who did what in which round.

    Args:
        columns: round labels.
        rows: hospital names.
        cells: (row, column) to (style class, title).
    """
    step = min(46.0, (WIDTH - _LEFT) / max(len(columns), 1))
    parts = []
    every = max(1, round(26 / step))
    for c, label in enumerate(columns):
        if c % every == 0:
            parts.append(_text(_LEFT + (c + 0.5) * step, 14, label, "axis", "middle"))
    for r, name in enumerate(rows):
        y = 24 + r * 26
        parts.append(_text(_LEFT - 10, y + 15, name[:20], "axis", "end"))
        for c in range(len(columns)):
            css, title = cells.get((r, c), ("absent", "took no part"))
            parts.append(
                f'<rect x="{_LEFT + c * step + 1:.1f}" y="{y}" width="{max(step - 2, 1):.1f}"'
                f' height="22" rx="3" class="{css}"><title>{escape(title)}</title></rect>'
            )
    return _svg(30 + len(rows) * 26, parts, "Hospitals by round")


def lines(
    series: Mapping[str, Sequence[tuple[int, float]]], limits: Mapping[str, float], unit: str
) -> str:
    """Draw one rising line a hospital: (round, value) points, with its limit as a dashed line."""
    height, top, bottom = 260.0, 16.0, 226.0
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    last = max(x for x, _ in points)
    shown = [limit for limit in limits.values() if limit <= 4 * max(y for _, y in points)]
    peak = max([y for _, y in points] + shown) * 1.05 or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        return _LEFT + x / last * (WIDTH - _LEFT - 20), bottom - y / peak * (bottom - top)

    parts = []
    for mark in range(5):
        value = peak * mark / 4
        y = at(0, value)[1]
        parts.append(
            f'<line x1="{_LEFT}" x2="{WIDTH - 20}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        )
        parts.append(_text(_LEFT - 8, y + 4, f"{value:.2f}", "axis", "end"))
    for limit in sorted(set(shown)):
        y = at(0, limit)[1]
        parts.append(
            f'<line x1="{_LEFT}" x2="{WIDTH - 20}" y1="{y:.1f}" y2="{y:.1f}" class="limit">'
            f"<title>cap {limit:g}</title></line>"
        )
    for i, (name, line) in enumerate(series.items()):
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in (at(x, y) for x, y in [(0, 0.0), *line]))
        # Equal lines lie on each other: the first is the widest, so that all of them show.
        width = 2 + 2 * min(len(series) - 1 - i, 4)
        parts.append(
            f'<polyline points="{path}" class="line s{i % _PALETTE}" stroke-width="{width}"/>'
        )
        for x, y in line:
            a, b = at(x, y)
            title = escape(f"{name}, round {x}: {y:.4f}")
            parts.append(
                f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" class="dot s{i % _PALETTE}">'
                f"<title>{title}</title></circle>"
            )
    for i, name in enumerate(series):
        x, y = _LEFT + i % 5 * 140, height + i // 5 * 20
        parts.append(
            f'<rect x="{x}" y="{y}" width="12" height="12" rx="3" class="bar s{i % _PALETTE}"/>'
        )
        parts.append(_text(x + 18, y + 11, name[:18], "axis"))
    parts.append(_text(_LEFT, height - 8, f"rounds 0 to {last}; vertical: {unit}", "axis"))
    return _svg(height + 20 * (1 + (len(series) - 1) // 5), parts, unit)


def bars(values: Sequence[tuple[str, float, str]]) -> str:
    """Draw horizontal bars: (name, length, what is written beside it)."""
    peak = max((value for _, value, _ in values), default=0.0) or 1.0
    parts = []
    for i, (name, value, label) in enumerate(values):
        y, length = 6 + i * 28, value / peak * (WIDTH - _LEFT - 190)
        parts.append(_text(_LEFT - 10, y + 15, name[:20], "axis", "end"))
        parts.append(
            f'<rect x="{_LEFT}" y="{y}" width="{max(length, 1):.1f}" height="20" rx="3"'
            f' class="bar s{i % _PALETTE}"><title>{escape(label)}</title></rect>'
        )
        parts.append(_text(_LEFT + length + 8, y + 15, label, "axis"))
    return _svg(12 + len(values) * 28, parts, "bars")


def lineage(models: Sequence[tuple[str, str, str]]) -> str:
    """Draw the line of models: (label under the box, digest, style class)."""
    step, each = 116, max(1, (WIDTH - 10) // 116)
    parts = []
    for i, (label, digest, css) in enumerate(models):
        x, y = 6 + (i % each) * step, 8 + (i // each) * 66
        parts.append(
            f'<rect x="{x}" y="{y}" width="92" height="30" rx="5" class="{css}">'
            f"<title>{escape(digest)}</title></rect>"
        )
        parts.append(_text(x + 46, y + 20, digest[:10], "digest", "middle"))
        parts.append(_text(x + 46, y + 46, label, "axis", "middle"))
        if i and i % each:
            parts.append(
                f'<line x1="{x - 24}" x2="{x - 3}" y1="{y + 15}" y2="{y + 15}" class="arrow"'
                ' marker-end="url(#head)"/>'
            )
    arrow = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"'
        ' markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" class="arrowhead"/></marker>'
        "</defs>"
    )
    return _svg(8 + (len(models) - 1) // each * 66 + 66, [arrow, *parts], "Model lineage")
