"""Utility against epsilon: a grid of whole, audited runs, one after the other.

``python -m simulation.utility GRID.toml --data DIR --out RUNS --records DIR`` makes what is missing
of the grid and may be stopped and started again: a finished run is left alone, an interrupted one
goes on. Of each run the small files are kept in ``--records``, from which
``python -m simulation.utility_report`` makes the table and the picture.

A grid file has ``[settings]`` of every run, ``[private]`` and ``[off]`` with what differs between
runs with and without privacy, ``[grid]`` with lists of values of any settings, ``epsilon`` among
them (the runs are all their combinations), and any number of ``[[override]]``: where all of
``when`` holds, ``set`` applies.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ledger.canonical import canonical_json
from ledger.console import run as run_command
from ledger.errors import ConfigError
from ledger.files import atomic_write
from simulation.grid import combinations, overrides, section, word
from simulation.phantoms import write_phantoms
from simulation.settings import PHANTOMS, Settings, parse_epsilon, read_config, settings_from

TABLES = ("settings", "private", "off", "grid", "override")
KEPT = ("run.json", "metrics.csv", "central.csv")
PUBLIC_SEED = 1_000_003
"""Public phantoms are drawn once for the whole grid: other patients than anybody's own."""


@dataclass(frozen=True, kw_only=True)
class GridRun:
    """One cell of a grid: a name that tells its values, and its settings."""

    name: str
    settings: Settings


def read_grid(path: Path, data: str) -> tuple[GridRun, ...]:
    """Return the runs of a grid file, in its order.

    Args:
        path: TOML, as the module describes.
        data: the radiographs, for ``settings.data``.

    Raises:
        ConfigError: another table than these, no lists to combine, or a wrong setting.
    """
    tables = read_config(path)
    if set(tables) - set(TABLES):
        raise ConfigError(f"a grid file holds {', '.join(TABLES)}, nothing else")
    runs = []
    for chosen in combinations(tables):
        merged = {**section(tables, "settings"), **chosen}
        epsilon = merged.get("epsilon", Settings.epsilon)
        off = epsilon == 0 or not parse_epsilon(str(epsilon))
        merged = {**merged, **section(tables, "off" if off else "private"), **chosen}
        for values in overrides(tables, chosen):
            merged.update(values)
        name = "_".join(f"{key}-{word(value)}" for key, value in chosen.items())
        runs.append(GridRun(name=name, settings=settings_from({**merged, "data": data})))
    return tuple(runs)


def shared_public(run: GridRun, runs: Path, patients: int) -> GridRun:
    """Return the run with its public phantoms drawn once for the whole grid, as a folder."""
    settings = run.settings
    if settings.warm_start != PHANTOMS:
        return run
    public = runs / "public-phantoms"
    if not public.is_dir():
        write_phantoms(public, patients, PUBLIC_SEED, size=settings.size, test_share=0.0)
    changed = settings_from({**settings.to_dict(), "warm_start": str(public)})
    return GridRun(name=run.name, settings=changed)


def make(run: GridRun, folder: Path) -> None:
    """Make one run, or go on with it; nothing is done where it is finished.

    Raises:
        ThoracleError: whatever ended the run.
    """
    from simulation.progress import Steps
    from simulation.report import round_line
    from simulation.run import resume, simulate

    if _rounds_done(folder) >= run.settings.rounds:
        return
    steps = Steps()
    if (folder / "coordinator.json").is_file():
        resume(folder, steps=steps, on_round=lambda *seen: steps.say(round_line(*seen)))
        return
    shutil.rmtree(folder, ignore_errors=True)  # a preparation that never finished
    simulate(run.settings, folder, steps=steps, on_round=lambda *seen: steps.say(round_line(*seen)))


def _rounds_done(folder: Path) -> int:
    """Return how many rounds a run has exported; 0 where it has to go on."""
    table = folder / "metrics.csv"
    if not table.is_file() or not (folder / "chain" / "bundle.json").is_file():
        return 0
    return len(table.read_text().splitlines()) - 1


def keep_records(folder: Path, records: Path, resamples: int) -> None:
    """Keep a run's small files, and its first and last model's scores with intervals.

    Raises:
        DataError: the run has no test set of its own, or no finished round.
    """
    from client.learners.registry import from_description
    from server.evaluate import evaluate_model, read_model
    from simulation.chosen import choose
    from simulation.testset import read_test_set

    test = read_test_set(folder / "test.npz")
    for name in KEPT:
        atomic_write(records / name, (folder / name).read_bytes())
    for name, number in (("evaluate-initial.json", 0), ("evaluate.json", None)):
        chosen = choose(folder, number)
        found = evaluate_model(
            read_model(chosen.path, chosen.manifest),
            from_description(chosen.learner),
            test,
            resamples=resamples,
        )
        about = {"model": chosen.path.stem, "learner": chosen.learner}
        atomic_write(records / name, canonical_json({**about, **found.to_record()}))


def main(
    grid: Annotated[Path, typer.Argument(help="TOML file of the grid.")],
    data: Annotated[str, typer.Option(help="Folder of radiographs with a test list.")],
    out: Annotated[Path, typer.Option(help="Folder of the run folders.")],
    records: Annotated[Path, typer.Option(help="Folder of the small files to keep.")],
    public_patients: Annotated[int, typer.Option(help="Public phantom patients to draw.")] = 700,
    resamples: Annotated[int, typer.Option(help="Patient bootstrap resamples.")] = 1000,
) -> None:
    """Make what is missing of a grid of runs, and keep each run's small files.

    Example: python -m simulation.utility simulation/utility.toml --data DIR --out runs/utility
    --records docs/runs/utility
    """
    from ledger.console import out as console

    runs = read_grid(grid, data)
    out.mkdir(parents=True, exist_ok=True)
    for number, run in enumerate(runs, 1):
        console.print(f"Run {number} of {len(runs)}: {run.name}", markup=False)
        if not (records / run.name / "evaluate.json").is_file():
            make(shared_public(run, out, public_patients), out / run.name)
            keep_records(out / run.name, records / run.name, resamples)


if __name__ == "__main__":
    run_command(lambda: typer.run(main))
