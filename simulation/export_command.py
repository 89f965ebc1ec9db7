"""``thoracle export``: a final model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ledger.console import JsonFlag, emit_json, out
from ledger.errors import ConfigError
from simulation.evaluate_command import choose


def export(
    model: Annotated[
        Path, typer.Argument(metavar="RUN|MODEL", help="Run folder, or a file of its models/.")
    ],
    onnx: Annotated[Path | None, typer.Option(help="ONNX file to write.")] = None,
    trust: Annotated[
        Path | None, typer.Option(help="The federation's anchors (JSON) from outside the run.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a final model as ONNX, held against torch before it is written.

    The run's ledger record is audited first and must name the model as final; the file's metadata
    name model, round, federation, findings and preprocessing. Needs: pip install 'thoracle[onnx]'.

    Example: thoracle export runs/first --onnx first.onnx
    """
    if onnx is None:
        raise ConfigError("say what to write: --onnx FILE")
    from client.data.pipeline import Preprocessing
    from client.learners.platt import Line
    from ledger.run_facts import read_anchors
    from server.evaluate import digest_of
    from simulation.export import export_onnx
    from simulation.predict import calibration_of, open_model
    from simulation.provenance import provenance

    chosen = choose(model)
    origin = provenance(chosen.run, digest_of(chosen.path), read_anchors(trust) if trust else None)
    learner, module = open_model(chosen)
    kept = calibration_of(chosen, learner, module)
    about = {
        "model": chosen.path.stem,
        "federation": origin.federation,
        "round": origin.round,
        "findings": list(chosen.findings),
        "preprocessing": Preprocessing(size=learner.input_size, **chosen.films).config(),
        "thresholds": [point.threshold for point in kept.points] if kept else None,
        "calibrated": kept is not None,
    }
    lines = kept.lines if kept else tuple(Line() for _ in chosen.findings)
    difference = export_onnx(learner, module, lines, onnx, about)
    if as_json:
        emit_json({**about, "file": str(onnx), "largest_difference": difference})
        return
    out.print(f"Written: {onnx} ({onnx.stat().st_size / 2**20:.1f} MiB)", markup=False)
    out.print(f"Largest difference of a probability from torch: {difference:.1e}")
