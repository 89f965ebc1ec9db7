"""``thoracle privacy``: what a run would spend, before it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ledger.console import JsonFlag, emit_json, out
from ledger.statement import Unit

if TYPE_CHECKING:
    from client.privacy_plan import PrivacyPlan

app = typer.Typer(
    help="Plan differential privacy before anything is trained.", no_args_is_help=True
)


@app.callback()
def _group() -> None:
    """Plan differential privacy before anything is trained."""


def _record(made: PrivacyPlan, spent: list[float], tight: float) -> dict[str, object]:
    """Return a plan in plain numbers, and apart from them the integers that stand on the chain."""
    return {
        "unit": made.unit.name.lower(),
        "noise_multiplier": made.noise_multiplier / 10**6,
        "sample_rate_per_step": made.sample_rate / 10**9,
        "steps_per_round": made.steps,
        "rounds": made.rounds,
        "delta": made.delta / 10**12,
        "epsilon_by_round": spent,
        "epsilon_pld_for_information": tight,
        "on_chain": {
            "noise_multiplier_in_1e-6": made.noise_multiplier,
            "sample_rate_in_1e-9": made.sample_rate,
            "delta_in_1e-12": made.delta,
        },
    }


@app.command()
def plan(
    epsilon: Annotated[float, typer.Option(help="Budget of the whole run.")] = 8.0,
    delta: Annotated[float, typer.Option(help="Of the guarantee.")] = 1e-5,
    rounds: Annotated[int, typer.Option(help="Federated rounds.")] = 3,
    sample_rate: Annotated[
        float, typer.Option(help="Probability that a patient is drawn in a step.")
    ] = 0.1,
    steps: Annotated[int, typer.Option(help="Private steps a round.")] = 20,
    unit: Annotated[str, typer.Option(help="patient or image: whom it protects.")] = "patient",
    patients: Annotated[
        int, typer.Option(help="Patients of a hospital, to show its expected batch (0: do not).")
    ] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Show noise multiplier, sample rate, steps and epsilon by round.

    The noise is the least with which the whole run stays within the target, by the canonical
    accountant (Rényi divergences at fixed integer orders). A tighter number, from privacy-loss
    distributions, is shown beside it and binds nobody.

    Example: thoracle privacy plan --epsilon 8 --rounds 20 --sample-rate 0.05 --steps 20
    """
    from client.privacy_plan import plan_noise
    from ledger.errors import ConfigError
    from simulation.pld import pld_epsilon

    if unit not in {"patient", "image"}:
        raise ConfigError("unit must be patient or image")
    made = plan_noise(
        epsilon=epsilon, delta=delta, sample_rate=sample_rate, steps=steps, rounds=rounds,
        unit=Unit[unit.upper()],
    )  # fmt: skip
    spent = [made.epsilon(number) for number in range(1, rounds + 1)]
    tight = pld_epsilon(made.release(rounds), delta)
    if as_json:
        emit_json(_record(made, spent, tight))
        return
    out.print(
        f"Each {unit}: noise multiplier {made.noise_multiplier / 1e6:.4f}, sample rate"
        f" {sample_rate:g}, {steps} steps a round, delta {delta:g}"
    )
    if patients:
        out.print(f"Expected batch at {patients:,} patients: {patients * sample_rate:.0f} a step")
    table = Table()
    table.add_column("round", justify="right")
    table.add_column(f"epsilon per {unit}", justify="right")
    shown = (
        range(1, rounds + 1) if rounds <= 20 else [*range(1, 11), *range(20, rounds, 10), rounds]
    )
    for number in shown:
        table.add_row(str(number), f"{spent[number - 1]:.4f}")
    out.print(table)
    out.print(f"[dim]PLD accountant (information only): {tight:.4f} after {rounds} rounds[/]")
    out.print(
        "[dim]A patient known to two hospitals is protected by each on its own: the two epsilons"
        " add up.[/]"
    )
