"""Flower's apps of a simulated federation, bound to one run folder.

Under ``run_simulation`` Flower gives the apps no run configuration, so the run folder is bound
here and handed on through the same setting that ``flwr run`` gives.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from flwr.app import Context, Message
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from client.app import answer
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


def client_app(run: Path, hospital_timeout: float) -> ClientApp:
    """Return the hospitals' app of one run folder."""
    app = ClientApp()
    bound: UserConfig = {"run": str(run), "hospital-timeout": float(hospital_timeout)}

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return answer(message, bind(context, bound), "train")

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return answer(message, bind(context, bound), "evaluate")

    return app


def bind(context: Context, bound: UserConfig) -> Context:
    """Return the context with further run settings."""
    return Context(
        run_id=context.run_id,
        node_id=context.node_id,
        node_config=context.node_config,
        state=context.state,
        run_config={**context.run_config, **bound},
    )


def server_app(
    run: Path, on_round: Callable[[RoundResult], None], exchange_timeout: float
) -> ServerApp:
    """Return the coordinator's app of one run folder; ``on_round`` hears of each round."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:  # noqa: ARG001 - Flower's signature
        run_rounds(grid, run, exchange_timeout, on_round)

    return app
