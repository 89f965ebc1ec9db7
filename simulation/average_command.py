"""``thoracle average``: the mean of a run's last models, as one more model of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ledger.console import JsonFlag, emit_json, out


def average(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    last: Annotated[
        int, typer.Option(help="How many of the last phase's models, from its end.", min=2, max=512)
    ] = 5,
    trust: Annotated[
        Path | None, typer.Option(help="The federation's anchors, from outside the run.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Average the models of a run's last verified rounds, and keep the mean beside them.

    Where rounds have levelled off the mean may rank better than the last model alone; where they
    still rise it ranks worse (figures in docs/results.md): score both. It is computed from models
    that the ledger names as final, and predict, explain and export compute it again before they use
    it; it costs no privacy. Nothing is trained.

    Example: thoracle average runs/first --last 5
    """
    from client.learners.registry import from_description
    from ledger.run_facts import read_anchors
    from server.evaluate import MODEL_SUFFIX
    from simulation.averaging import Average, write_average
    from simulation.chosen import choose, last_models, refuse_parts
    from simulation.provenance import Known

    chosen = choose(run)
    refuse_parts(from_description(chosen.learner))
    of = last_models(chosen.run, last)
    known = Known(chosen.run, read_anchors(trust) if trust else None)
    rounds = [part.round for part in known.in_a_row(of)]
    path = write_average(chosen.run, Average(of=of), chosen.manifest)
    if as_json:
        emit_json(
            {
                "model": path.name.removesuffix(MODEL_SUFFIX),
                "file": str(path),
                "rounds": rounds,
                "of": [digest.hex() for digest in of],
            }
        )
        return
    named = ", ".join(str(number) for number in rounds)
    out.print(f"Mean of the models of rounds {named}: {path}", markup=False, soft_wrap=True)
    out.print(f"Score it: thoracle evaluate {path}", markup=False, soft_wrap=True)
