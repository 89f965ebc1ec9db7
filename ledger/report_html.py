"""An audit report as one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ledger.audit import AuditReport
from ledger.errors import InvalidStatement, by_code
from ledger.facts import LEVELS
from ledger.replica_round import RoundHistory
from ledger.report import outcome_of
from ledger.report_svg import bars, lineage, lines, matrix
from ledger.statement import Outcome

_STYLE = """
:root{color-scheme:light dark;--ink:#1d2733;--soft:#5c6b7a;--page:#fff;--card:#f5f7f9;
--grid:#d8dee5}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa7b4;--page:#0f141a;--card:#19212a;
--grid:#323d49}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:920px;
margin:0 auto;padding:24px}h1{font-size:24px}h2{font-size:18px;margin:32px 0 8px}
.verdict{padding:14px 18px;border-radius:8px;font-weight:600;color:#fff}.ok{background:#1a7f4b}
.bad{background:#b3261e}.warn{background:#9a6700}code,.digest{font-family:ui-monospace,monospace;
font-size:12px}table{border-collapse:collapse;width:100%;font-size:14px}td,th{text-align:left;
padding:5px 8px;border-bottom:1px solid var(--grid);vertical-align:top;overflow-wrap:anywhere}
svg{width:100%;background:var(--card);border-radius:8px;padding:8px;box-sizing:border-box}
text{fill:var(--ink);font-size:12px}.axis{fill:var(--soft)}.grid{stroke:var(--grid)}
.limit{stroke:#b3261e;stroke-dasharray:6 4;stroke-width:2}.line{fill:none}
.attested{fill:#1a7f4b}.accepted{fill:#7fb8d6}.refused{fill:#d98324}.against{fill:#b3261e}
.committed{fill:#8a97a5}.absent{fill:var(--grid)}.final{fill:#1a7f4b}.start{fill:#4c6fb1}
.aborted{fill:#8a97a5}.digest{fill:#fff}.arrow{stroke:var(--soft);stroke-width:2}
.arrowhead{fill:var(--soft)}.failure{color:#d0342c;font-weight:600}.unproven,.note{color:#b07400}
.key span{display:inline-block;width:12px;height:12px;border-radius:3px;margin:0 5px 0 14px}
p.soft,li.soft{color:var(--soft)}
"""
_COLOURS = ("#3b6fb6", "#d98324", "#1a7f4b", "#8250b8", "#b3261e", "#0f8b8d", "#a8467f", "#6b6b2d")
_KEY = (
    ("#1a7f4b", "attested"),
    ("#7fb8d6", "accepted, silent"),
    ("#d98324", "refused"),
    ("#b3261e", "dissented or contested"),
    ("#8a97a5", "committed only"),
)


def _series_style() -> str:
    return "".join(
        f".line.s{i}{{stroke:{c}}}.dot.s{i},.bar.s{i}{{fill:{c}}}" for i, c in enumerate(_COLOURS)
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _reason(code: int) -> str:
    try:
        return by_code(code).__name__
    except InvalidStatement:
        return f"code {code}"


def _cell(past: RoundHistory, seat: int) -> tuple[str, str] | None:
    """Return (style, title) of one hospital in one round."""
    commit, bit, proposal = past.commits.get(seat), 1 << seat, past.proposal
    if commit is None:
        return None
    if proposal is None:
        return "committed", "committed; the round had no proposal"
    if past.against & bit:
        said = "contested" if proposal.refused & bit else "dissented"
        return "against", f"{said}: {_reason(past.codes.get(commit.hospital, 0))}"
    if proposal.refused & bit:
        return "refused", f"refused: {_reason(proposal.reasons.get(seat, 0))}"
    if past.attested & bit:
        return "attested", f"attested; weight {commit.weight}"
    return "accepted", "accepted, did not answer"


def _rounds(report: AuditReport) -> str:
    history = report.history
    if history is None or not history.rounds:
        return "<p class=soft>No round was opened.</p>"
    seats = sorted(history.members.seats.values(), key=lambda seat: seat.index)
    cells = {}
    for c, past in enumerate(history.rounds):
        for r, seat in enumerate(seats):
            found = _cell(past, seat.index)
            if found:
                cells[r, c] = (found[0], f"round {past.opening.round}: {found[1]}")
    names = [report.names.get(seat.hospital, seat.hospital[:12]) for seat in seats]
    key = "".join(f'<span style="background:{c}"></span>{escape(t)}' for c, t in _KEY)
    picture = matrix([str(past.opening.round) for past in history.rounds], names, cells)
    return f'{picture}<p class="key">{key}</p>{_round_table(report)}'


def _round_table(report: AuditReport) -> str:
    rows, phase = [], ("phase",) if report.phases else ()
    for past in report.history.rounds if report.history else ():
        proposal = past.proposal
        rows.append(
            (
                str(past.opening.round),
                *(escape(report.phases.get(past.opening.round, "–")) for _ in phase),
                escape(outcome_of(past)),
                f"{past.opening.roster_count}",
                f"{len(past.commits)}",
                f"{proposal.accepted.bit_count() if proposal else 0}",
                f"{past.attested.bit_count()}",
                f"{proposal.accepted_weight if proposal else 0}",
                f"{report.gas.get(past.opening.round, 0):,}",
            )
        )
    head = ("outcome", "roster", "commits", "accepted", "attested", "weight", "gas")
    return _table(("round", *phase, *head), rows)


def _lineage(report: AuditReport) -> str:
    if report.history is None:
        return ""
    models = [("initial", report.history.rules.initial_model.hex(), "start")]
    for past in report.history.rounds:
        label = f"round {past.opening.round}"
        if past.final_model:
            models.append((label, past.final_model.hex(), "final"))
        elif past.outcome == Outcome.ABORTED:
            models.append((f"{label}: base stands", past.opening.base_model.hex(), "aborted"))
    return lineage(models)


def _budgets(report: AuditReport) -> str:
    if report.history is None or not report.budgets:
        return "<p class=soft>No differential privacy was declared, so no budget is kept.</p>"
    series = {}
    for item in report.budgets:
        name = report.names.get(item.hospital, item.hospital[:12])
        series[name] = [
            (past.opening.round, commit.mechanism.epsilon / 1e6)
            for past in report.history.rounds
            for commit in past.commits.values()
            if commit.hospital == item.hospital
        ]
    caps = {item.hospital: item.cap for item in report.budgets}
    rows = [
        (
            escape(report.names.get(item.hospital, item.hospital)),
            f"per {escape(item.unit)}",
            f"{item.spent:.4f}",
            "unknown" if item.recomputed is None else f"{item.recomputed:.4f}",
            f"{item.cap:.4f}",
            f"{item.delta:g}",
        )
        for item in report.budgets
    ]
    unit = f"cumulative epsilon per {report.budgets[0].unit}; dashed: cap"
    head = ("hospital", "unit", "spent", "recomputed by this audit", "cap", "delta")
    return lines(series, caps, unit) + _table(head, rows)


def _credit(report: AuditReport) -> str:
    return bars(
        [
            (
                report.names.get(item.hospital, item.hospital[:12]),
                float(item.weight),
                f"{item.weight} in {item.rounds} rounds ({item.share:.1%})",
            )
            for item in report.credits
        ]
    )


def _findings(report: AuditReport) -> str:
    if not report.findings:
        return "<p>None.</p>"
    rows = [
        (
            f'<span class="{item.severity}">{item.severity}</span>',
            escape(item.error),
            str(item.round or ""),
            escape(report.names.get(item.hospital, item.hospital)),
            escape(item.sentence),
            f"<code>{escape(item.expected)}</code>",
            f"<code>{escape(item.found)}</code>",
        )
        for item in report.findings
    ]
    return _table(("", "error", "round", "hospital", "what", "expected", "found"), rows)


def _checks(report: AuditReport) -> str:
    rows = [
        (level, escape(name), f"{count:,}")
        for level in LEVELS
        for name, count in sorted(report.passed.get(level, {}).items())
    ]
    total = sum(sum(found.values()) for found in report.passed.values())
    return f"<details><summary>{total:,} checks held</summary>" + (
        _table(("level", "check", "times it held"), rows) + "</details>"
    )


def _claims(report: AuditReport) -> str:
    items = [f"<li>{escape(s)} ({lv})</li>" for lv, found in report.proven.items() for s in found]
    items += [f"<li class=soft>Not proven: {escape(s)}</li>" for s in report.not_proven]
    return f"<ul>{''.join(items)}</ul>"


def render(report: AuditReport) -> str:
    """Return the page; the same report gives the same page."""
    css = "ok" if report.clean and report.origin_proven else "warn" if report.clean else "bad"
    marks = "".join(f"<p class=warn>{escape(mark)}</p>" for mark in report.marks)
    head = report.history.head.hex() if report.history else "none"
    parts = (
        f'<div class="verdict {css}">{escape(report.verdict)}</div>{marks}',
        f"<p class=soft>{report.blocks} blocks, {report.transactions} transactions</p>",
        f"<p class=soft>head <code>{head}</code></p>",
        f"<p class=soft>report digest <code>{report.digest().hex()}</code></p>",
        f"<h2>Findings</h2>{_findings(report)}",
        f"<h2>Rounds</h2>{_rounds(report)}",
        f"<h2>Models</h2>{_lineage(report)}",
        f"<h2>Privacy budgets</h2>{_budgets(report)}",
        f"<h2>Credit (declared, not verified)</h2>{_credit(report)}",
        f"<h2>What this shows, and what it does not</h2>{_claims(report)}",
        f"<h2>What was checked</h2>{_checks(report)}",
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Thoracle audit</title><style>{_STYLE}{_series_style()}</style></head>"
        f"<body><h1>Audit of a federation</h1>{''.join(parts)}</body></html>\n"
    )
