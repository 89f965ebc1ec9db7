"""A run's figures as a Markdown table, from its own files: ``python -m simulation.results RUN``.

Documents quote what this prints, so that no figure is typed by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ledger.errors import EvidenceMissing
from simulation.figures import figure, table_rows


def markdown(folder: Path) -> str:
    """Return the table of a run folder's ``metrics.csv`` and ``central.csv``.

    Raises:
        EvidenceMissing: the run has no metrics.
    """
    rounds = table_rows(folder / "metrics.csv")
    if not rounds:
        raise EvidenceMissing(f"{folder} has no rounds in its metrics.csv")
    central = {row["round"]: row for row in table_rows(folder / "central.csv")}
    phase = ("phase",) if any(row.get("phase") for row in rounds) else ()
    head = ("round", *phase, "outcome", "accepted", "refused", "weight", "gas", "MiB up + down",
            "federated macro AUC", "test macro AUC", "test, AP only", "test, PA only")  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rounds:
        scored = central.get(row["round"], {})
        size = (int(row["bytes_up"]) + int(row["bytes_down"])) / 2**20
        cells = [
            row["round"], *(row.get(name) or "–" for name in phase),
            row["outcome"].replace("_", " ").lower(), row["accepted"], row["refused"],
            row["weight"], f"{int(row['gas']):,}", f"{size:.1f}", _auc(row.get("metric_auc")),
            *(_auc(scored.get(name)) for name in
              ("macro_auc", "macro_auc_AP", "macro_auc_PA")),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _auc(value: str | None) -> str:
    return figure(float(value) if value else None)


if __name__ == "__main__":
    sys.stdout.write(markdown(Path(sys.argv[1])) + "\n")
