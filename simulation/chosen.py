"""Which model of a run is meant, and what the run says of it."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.data.records import FINDINGS
from ledger.canonical import parse_json
from ledger.errors import ConfigError, DataError, EvidenceMismatch, EvidenceMissing
from ledger.files import read_bounded
from ledger.manifest import Manifest
from ledger.statement import Outcome

if TYPE_CHECKING:
    from client.data.pipeline import Preprocessing
    from client.learners.interface import Learner

MAX_RUN_BYTES = 1 << 24
MAX_METRICS_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The model to score, and what the run says about it.

    Args:
        path: ``models/<digest>.safetensors``.
        run: the run folder.
        learner: the family's name and options.
        manifest: the model's tensors.
        findings: what the model tells, in its outputs' order.
        films: how the run preprocessed its films, beside their size.
    """

    path: Path
    run: Path
    learner: dict[str, object]
    manifest: Manifest
    findings: tuple[str, ...]
    films: dict[str, Any]

    def preprocessing(self, size: int) -> Preprocessing:
        """Return how films are prepared for the model: at ``size`` pixels, else as in its run.

        Raises:
            EvidenceMismatch: the run's record asks for steps that there are not.
        """
        from client.data.pipeline import Preprocessing

        try:
            return Preprocessing(size=size, **self.films)
        except (TypeError, ConfigError) as error:
            raise EvidenceMismatch(
                f"the run's record of its preprocessing cannot be used: {error}"
            ) from None


def choose(target: Path, number: int | None = None) -> Chosen:
    """Find model, learner and manifest of a run folder or of a model file in one.

    Raises:
        DataError: there is neither at ``target``, or the run has no such round.
        EvidenceMismatch: the run's records cannot be read.
    """
    if target.is_file():
        if number is not None:
            raise ConfigError("--round chooses a model of a run folder; a model file was given")
        run, path = target.absolute().parent.parent, target
    elif target.is_dir():
        run, path = target, None
    else:
        raise DataError(f"there is no run folder or model file {target}")
    if not (run / "run.json").is_file():
        raise DataError(f"{target} is no run folder, nor a file in the models/ of one")
    record = parse_json(read_bounded(run / "run.json", MAX_RUN_BYTES), MAX_RUN_BYTES)
    learner = record.get("learner") if isinstance(record, dict) else None
    if not isinstance(record, dict) or not isinstance(learner, dict):
        raise EvidenceMismatch(f"{run / 'run.json'} does not name the run's learner")
    if path is None:
        digest = _digest_after(run, number, str(record.get("initial_model", "")))
        path = run / "models" / f"{digest}.safetensors"
    manifest = Manifest.from_json(record.get("manifest"))
    findings = tuple(str(name) for name in record.get("findings", FINDINGS))
    settings = record.get("config")
    films = settings.get("preprocess_options", {}) if isinstance(settings, dict) else {}
    return Chosen(
        path=path, run=run, learner=learner, manifest=manifest, findings=findings, films=films
    )


def refuse_parts(learner: Learner) -> None:
    """Refuse a learner whose models are not whole outside the hospitals.

    Raises:
        ConfigError: parts of its models stay at the hospitals; here they would be as untrained.
    """
    if learner.local_tensors(learner.build(0)):
        raise ConfigError(
            "each hospital keeps parts of this model for itself; only there is it whole"
        )


def last_models(run: Path, count: int) -> tuple[bytes, ...]:
    """Return the digests of the models of the last ``count`` verified rounds of the last phase.

    In the order of their rounds. Models of other phases are not among them: what they were trained
    for is something else.

    Raises:
        DataError: the phase has not as many.
        EvidenceMismatch: the run's table of rounds cannot be read.
    """
    rows = [row for row in _rounds(run) if row.get("outcome") == Outcome.SUM_VERIFIED.name]
    phase = rows[-1].get("phase", "") if rows else ""
    found = [row["model"] for row in rows if row.get("phase", "") == phase]
    if count > len(found):
        named = f" of the phase {phase}" if phase else ""
        raise DataError(
            f"{count} models are to be averaged; the run {run.name} has {len(found)} verified"
            f" rounds{named}"
        )
    try:
        return tuple(bytes.fromhex(digest) for digest in found[-count:])
    except ValueError:
        raise _no_table(run) from None


def _digest_after(run: Path, number: int | None, initial: str) -> str:
    if number == 0:
        return initial
    models = {int(row["round"]): row["model"] for row in _rounds(run)}
    wanted = max(models, default=None) if number is None else number
    if wanted is None or wanted not in models:
        which = "a finished round" if number is None else f"a round {number}"
        raise DataError(f"the run {run.name} does not have {which}")
    return models[wanted]


def _rounds(run: Path) -> list[dict[str, str]]:
    """Return the rows of the run's table of rounds, each with a whole round and a model."""
    try:
        text = read_bounded(run / "metrics.csv", MAX_METRICS_BYTES).decode()
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        if all(int(row["round"]) >= 0 and row["model"] for row in rows):
            return rows
    except EvidenceMissing:
        return []
    except (ValueError, KeyError, TypeError, csv.Error):
        pass
    raise _no_table(run)


def _no_table(run: Path) -> EvidenceMismatch:
    return EvidenceMismatch(f"{run / 'metrics.csv'} is not a run's table of rounds")
