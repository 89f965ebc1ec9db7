"""A bench as a table (Markdown, JSON, CSV) and a picture, from its kept files alone.

Cells that differ in nothing but the seed make one row: means over the seeds, and the spread
between them. The interval is over patients; of several seeds its ends are averaged, and what it
does not tell (another training) the spread does.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any

from ledger.canonical import parse_json
from ledger.errors import DataError
from ledger.files import read_bounded
from simulation.compare import CENTRAL, FORMAT
from simulation.figures import figure, save_svg
from simulation.settings import PHANTOMS

_LIMIT = 1 << 24
Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; None where a figure is not defined.

    Attributes:
        learner, variant, mode, partition: what was compared.
        seeds: how many trainings.
        parameters: of the network.
        steps: epochs of a central training, rounds of a federated one.
        verified: rounds whose sum was, on average over the seeds; None of a central training.
        macro_auc: on the test list, with ``low`` to ``high`` its 95 % interval over patients.
        spread: highest minus lowest macro AUC of the seeds; None of one.
        auc_ap, auc_pa: macro AUC within each view.
        federated_auc: of the hospitals' own held-back patients, by weight, after the last round.
        weighted_f1, brier, ece: see docs/learners.md.
        seconds: of training and scoring on the machine at hand, other work included.
        mebibytes: moved between hospitals and server, both ways.
        reached: first epoch or round, on average over the seeds, at which the target was met: by
            the AUC at hospitals in a federation, by the test list's in a central training. None
            where no target is given, or a seed misses it.
        reached_mebibytes: moved until then.
    """

    learner: str
    variant: str
    mode: str
    partition: str
    seeds: int
    parameters: int
    steps: int
    verified: float | None
    macro_auc: float | None
    low: float | None
    high: float | None
    spread: float | None
    auc_ap: float | None
    auc_pa: float | None
    federated_auc: float | None
    weighted_f1: float | None
    brier: float | None
    ece: float | None
    seconds: float
    mebibytes: float
    reached: float | None = None
    reached_mebibytes: float | None = None


def read_records(folder: Path) -> tuple[Record, ...]:
    """Return the kept files of a bench.

    Raises:
        DataError: there is none, or one is not what a cell keeps.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        record = parse_json(read_bounded(path, _LIMIT), _LIMIT)
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise DataError(f"{path} is not what a cell of a bench keeps")
        found.append(record)
    if not found:
        raise DataError(f"no cell of a bench is finished in {folder}")
    return tuple(found)


def rows_of(records: Sequence[Record], target: float | None = None) -> tuple[Row, ...]:
    """Return the table's rows, in the records' order.

    Args:
        records: what the cells kept.
        target: a macro AUC; rows then tell when it was met.

    Raises:
        DataError: a record lacks what a cell keeps.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        settings = {k: v for k, v in record["settings"].items() if k not in {"seed", "data"}}
        # Of other versions or films, a training is another one, not another seed. Phantoms are
        # drawn anew for every seed.
        drawn = record["settings"].get("data") == PHANTOMS
        other = (record.get("versions"), None if drawn else record.get("data"))
        key = repr((record["mode"], record["variant"], sorted(settings.items()), other))
        groups.setdefault(key, []).append(record)
    try:
        return tuple(_row(group, target) for group in groups.values())
    except (KeyError, TypeError, IndexError) as error:
        raise DataError(f"a bench's kept files cannot be read: {error!r}") from None


def _row(group: Sequence[Record], target: float | None) -> Row:
    first = group[0]
    settings = first["settings"]
    scores = [record["evaluation"] for record in group if record["evaluation"]]
    aucs = _defined(scores, "overall", "macro_auc")
    reached, moved = _reached(group, target) if target is not None else (None, None)
    return Row(
        learner=settings["learner"],
        variant=first["variant"],
        mode=first["mode"],
        partition="" if first["mode"] == CENTRAL else settings["partition"],
        seeds=len(group),
        parameters=first["parameters"],
        steps=len(first["curve"]),
        verified=_mean([float(r["verified"]) for r in group if "verified" in r]),
        macro_auc=_mean(aucs),
        low=_mean(_defined(scores, "macro_auc_interval", "low")),
        high=_mean(_defined(scores, "macro_auc_interval", "high")),
        spread=max(aucs) - min(aucs) if len(aucs) > 1 else None,
        auc_ap=_mean(_defined(scores, "within_view", "AP", "macro_auc")),
        auc_pa=_mean(_defined(scores, "within_view", "PA", "macro_auc")),
        federated_auc=_mean(
            [
                float(record["curve"][-1]["federated_auc"])
                for record in group
                if record["curve"][-1].get("federated_auc") is not None
            ]
        ),
        weighted_f1=_mean(_defined(scores, "operating", "weighted_f1")),
        brier=_mean(_defined(scores, "calibration", "brier")),
        ece=_mean(_defined(scores, "calibration", "ece")),
        seconds=fmean(float(record["seconds"]) for record in group),
        mebibytes=fmean(record["bytes"] for record in group) / 2**20,
        reached=reached,
        reached_mebibytes=moved,
    )


