"""``thoracle export``: a final model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ledger.console import JsonFlag, emit_json, out
from ledger.errors import ConfigError


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
    from client.learners.platt import Line
    from simulation.export import export_onnx
    from simulation.predict import calibration_of, open_final

    final = open_final(model, trust)
    chosen = final.chosen
    kept = calibration_of(chosen, final.learner, final.module)
    about = {
        "model": chosen.path.stem,
        "federation": final.origin.federation,
        "round": final.origin.round,
        "averaged": list(final.origin.averaged),
        "findings": list(chosen.findings),
        "preprocessing": final.films.config(),
        "thresholds": [point.threshold for point in kept.points] if kept else None,
        "calibrated": kept is not None,
    }
    lines = kept.lines if kept else tuple(Line() for _ in chosen.findings)
    difference = export_onnx(final.learner, final.module, lines, onnx, about)
    if as_json:
        emit_json({**about, "file": str(onnx), "largest_difference": difference})
        return
    out.print(f"Written: {onnx} ({onnx.stat().st_size / 2**20:.1f} MiB)", markup=False)
    out.print(f"Largest difference of a probability from torch: {difference:.1e}")
