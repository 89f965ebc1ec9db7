"""A run's rounds as a line, a table and a JSON record."""

from __future__ import annotations

from rich import box
from rich.table import Table

from client.learners.interface import Learner
from ledger.statement import Outcome
from server.results import RoundResult
from simulation.planning import schedule_of
from simulation.run import RunReport
from simulation.settings import Settings

_MIB = 2.0**20
COLUMNS = ("#", "phase", "outcome", "in", "out", "lost", "weight", "gas", "MiB", "s", "fed", "test")
PHASED, PLAIN = ("phase",), ("weight", "gas")
"""Columns of runs in phases alone, and of those without phases alone."""


_UNSCORED = (
    "; – where a phase tells no findings yet, or there is no test list, or a private run keeps"
    " held-back scores at the hospitals"
)


def announced_phases(settings: Settings, learner: Learner) -> str:
    """Return the sentence that tells, before a run, which rounds train what; empty without phases.

    Raises:
        ConfigError: the settings name a phase that the learner has not.
    """
    tables = schedule_of(settings, learner)
    if not tables:
        return ""
    spans, first, scored = [], 1, []
    for table in tables:
        last = first + table["rounds"] - 1
        told = f"round {first}" if last == first else f"rounds {first} to {last}"
        spans.append(f"{told} {table['name']}")
        if learner.phase(table["name"]).scored:
            scored.append(first)
        first = last + 1
    text = f"Phases: {', '.join(spans)}"
    if scored:
        text += f"; findings are told, and scored, from round {scored[0]} on"
    names = {table["name"] for table in tables}
    planned = [] if settings.phases else learner.schedule(len(learner.phases))
    left_out = [name for name in planned if name not in names]
    return f"{text} (too few rounds for {' and '.join(left_out)})" if left_out else text


def _auc(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def round_line(result: RoundResult, central: float | None) -> str:
    """Return one line for a round that has just ended."""
    reasons = ", ".join(sorted({*result.refused.values(), *result.failed.values()}))
    lost = f", {len(result.refused)} refused, {len(result.failed)} failed" if reasons else ""
    # A phase before findings has a loss only, and hospitals of a private run tell nothing at all.
    told = [
        f", {name} {_auc(value)}"
        for name, value in (
            ("training loss", result.metrics.get("train_loss")),
            ("federated AUC", result.metrics.get("auc")),
            ("test AUC", central),
        )
        if value is not None
    ]
    return (
        f"Round {result.round}{f' ({result.phase})' if result.phase else ''}:"
        f" {result.outcome.name.replace('_', ' ').lower()},"
        f" {len(result.accepted)} accepted{lost}{f' ({reasons})' if reasons else ''}"
        f"{''.join(told)}, {result.seconds:.0f} s"
    )


def run_table(report: RunReport) -> Table:
    """Return the table a simulation ends with."""
    gaps = any(
        score is None
        for result in report.rounds
        for score in (result.metrics.get("auc"), report.central.get(result.round))
    )
    table = Table(
        title="Audited rounds",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        caption="in, out, lost: accepted, refused, failed; fed, test: macro AUC over the hospitals'"
        f" held-back patients, and on the central test list{_UNSCORED if gaps else ''}",
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
