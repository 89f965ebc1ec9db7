"""The coordinator's Flower app, bound to one run folder, and the switches Flower and Ray need."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server.app import run_rounds
from server.results import RoundResult

OFFLINE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}
"""Switches that keep Flower and Ray from asking anything of the internet."""
EXCHANGE_SLACK = 60.0
"""Seconds an exchange may take beyond the hospitals' own limit, for queueing and transport."""


def go_offline() -> None:
    """Set every switch; call it before Flower or Ray start a process."""
    for name, value in OFFLINE.items():
        os.environ.setdefault(name, value)


def server_app(
    run: Path, on_round: Callable[[RoundResult], None], exchange_timeout: float
) -> ServerApp:
    """Return the coordinator's app of one run folder; ``on_round`` hears of each round."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:  # noqa: ARG001 - Flower's signature
        run_rounds(grid, run, exchange_timeout, on_round)

    return app
