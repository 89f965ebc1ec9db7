"""An audit's outcome as plain values and as a table for people; the page is `report_html`."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ledger.audit import AuditReport
from ledger.facts import Finding
from ledger.replica_round import RoundHistory
from ledger.statement import Outcome, Phase

_COLOUR = {"failure": "bold red", "unproven": "yellow", "note": "cyan"}
_OUTCOME = {
    Outcome.SUM_VERIFIED: "SumVerified",
    Outcome.QUORUM_ONLY: "QuorumOnly",
    Outcome.ABORTED: "aborted",
}


def outcome_of(past: RoundHistory) -> str:
    """Return how a round ended, or where it stands."""
    if past.outcome != Outcome.NONE:
        return _OUTCOME[past.outcome]
    return "committing" if past.phase == Phase.COMMITTING else "attesting"


def round_record(report: AuditReport, past: RoundHistory) -> dict[str, Any]:
    """Return one round as plain values (epsilon in real units, bitmaps as lists of addresses)."""
    proposal = past.proposal
    by_seat = {seat: commit.hospital for seat, commit in sorted(past.commits.items())}
    refused = proposal.reasons if proposal else {}
    return {
        "round": past.opening.round,
        "outcome": outcome_of(past),
        "phase": report.phases.get(past.opening.round),
        "roster": past.opening.roster_count,
        "committed": list(by_seat.values()),
        "accepted": [by_seat[s] for s in past.seats(proposal.accepted)] if proposal else [],
        "refused": {by_seat[s]: c for s, c in sorted(refused.items()) if s in by_seat},
        "attested": [by_seat[s] for s in past.seats(past.attested)],
        "against": [by_seat[s] for s in past.seats(past.against)],
        "accepted_weight": proposal.accepted_weight if proposal else 0,
        "unattested_weight": past.unattested_weight,
        "epsilon": {c.hospital: c.mechanism.epsilon / 1e6 for c in past.commits.values()},
        "base_model": past.opening.base_model.hex(),
        "model": past.final_model.hex() if past.final_model else None,
        "opened_at": past.opened_at,
        "gas": report.gas.get(past.opening.round, 0),
    }


def report_record(report: AuditReport) -> dict[str, Any]:
    """Return the whole report as plain values, for ``--json``."""
    rounds = report.history.rounds if report.history else ()
    return {
        **report.summary(),
        "digest": report.digest().hex(),
        "blocks": report.blocks,
        "transactions": report.transactions,
        "rounds": [round_record(report, past) for past in rounds],
        "budgets": [vars(item) for item in report.budgets],
        "credit_declared_not_verified": [vars(item) for item in report.credits],
        "names": report.names,
        "proven": {level: list(found) for level, found in report.proven.items()},
        "not_proven": list(report.not_proven),
    }


def _name(report: AuditReport, who: str) -> str:
    return report.names.get(who, who)


def _rounds(report: AuditReport) -> Table:
    phase = ("phase",) if report.phases else ()
    columns = ("outcome", "committed", "accepted", "refused", "attested", "weight")
    table = Table()
    for name in ("round", *phase, *columns):
        # In a narrow terminal other words are folded, so that these can be read.
        table.add_column(name, no_wrap=name in {"phase", "outcome"}, overflow="fold")
    table.title, table.title_justify = "Rounds", "left"
    for past in report.history.rounds if report.history else ():
        item = round_record(report, past)
        refused = ", ".join(f"{_name(report, w)} ({c})" for w, c in item["refused"].items())
        table.add_row(
            str(item["round"]),
            *(escape(item["phase"] or "–") for _ in phase),
            item["outcome"],
            str(len(item["committed"])),
            str(len(item["accepted"])),
            escape(refused) or "–",
            str(len(item["attested"])),
            str(item["accepted_weight"]),
        )
    return table


def _budgets(report: AuditReport) -> Table:
    table = Table("hospital", "unit", "epsilon spent", "recomputed", "cap", "delta", "charges")
    table.title, table.title_justify = "Privacy budgets", "left"
    for item in report.budgets:
        again = "unknown" if item.recomputed is None else f"{item.recomputed:.4f}"
        table.add_row(
            escape(_name(report, item.hospital)),
            f"per {item.unit}",
            f"{item.spent:.4f}",
            again,
            f"{item.cap:.4f}",
            f"{item.delta:g}",
            str(item.charges),
        )
    return table


def _credit(report: AuditReport) -> Table:
    table = Table("hospital", "final rounds attested", "weight", "share")
    table.title, table.title_justify = "Credit (declared, not verified)", "left"
    for item in report.credits:
        name = escape(_name(report, item.hospital))
        table.add_row(name, str(item.rounds), str(item.weight), f"{item.share:.1%}")
    return table


def _finding(report: AuditReport, item: Finding) -> str:
    where = f"round {item.round}, " if item.round else ""
    who = f"{_name(report, item.hospital)}, " if item.hospital else ""
    shown = f"\n    expected {item.expected}\n    found    {item.found}" if item.expected else ""
    return (
        f"[{_COLOUR[item.severity]}]{item.severity}[/] {item.error}"
        f" ({escape(f'{item.level}, {where}{who}{item.check}')}): {escape(item.sentence)}"
        f"{escape(shown)}"
    )


def _checks(report: AuditReport) -> Table:
    table = Table("level", "checks held", "kinds")
    table.title, table.title_justify = "What was checked", "left"
    for level in ("chain", "models", "replay"):
        found = report.passed.get(level, {})
        reached = "" if level in report.reached else " (not reached)"
        table.add_row(level + reached, str(sum(found.values())), str(len(found)))
    return table


def print_report(report: AuditReport, console: Console, *, limit: int = 20) -> None:
    """Print the report for a person; at most ``limit`` findings, then their number."""
    if report.history is not None:
        console.print(_rounds(report))
        if report.budgets:
            console.print(_budgets(report))
        console.print(_credit(report))
    console.print(_checks(report))
    for item in report.findings[:limit]:
        console.print(_finding(report, item))
    if len(report.findings) > limit:
        rest = len(report.findings) - limit + report.dropped
        console.print(f"… and {rest} further findings (--json lists them)")
    for mark in report.marks:
        console.print(f"[yellow]marked by the run itself:[/] {escape(mark)}")
    for level, sentences in report.proven.items():
        for sentence in sentences:
            console.print(f"[green]proven[/] ({level}): {escape(sentence)}")
    for sentence in report.not_proven:
        console.print(f"[dim]not proven: {escape(sentence)}[/]")
    colour = "bold green" if report.clean else "bold red"
    console.print(f"[{colour}]{escape(report.verdict)}[/]")
