"""``thoracle simulate``: a whole federation on one machine, audited."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.table import Table

from ledger.console import JsonFlag, emit_json, out
from ledger.errors import ConfigError
from simulation.settings import parse_epsilon, read_config, settings_from

if TYPE_CHECKING:
    from server.results import RoundResult

Option = typer.Option


def simulate(
    folder: Annotated[
        Path | None, Option("--out", help="Run folder to make, e.g. runs/first.")
    ] = None,
    again: Annotated[
        Path | None, Option("--resume", help="Go on with this run, from where it stopped.")
    ] = None,
    config: Annotated[Path | None, Option(help="TOML file of settings; flags override it.")] = None,
    data: Annotated[
        str | None, Option(help="Folder of radiographs (several: a,b), or 'phantoms'.")
    ] = None,
    test: Annotated[
        str | None, Option(help="Folder to score centrally on; default: the data's test list.")
    ] = None,
    findings: Annotated[
        str | None,
        Option(help="nih (its 14), union (all that any source labels), or abnormal (any at all)."),
    ] = None,
    uncertain: Annotated[
        str | None,
        Option(help="Uncertain labels: ignore, zeros, ones, multiclass, selftrained, smooth-ones."),
    ] = None,
    patients: Annotated[int | None, Option(help="Phantom patients to draw.")] = None,
    hospitals: Annotated[int | None, Option(help="How many hospitals train together.")] = None,
    rounds: Annotated[int | None, Option(help="Federated rounds, over all phases.")] = None,
    partition: Annotated[
        str | None,
        Option(help="iid, silos, source, dirichlet:ALPHA, quantity:ALPHA, feature:STRENGTH."),
    ] = None,
    learner: Annotated[
        str | None,
        Option(help="Model family: ssganvit (default), vit, cnn and others (docs/learners.md)."),
    ] = None,
    size: Annotated[int | None, Option(help="Pixels a side the model sees.")] = None,
    epochs: Annotated[int | None, Option(help="Without privacy: local passes a round.")] = None,
    batch_size: Annotated[int | None, Option(help="Images a step.")] = None,
    learning_rate: Annotated[
        float | None, Option(help="At its peak; default: what suits the learner's phase.")
    ] = None,
    aggregation: Annotated[
        str | None, Option(help="mean, the weighted one: robust means are another sum.")
    ] = None,
    epsilon: Annotated[
        str | None,
        Option(help="Privacy budget of the whole run for each patient (default 8), or 'off'."),
    ] = None,
    delta: Annotated[float | None, Option(help="Of the privacy guarantee.")] = None,
    sample_rate: Annotated[
        float | None, Option(help="Chance of each patient to be drawn in a private step.")
    ] = None,
    steps: Annotated[int | None, Option(help="Private steps a round.")] = None,
    public: Annotated[
        str | None,
        Option("--warm-start", help="Start from public data: 'phantoms' or a public folder."),
    ] = None,
    seed: Annotated[
        int | None, Option(help="Fixes data split, initial model and training.")
    ] = None,
    cpus: Annotated[int | None, Option(help="Processors to use; 0 takes all.")] = None,
    chain: Annotated[
        str | None, Option(help="'anvil' for a managed local node, or an RPC URL.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Train several hospitals together on one machine, every step on a real local chain.

    Prints a line a round and where everything lies. Audit the run afterwards with
    'thoracle audit verify RUN'.

    A learner of phases divides the rounds among them: ssganvit trains 3 rounds as
    one adversarial, one self-supervised and one supervised, a single round as
    supervised alone. Findings are told, and scored, in supervised rounds. Tables
    'phases' of --config divide the rounds otherwise; epsilon covers them all.

    Training is private unless told otherwise: epsilon 8 for each patient over the
    whole run. A private model learns little from few patients ('--warm-start',
    more patients); on public images and phantoms, which need no protection, say
    '--epsilon off'.

    Example: thoracle simulate --data phantoms --epsilon off --out runs/first
    """
    flags: dict[str, Any] = {
        "data": data, "test": test, "findings": findings, "uncertain": uncertain,
        "patients": patients, "hospitals": hospitals,
        "rounds": rounds, "partition": partition, "learner": learner, "size": size,
        "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate,
        "epsilon": None if epsilon is None else parse_epsilon(epsilon), "delta": delta,
        "sample_rate": sample_rate, "steps": steps, "warm_start": public,
        "aggregation": aggregation, "seed": seed, "cpus": cpus, "chain": chain,
    }  # fmt: skip
    given = {name: value for name, value in flags.items() if value is not None}
    if (folder is None) == (again is None):
        raise ConfigError("give either --out, a folder to make, or --resume, a run to go on with")
    if again is not None and (given or config):
        raise ConfigError("--resume goes on with the run's own settings; give no others")
    if config is not None and not config.is_file():
        raise ConfigError(f"there is no configuration file {config}")
    settings = settings_from({**(read_config(config) if config else {}), **given})

    from simulation import run  # brings torch and Flower: only once all is checked
    from simulation.planning import learner_of
    from simulation.progress import Steps
    from simulation.report import announced_phases, round_line, run_record, run_table

    shown = Steps(quiet=as_json)

    def heard(result: RoundResult, auc: float | None) -> None:
        shown.say(round_line(result, auc))

    if again is not None:
        report = run.resume(again, steps=shown, on_round=heard)
    else:
        if phases := announced_phases(settings, learner_of(settings)):
            shown.say(phases)
        report = run.simulate(settings, cast("Path", folder), steps=shown, on_round=heard)
    if as_json:
        emit_json(run_record(report))
        return
    table: Table = run_table(report)
    out.print(table)
    out.print(f"Run folder: {report.folder}")
    out.print(f"Audit it:   thoracle audit verify {report.folder}")
    out.print(f"Budgets:    thoracle chain show {report.folder}")
