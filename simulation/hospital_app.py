"""The hospitals' Flower app, bound to one run folder.

Under ``run_simulation`` Flower gives the apps no run configuration, so the run folder is bound
here and handed on through the same setting that ``flwr run`` gives. Every worker of Flower's
engine imports this module before its first message: it must stay free of heavy imports, which
belong in the hospitals' own processes (see client.isolate).
"""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context, Message
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp

from client.app import answer


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
