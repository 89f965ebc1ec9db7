"""Flower's ServerApp: reads the run folder, runs its rounds.

Run configuration: ``run`` (the run folder, prepared beforehand) and, optionally,
``exchange-timeout``: seconds for one exchange with all hospitals. Rounds already closed on the
chain count, so starting the same run again goes on where it stopped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from ledger.errors import ConfigError
from ledger.statement import Phase
from server.home import open_coordinator
from server.rounds import Coordinator
from server.strategy import AuditedRounds, OnRound

TIMEOUT: Final = 3600.0

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run what is left of a run's rounds."""
    run, timeout = settings_of(context)
    run_rounds(grid, run, timeout)


def run_rounds(grid: Grid, run: Path, timeout: float, on_round: OnRound | None = None) -> None:
    """Run what is left of a prepared run's rounds over Flower.

    Args:
        grid: Flower's way to the hospitals.
        run: the run folder.
        timeout: seconds for one exchange with all hospitals.
        on_round: is told each round's result, and first those that nobody was told of before.
    """
    coordinator = open_coordinator(run)
    try:
        for missed in coordinator.catch_up():
            if on_round is not None:
                on_round(missed)
        left = rounds_left(coordinator)
        if left:
            strategy = AuditedRounds(
                coordinator, hospitals=count_hospitals(coordinator), on_round=on_round
            )
            # The model is on the chain and in the run folder; Flower has no arrays to carry.
            strategy.start(grid, ArrayRecord(), num_rounds=left, timeout=timeout)
    finally:
        coordinator.store.close()
        coordinator.ledger.close()


def rounds_left(coordinator: Coordinator) -> int:
    """Return how many rounds of the plan are not closed yet (a live one counts as left)."""
    state = coordinator.ledger.round()
    closed = state.number if state.phase is Phase.IDLE else state.number - 1
    return max(0, coordinator.plan.rounds - closed)


def count_hospitals(coordinator: Coordinator) -> int:
    """Return how many hospitals may take part in the next (or the live) round, at least 1."""
    ledger = coordinator.ledger
    state = ledger.round()
    number = state.number + (state.phase is Phase.IDLE)
    return max(1, sum(ledger.member(seat).active_in(number) for seat in ledger.seats()))


def settings_of(context: Context) -> tuple[Path, float]:
    """Return the run folder and the timeout of an exchange in seconds.

    Raises:
        ConfigError: the run is not named or not there, or the timeout is not a positive number.
    """
    run = context.run_config.get("run")
    timeout = context.run_config.get("exchange-timeout", TIMEOUT)
    if not isinstance(run, str) or not run or not Path(run).is_dir():
        raise ConfigError("the run configuration does not name a run folder")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise ConfigError("exchange-timeout is not a number of seconds")
    return Path(run), float(timeout)
