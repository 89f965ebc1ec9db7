"""One cell of a bench made, and what is kept of it: one JSON file.

A central cell is trained here (``simulation.compare_central``); a federated one is a run folder,
which goes on from its round.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ledger.errors import DataError
from ledger.statement import Outcome
from server.evaluate import TestSet, evaluate_model, read_model
from simulation.cohorts import Cohorts, Shares, gather
from simulation.compare import CENTRAL, FORMAT, Cell, versions
from simulation.compare_central import RESAMPLES, Point, train_centrally
from simulation.figures import table_rows
from simulation.planning import learner_of
from simulation.progress import Steps
from simulation.stratify import stratified_split
from simulation.testset import read_test_set
from simulation.utility import GridRun, make


def gather_cell(cell: Cell, scratch: Path) -> Cohorts:
    """Load a cell's data, held-back patients of a central cell stratified by finding.

    Raises:
        DataError: the data cannot be used, or have no test list to score on.
    """
    settings = cell.settings
    if cell.mode == CENTRAL:
        settings = replace(settings, hospitals=1, partition="iid")
    found = gather(settings, scratch)
    if found.test is None:
        raise DataError("a bench needs a test list: give settings.test, or data that have one")
    if cell.mode == CENTRAL:
        kept, held = stratified_split(found.train, settings.held_back, settings.seed)
        found = replace(found, hospitals=(Shares(train=kept, held=held),))
    return found


def data_digests(cohorts: Cohorts) -> dict[str, str]:
    """Return the digests of the records that a cell trains and is scored on."""
    test = cohorts.test.digest().hex() if cohorts.test is not None else ""
    return {"train": cohorts.train.digest().hex(), "test": test}


def run_cell(
    cell: Cell, cohorts: Cohorts, digest: str, folder: Path, steps: Steps
) -> dict[str, object]:
    """Make one cell, or go on with it, and return what is kept of it.

    Args:
        cell: which.
        cohorts: its data.
        digest: of the cell.
        folder: its own; holds what a stopped one goes on from.
        steps: says how far it is.
    """
    about: dict[str, object] = {
        "format": FORMAT,
        "digest": digest,
        "name": cell.name,
        "mode": cell.mode,
        "variant": cell.variant,
        "settings": cell.told(),
        "data": data_digests(cohorts),
        "versions": versions(),
    }
    work = train_centrally if cell.mode == CENTRAL else _federated
    return {**about, **work(cell, cohorts, folder, steps)}


def _federated(cell: Cell, cohorts: Cohorts, folder: Path, steps: Steps) -> dict[str, object]:
    from simulation.chosen import choose

    steps.say(f"  {cell.name}: a whole audited run in {folder}")
    make(GridRun(name=cell.name, settings=cell.settings), folder)
    chosen, learner = choose(folder), learner_of(cell.settings, cohorts.train.vocabulary)
    rows = table_rows(folder / "metrics.csv")
    verified = sum(row["outcome"] == Outcome.SUM_VERIFIED.name for row in rows)
    if not verified:
        # Its model is the initial one: a score of it would look like a training's.
        raise DataError(
            f"no round of {cell.name} was verified, so there is nothing to score: its logs in"
            f" {folder} say why; delete that folder to begin the cell anew"
        )
    central = {row["round"]: row for row in table_rows(folder / "central.csv")}
    points: list[Point] = []
    seconds = moved = 0.0
    for row in rows:
        seconds += float(row["seconds"])
        moved += int(row["bytes_up"]) + int(row["bytes_down"])
        scored = central.get(row["round"], {})
        points.append(
            {
                "at": int(row["round"]),
                **{
                    n: _number(scored.get(n)) for n in ("macro_auc", "macro_auc_AP", "macro_auc_PA")
                },
                "federated_auc": _number(row.get("metric_auc")),
                "seconds": seconds,
                "bytes": int(moved),
            }
        )
    module = learner.build(0)
    found: dict[str, object] = {"evaluation": None}
    if not learner.local:  # what a hospital keeps for itself nobody else can score
        model = read_model(chosen.path, chosen.manifest)
        test: TestSet = read_test_set(folder / "test.npz")
        found = _scores(evaluate_model(model, learner, test, resamples=RESAMPLES))
    return {
        **found,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "images": sum(len(share.train) for share in cohorts.hospitals),
        "curve": points,
        "verified": verified,
        "seconds": seconds,
        "bytes": int(moved),
        "model": chosen.path.stem,
    }


def _scores(found: Any) -> dict[str, object]:
    return {"evaluation": found.to_record()}


def _number(text: str | None) -> float | None:
    return float(text) if text else None
