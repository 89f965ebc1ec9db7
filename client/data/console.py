"""Reports for a person: counts first, then every kind of problem with names."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from client.data.check import NAMED, NOTES, CheckReport, by_kind
from client.data.chexpert import COMPETITION
from ledger.console import err, out


def print_report(report: CheckReport) -> None:
    """Print a report of ``data check``."""
    out.print(
        f"[bold]{escape(report.root)}[/] ({report.source}): {report.images:,} images of "
        f"{report.patients:,} patients"
    )
    for name, (images, patients) in report.subsets.items():
        out.print(f"  {name} list: {images:,} images of {patients:,} patients")
    for title, counts in (("view", report.views), ("sex", report.sexes)):
        out.print(f"  {title}: " + ", ".join(f"{key} {value:,}" for key, value in counts.items()))
    out.print(f"  cohort digest {report.digest}")
    if report.source == "chexpert":
        out.print(_labels(report, COMPETITION, "the five findings of the competition"))
    out.print(_labels(report, tuple(report.labels)))
    _print_problems(report)


def _labels(report: CheckReport, findings: tuple[str, ...], title: str | None = None) -> Table:
    table = Table("finding", "present", "absent", "unknown", "uncertain", title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for finding in findings:
        counts = report.labels[finding]
        table.add_row(finding, *(f"{counts[kind]:,}" for kind in counts))
    return table


def _print_problems(report: CheckReport) -> None:
    for kind, found in by_kind(report.problems).items():
        style = "yellow" if kind in NOTES else "red"
        out.print(f"[{style}]{kind}: {len(found):,}[/]")
        for problem in found[:NAMED]:
            detail = f" ({problem.detail})" if problem.detail else ""
            out.print(f"    {escape(problem.name + detail)}")
        if len(found) > NAMED:
            out.print(f"    and {len(found) - NAMED:,} more")
    if report.ok:
        out.print("[green]Nothing is wrong.[/]")
    else:
        err.print(f"[red]{len(report.errors):,} problems.[/]")