def _reached(group: Sequence[Record], target: float) -> tuple[float | None, float | None]:
    """Return when the target was first met, and the MiB until then; None where a seed missed it."""
    key = "macro_auc" if group[0]["mode"] == CENTRAL else "federated_auc"
    points = []
    for record in group:
        met = (point for point in record["curve"] if (point.get(key) or 0.0) >= target)
        if (point := next(met, None)) is None:
            return None, None
        points.append(point)
    return fmean(p["at"] for p in points), fmean(p["bytes"] for p in points) / 2**20


def _defined(scores: Sequence[Record], *keys: str) -> list[float]:
    found = []
    for score in scores:
        value: Any = score
        for key in keys:
            value = value.get(key) if value else None
        if value is not None:
            found.append(float(value))
    return found


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


HEADS = ("learner", "variant", "mode", "partition", "seeds", "parameters", "epochs or rounds",
         "macro AUC", "95 % interval", "between seeds", "AP only", "PA only", "at hospitals",
         "weighted F1", "Brier", "ECE", "seconds", "MiB")  # fmt: skip


def cells_of(row: Row) -> tuple[str, ...]:
    """Return a row's texts, under ``HEADS``."""
    interval = "–" if row.low is None or row.high is None else f"{row.low:.3f} to {row.high:.3f}"
    return (
        row.learner, row.variant, row.mode, row.partition or "–", str(row.seeds),
        f"{row.parameters / 1e6:.2f} M", _steps(row), figure(row.macro_auc), interval,
        *map(figure, (row.spread, row.auc_ap, row.auc_pa, row.federated_auc, row.weighted_f1,
                       row.brier, row.ece)),
        f"{row.seconds:,.0f}", f"{row.mebibytes:,.1f}",
    )  # fmt: skip


def _steps(row: Row) -> str:
    if row.verified is None or row.verified == row.steps:
        return str(row.steps)
    return f"{row.steps} ({row.verified:g} verified)"


def markdown(rows: Sequence[Row], target: float | None = None) -> str:
    """Return the table; with a target, two columns tell when it was met."""
    heads: tuple[str, ...] = HEADS
    texts = [cells_of(row) for row in rows]
    if target is not None:
        heads = (*heads, f"reached {target:g} at", f"MiB until {target:g}")
        texts = [(*text, *_met(row)) for text, row in zip(texts, rows, strict=True)]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(text)} |" for text in texts]
    return "\n".join(lines) + "\n"


def _met(row: Row) -> tuple[str, str]:
    if row.reached is None or row.reached_mebibytes is None:
        return "–", "–"
    return f"{row.reached:g}", f"{row.reached_mebibytes:,.1f}"


def as_csv(rows: Sequence[Row]) -> str:
    """Return the table as CSV, every figure in full."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [item.name for item in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def plot(records: Sequence[Record], path: Path) -> None:
    """Draw macro AUC by epoch (central) and by round (federated), a panel each."""
    from matplotlib.figure import Figure

    panels = [
        ("epoch", [r for r in records if r["mode"] == CENTRAL]),
        ("round", [r for r in records if r["mode"] != CENTRAL]),
    ]
    panels = [(what, mine) for what, mine in panels if mine]
    drawing = Figure(figsize=(5.4 * len(panels), 3.8), layout="constrained")
    axes_of = drawing.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (what, mine) in zip(axes_of, panels, strict=True):
        for record in mine:
            key = "macro_auc" if record["evaluation"] else "federated_auc"
            points = [p for p in record["curve"] if p.get(key) is not None]
            axes.plot([p["at"] for p in points], [p[key] for p in points], "o-",
                      markersize=3, label=record["name"])  # fmt: skip
        axes.axhline(0.5, color="#999999", linewidth=0.8, linestyle=":")
        axes.set(xlabel=what, ylabel="macro AUC")
        axes.legend(frameon=False, fontsize="x-small", loc="best")
        axes.spines[["top", "right"]].set_visible(False)
    save_svg(drawing, path)
