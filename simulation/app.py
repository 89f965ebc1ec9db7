"""The apps that ``flwr run . local`` starts: the same federation, with Flower at the wheel.

Settings come from the run configuration (``[tool.flwr.app.config]`` in ``pyproject.toml``, or
``--run-config``), named as in ``thoracle simulate``; ``out`` names the run folder, which the
ServerApp prepares before it sends the first order. Flower runs apps from a folder of its own, so
``out`` and ``data`` should be absolute paths; a relative one is taken from the home directory.
"""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context, Message
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from client.app import answer
from ledger.errors import ConfigError
from server.app import run_rounds
from server.results import RoundResult
from simulation.flower import EXCHANGE_SLACK, go_offline
from simulation.hospital_app import bind
from simulation.progress import Steps
from simulation.settings import PHANTOMS, Settings, settings_from

go_offline()
client_app = ClientApp()
server_app = ServerApp()


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Prepare the federation, run its rounds, export its chain."""
    from simulation.report import round_line
    from simulation.run import prepared

    settings, out = read_run_config(context.run_config)

    with prepared(settings, out, Steps()) as scorer:

        def heard(result: RoundResult) -> None:
            Steps().say(round_line(result, scorer.score(result)))

        timeout = settings.hospitals * float(settings.hospital_timeout) + EXCHANGE_SLACK
        run_rounds(grid, out, timeout, heard)
    Steps().say(f"Audit it: thoracle audit verify {out}")


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Carry out a training order."""
    return answer(message, bind(context, _bound(context)), "train")


@client_app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Check a proposal and answer it on the chain."""
    return answer(message, bind(context, _bound(context)), "evaluate")


def _bound(context: Context) -> UserConfig:
    settings, out = read_run_config(context.run_config)
    return {"run": str(out), "hospital-timeout": float(settings.hospital_timeout)}


def read_run_config(config: UserConfig) -> tuple[Settings, Path]:
    """Return settings and run folder of a Flower run configuration.

    Raises:
        ConfigError: a name is unknown, a value is out of range, or ``out`` is missing.
    """
    values = dict(config)
    out = values.pop("out", "")
    if not isinstance(out, str) or not out:
        raise ConfigError("the run configuration names no run folder: set out")
    settings = settings_from(values)
    if settings.data != PHANTOMS:
        settings = settings_from({**values, "data": str(_absolute(settings.data))})
    return settings, _absolute(out)


def _absolute(path: str) -> Path:
    return Path.home() / Path(path).expanduser()
