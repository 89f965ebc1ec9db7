"""A run's figures as a Markdown table, from its own files: ``python -m simulation.results RUN``.

Documents quote what this prints, so that no figure is typed by hand.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from ledger.files import read_bounded

_LIMIT = 1 << 24


def _rows(path: Path) -> dict[int, dict[str, str]]:
    rows = csv.DictReader(read_bounded(path, _LIMIT).decode().splitlines())
    return {int(row["round"]): row for row in rows}


def markdown(folder: Path) -> str:
    """Return the table of a run folder's ``metrics.csv`` and ``central.csv``.

    Raises:
        EvidenceMissing: the run has no metrics.
    """
    rounds = _rows(folder / "metrics.csv")
    central = _rows(folder / "central.csv") if (folder / "central.csv").is_file() else {}
    head = ("round", "outcome", "accepted", "refused", "weight", "gas", "MiB up + down",
            "federated macro AUC", "test macro AUC", "test, AP only", "test, PA only")  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for number, row in rounds.items():
        scored = central.get(number, {})
        size = (int(row["bytes_up"]) + int(row["bytes_down"])) / 2**20
        cells = [
            str(number), row["outcome"].replace("_", " ").lower(), row["accepted"], row["refused"],
            row["weight"], f"{int(row['gas']):,}", f"{size:.1f}", _auc(row.get("metric_auc")),
            *(_auc(scored.get(name)) for name in
              ("macro_auc", "macro_auc_AP", "macro_auc_PA")),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _auc(value: str | None) -> str:
    return f"{float(value):.3f}" if value else "–"


if __name__ == "__main__":
    sys.stdout.write(markdown(Path(sys.argv[1])) + "\n")
