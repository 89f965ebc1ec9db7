"""A run's rounds as a line, a table and a JSON record."""

from __future__ import annotations

from rich import box
from rich.table import Table

from ledger.statement import Outcome
from server.results import RoundResult
from simulation.run import RunReport

_MIB = 2.0**20
COLUMNS = ("#", "phase", "outcome", "in", "out", "lost", "weight", "gas", "MiB", "s", "fed", "test")
PHASED, PLAIN = ("phase",), ("weight", "gas")
"""Columns of runs in phases alone, and of those without phases alone."""


def _auc(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def round_line(result: RoundResult, central: float | None) -> str:
    """Return one line for a round that has just ended."""
    reasons = ", ".join(sorted({*result.refused.values(), *result.failed.values()}))
    lost = f", {len(result.refused)} refused, {len(result.failed)} failed" if reasons else ""
    scored = f", test AUC {_auc(central)}" if central is not None else ""
    return (
        f"Round {result.round}{f' ({result.phase})' if result.phase else ''}:"
        f" {result.outcome.name.replace('_', ' ').lower()},"
        f" {len(result.accepted)} accepted{lost}{f' ({reasons})' if reasons else ''},"
        f" federated AUC {_auc(result.metrics.get('auc'))}{scored}, {result.seconds:.0f} s"
    )


def run_table(report: RunReport) -> Table:
    """Return the table a simulation ends with."""
    table = Table(
        title="Audited rounds",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        caption="in, out, lost: accepted, refused, failed; fed, test: macro AUC over the hospitals'"
        " held-back patients, and on the central test list",
        caption_justify="left",
    )
    # A terminal is narrow: where there are phases, they stand in place of weight and gas.
    phased = any(result.phase for result in report.rounds)
    for name in COLUMNS:
        if name not in (PLAIN if phased else PHASED):
            left = name in {"phase", "outcome"}
            table.add_column(name, justify="left" if left else "right", no_wrap=True)
    for result in report.rounds:
        outcome = result.outcome.name.replace("_", " ").lower()
        good = result.outcome is Outcome.SUM_VERIFIED
        cells = (
            str(result.round),
            result.phase or "–",
            f"[green]{outcome}[/]" if good else f"[yellow]{outcome}[/]",
            str(len(result.accepted)),
            str(len(result.refused)),
            str(len(result.failed)),
            str(result.weight),
            f"{result.total_gas:,}",
            f"{(result.bytes_up + result.bytes_down) / _MIB:.1f}",
            f"{result.seconds:.0f}",
            _auc(result.metrics.get("auc")),
            _auc(report.central.get(result.round)),
        )
        shown = zip(COLUMNS, cells, strict=True)
        table.add_row(*(cell for name, cell in shown if name not in (PLAIN if phased else PHASED)))
    return table


def run_record(report: RunReport) -> dict[str, object]:
    """Return a run as plain JSON values."""
    return {
        "run": str(report.folder),
        "rounds": [
            {**result.row(), "test_macro_auc": report.central.get(result.round)}
            for result in report.rounds
        ],
    }
