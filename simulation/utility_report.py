"""Utility against epsilon as a table and a picture, from the kept files of a grid's runs.

``python -m simulation.utility_report RECORDS [--plot FILE.svg]`` prints Markdown; every figure is
read from the files that ``python -m simulation.utility`` kept, none is typed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ledger.canonical import parse_json
from ledger.console import run as run_command
from ledger.errors import DataError
from ledger.files import read_bounded
from simulation.figures import figure, save_svg

_LIMIT = 1 << 22
SCRATCH, PUBLIC = "from scratch", "warm start"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of the grid.

    Attributes:
        start: ``SCRATCH`` or ``PUBLIC``.
        epsilon: spent by each patient over the run; None without privacy.
        noise: multiplier; None without privacy.
        before: macro AUC of the initial model on the test patients.
        auc: of the final one, with ``low`` to ``high`` its 95 % interval over patients.
        within: of the final one within AP and within PA (None where undefined).
        rounds: that ended with a verified sum, of those planned.
    """

    start: str
    epsilon: float | None
    noise: float | None
    before: float
    auc: float
    low: float
    high: float
    within: tuple[float | None, float | None]
    rounds: tuple[int, int]


def read_cells(records: Path) -> tuple[Cell, ...]:
    """Return the runs whose files are there, without privacy first, then by falling epsilon.

    Raises:
        DataError: none is there, or a file is not what a run keeps.
    """
    folders = [path.parent for path in sorted(records.glob("*/evaluate.json"))]
    if not folders:
        raise DataError(f"no run of a grid has kept its files in {records}")
    try:
        cells = [_cell(folder) for folder in folders]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"a run's kept files cannot be read: {error!r}") from None
    rank = {SCRATCH: 0, PUBLIC: 1}
    return tuple(sorted(cells, key=lambda c: (rank[c.start], -(c.epsilon or 1e9))))


def _json(path: Path) -> dict[str, Any]:
    found = parse_json(read_bounded(path, _LIMIT), _LIMIT)
    if not isinstance(found, dict):
        raise TypeError(path.name)
    return found


def _cell(folder: Path) -> Cell:
    run, last = _json(folder / "run.json"), _json(folder / "evaluate.json")
    privacy, interval = run["privacy"], last["macro_auc_interval"]
    lines = read_bounded(folder / "metrics.csv", _LIMIT).decode().splitlines()[1:]
    within = (last["within_view"].get(view, {}).get("macro_auc") for view in ("AP", "PA"))
    return Cell(
        start=PUBLIC if run["warm_start"] else SCRATCH,
        epsilon=privacy["epsilon_by_round"][-1] if privacy else None,
        noise=privacy["noise_multiplier"] / 10**6 if privacy else None,
        before=_json(folder / "evaluate-initial.json")["overall"]["macro_auc"],
        auc=last["overall"]["macro_auc"],
        low=interval["low"],
        high=interval["high"],
        within=(next(within), next(within)),
        rounds=(sum("SUM_VERIFIED" in line for line in lines), run["config"]["rounds"]),
    )


def markdown(cells: tuple[Cell, ...]) -> str:
    """Return the table."""
    head = ("start", "epsilon", "noise multiplier", "rounds verified", "test AUC before",
            "test AUC after", "95 % interval", "AP only", "PA only")  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for cell in cells:
        row = (
            cell.start,
            "none" if cell.epsilon is None else f"{cell.epsilon:.2f}",
            figure(cell.noise, 2),
            f"{cell.rounds[0]} of {cell.rounds[1]}",
            figure(cell.before),
            figure(cell.auc),
            f"{cell.low:.3f} to {cell.high:.3f}",
            *map(figure, cell.within),
        )
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def plot(cells: tuple[Cell, ...], path: Path) -> None:
    """Draw AUC with its interval against epsilon, a line for each start."""
    from matplotlib.figure import Figure

    names = ["none" if e is None else f"{e:.0f}" for e in _epsilons(cells)]
    drawing = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = drawing.add_subplot()
    for start, colour, shift in ((SCRATCH, "#1f6f8b", -0.06), (PUBLIC, "#c8553d", 0.06)):
        mine = [cell for cell in cells if cell.start == start]
        if not mine:
            continue
        at = [_epsilons(cells).index(cell.epsilon) + shift for cell in mine]
        spread = (
            [cell.auc - cell.low for cell in mine],
            [cell.high - cell.auc for cell in mine],
        )
        axes.errorbar(
            at, [cell.auc for cell in mine], spread, fmt="o-", capsize=3, label=start,
            color=colour,
        )  # fmt: skip
        axes.axhline(
            mine[0].before, color=colour, linewidth=0.8, linestyle=":",
            label=f"{start}, before any round",
        )  # fmt: skip
    axes.set(
        xlabel="epsilon for each patient, over the whole run", ylabel="test macro AUC",
        xticks=range(len(names)), xticklabels=names,
    )  # fmt: skip
    axes.legend(frameon=False, loc="best", fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    save_svg(drawing, path)


def _epsilons(cells: tuple[Cell, ...]) -> list[float | None]:
    known = {cell.epsilon for cell in cells if cell.epsilon is not None}
    return [None, *sorted(known, reverse=True)]


def main(
    records: Annotated[Path, typer.Argument(help="Folder of the kept files.")],
    picture: Annotated[Path | None, typer.Option("--plot", help="SVG file to write.")] = None,
) -> None:
    """Print the table of a grid's runs, and draw it.

    Example: python -m simulation.utility_report docs/runs/utility --plot docs/img/utility.svg
    """
    from ledger.console import out

    cells = read_cells(records)
    out.print(markdown(cells), markup=False, soft_wrap=True)
    if picture is not None:
        plot(cells, picture)


if __name__ == "__main__":
    run_command(lambda: typer.run(main))
