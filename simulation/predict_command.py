"""``thoracle predict``: what a final model says of films, in calibrated probabilities."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.canonical import sha256
from ledger.console import JsonFlag, emit_json, out
from ledger.errors import ConfigError, DataError

if TYPE_CHECKING:
    from simulation.predict import Calibrated
    from simulation.provenance import Provenance

NOTE = "Research software, not a medical device: no diagnosis."


def predict(
    model: Annotated[
        Path, typer.Argument(metavar="RUN|MODEL", help="Run folder, or a file of its models/.")
    ],
    target: Annotated[
        Path,
        typer.Argument(metavar="IMAGE|DICOM|FOLDER", help="One film, or a folder of them."),
    ],
    trust: Annotated[
        Path | None, typer.Option(help="The federation's anchors (JSON) from outside the run.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="One line per film and finding.")] = False,
    threads: Annotated[int, typer.Option(help="Processors to use.", min=1)] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Tell each finding's probability on PNG, JPEG or DICOM films.

    Before use the run's ledger record is audited and must name the model as final. Probabilities
    are calibrated on the run's own test patients; 'above' is a decision at the threshold of best
    F1, whose sensitivity and specificity on other patients stand beside it.

    Example: thoracle predict runs/first film.png
    """
    if as_csv and as_json:
        raise ConfigError("give --csv or --json, not both")
    from client.learners.platt import Line, apply_lines
    from simulation.predict import calibration_of, films, open_final, read_films, scores_of

    paths = films(target)
    final = open_final(model, trust)
    findings = final.chosen.findings
    kept = calibration_of(final.chosen, final.learner, final.module, threads)
    pixels, refused = read_films(paths, final.films)
    if not len(pixels):
        raise DataError(f"no film can be read: {refused[0][1]}")
    scores = scores_of(final.learner, final.module, pixels, threads)
    lines = kept.lines if kept else tuple(Line() for _ in findings)
    said = apply_lines(scores, lines)
    bad = dict(refused)
    rows = iter(said.tolist())
    told = [
        {
            "film": str(path.relative_to(target) if target.is_dir() else path.name),
            **(
                {"error": bad[place]}
                if place in bad
                else {"findings": _told(next(rows), findings, kept)}
            ),
        }
        for place, path in enumerate(paths)
    ]
    about = about_model(final.chosen.path.stem, final.origin, kept)
    if as_json:
        emit_json({**about, "films": told})
    elif as_csv:
        sys.stdout.write(_csv(told))
    else:
        _print(about, told)


def _told(
    row: list[float], findings: tuple[str, ...], kept: Calibrated | None
) -> list[dict[str, object]]:
    found = []
    for place, (name, probability) in enumerate(zip(findings, row, strict=True)):
        entry: dict[str, object] = {
            "finding": name,
            "probability": probability,
            "calibrated": bool(kept and kept.lines[place].fitted),
        }
        if kept:
            point = kept.points[place]
            at = point.threshold
            entry |= {
                "threshold": at,
                "above": None if at is None else probability >= at,
                "sensitivity": point.sensitivity,
                "specificity": point.specificity,
                "positives": point.positives,
            }
        found.append(entry)
    return found


def about_model(model: str, origin: Provenance, kept: Calibrated | None) -> dict[str, object]:
    """Return what is told of the model itself, as JSON values."""
    return {
        "model": model,
        "federation": origin.federation,
        "round": origin.round,
        "averaged": list(origin.averaged),
        "outcome": origin.outcome,
        "latest": origin.latest,
        "anchored": origin.anchored,
        "note": NOTE,
        "calibration": None
        if kept is None
        else {
            "digest": sha256(kept.encode()).hex(),
            "patients": kept.patients,
            "images": kept.images,
            "brier_before": kept.brier[0],
            "brier_after": kept.brier[1],
            "ece_before": kept.ece[0],
            "ece_after": kept.ece[1],
        },
    }


_FIELDS = ("film", "finding", "probability", "calibrated", "threshold", "above", "sensitivity",
           "specificity", "positives", "error")  # fmt: skip


def _csv(told: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _FIELDS, restval="", lineterminator="\n")
    writer.writeheader()
    for film in told:
        if "error" in film:
            writer.writerow({"film": film["film"], "error": film["error"]})
        for entry in film.get("findings", ()):
            writer.writerow({"film": film["film"], **entry})
    return text.getvalue()


def print_model(about: dict[str, Any]) -> None:
    """Print what the ledger says of the model, and what it was calibrated on."""
    where = f"round {about['round']} ({about['outcome']})" if about["round"] else "before round 1"
    said = f"final on the ledger, {where}"
    if about["averaged"]:
        rounds = ", ".join(str(number) for number in about["averaged"])
        said = f"the mean, computed again, of models final on the ledger: rounds {rounds}"
    out.print(f"Model {about['model'][:16]}…: {said}.", markup=False)
    if not about["latest"]:
        out.print("A later model of this run is final, too.")
    if not about["anchored"]:
        out.print("The ledger record is consistent; give --trust to prove whose it is.")
    kept = about["calibration"]
    if kept is None:
        out.print("Not calibrated: the run has no test set of its own.")
    else:
        out.print(f"Calibrated on {kept['patients']:,} patients who trained nothing.")


def _print(about: dict[str, Any], told: list[dict[str, Any]]) -> None:
    print_model(about)
    for film in told:
        out.print(f"\n{film['film']}", markup=False, highlight=False)
        if "error" in film:
            out.print(f"  not read: {film['error']}", markup=False)
        for entry in sorted(film.get("findings", ()), key=lambda e: -e["probability"]):
            out.print(f"  {_line(entry)}", markup=False, highlight=False)
    out.print(f"\n{about['note']}")


def _line(entry: dict[str, Any]) -> str:
    text = f"{entry['finding']:<26} {entry['probability']:.3f}"
    if entry.get("threshold") is None:
        return text
    mark = "above" if entry["above"] else "below"
    text += f"  {mark} {entry['threshold']:.3f}"
    if entry["sensitivity"] is not None and entry["specificity"] is not None:
        text += f" (sensitivity {entry['sensitivity']:.2f}, specificity {entry['specificity']:.2f})"
    return text if entry["calibrated"] else f"{text}  not calibrated: too few positives"
