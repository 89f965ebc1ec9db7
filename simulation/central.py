"""Scores of each round's final model on the run's central test set."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from client.learners.registry import from_description
from ledger.files import atomic_write, read_bounded
from ledger.manifest import Manifest
from server.evaluate import TestSet, evaluate_model, read_model
from server.results import RoundResult
from simulation.run_record import Draft
from simulation.testset import read_test_set


class CentralScores:
    """Scores each final model on the run's central test set and keeps ``central.csv``."""

    def __init__(self, draft: Draft) -> None:
        path = draft.folder / "test.npz"
        self._test: TestSet | None = read_test_set(path) if path.is_file() else None
        self._folder = draft.folder
        self._learner = from_description(draft.learner.describe())
        self._manifest: Manifest = draft.manifest
        self._rows: list[dict[str, object]] = _read_rows(draft.folder / "central.csv")
        self.found: dict[int, float | None] = {}

    def score(self, result: RoundResult) -> float | None:
        """Return the macro AUC of the model after a round, and write its row.

        None without a test set, in a phase after which the findings mean nothing yet, and of a
        model whose parts stay at the hospitals: only they can score it.
        """
        return self._score(result.round, result.model, result.phase)

    def score_missed(self) -> None:
        """Score rounds that were reported, but whose score a crash prevented."""
        done = {row["round"] for row in self._rows}
        for row in _read_rows(self._folder / "metrics.csv"):
            number, model = int(str(row["round"])), bytes.fromhex(str(row["model"]))
            erased = not (self._folder / "models" / f"{model.hex()}.safetensors").is_file()
            if str(number) not in done and not erased:
                self._score(number, model, str(row.get("phase") or ""))

    def _score(self, number: int, model: bytes, phase: str) -> float | None:
        if self._test is None or self._learner.local or not self._scored(phase):
            return None
        path = self._folder / "models" / f"{model.hex()}.safetensors"
        found = evaluate_model(
            read_model(path, self._manifest), self._learner, self._test, resamples=0
        )
        within = {view: scores.macro_auc for view, scores in found.within.items()}
        self._rows = [row for row in self._rows if row["round"] != str(number)]
        self._rows.append(
            {
                "round": str(number),
                "model": model.hex(),
                "macro_auc": found.overall.macro_auc,
                "images": found.overall.images,
                "patients": found.patients,
                **{f"macro_auc_{view}": within.get(view) for view in ("AP", "PA")},
            }
        )
        self._rows.sort(key=lambda row: int(str(row["round"])))
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self._rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        atomic_write(self._folder / "central.csv", text.getvalue().encode())
        self.found[number] = found.overall.macro_auc
        return found.overall.macro_auc

    def _scored(self, phase: str) -> bool:
        return not phase or self._learner.phase(phase).scored


def _read_rows(path: Path) -> list[dict[str, object]]:
    """Return the rows of ``central.csv`` that an earlier process wrote."""
    if not path.is_file():
        return []
    return [dict(row) for row in csv.DictReader(read_bounded(path, 1 << 24).decode().splitlines())]
