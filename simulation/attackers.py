"""Hospitals that fail: what a real federation meets, on demand.

    raise     the hospital's code raises
    die       its process is killed
    hang      it never answers
    rubbish   it answers something that is no reply

Each costs that hospital its place in the round, and nobody else's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp

from client.app import ERROR_CODE, REPLY, answer
from client.isolate import run_isolated
from ledger.errors import ConfigError, ThoracleError
from simulation.hospital_app import bind

FAULTS = ("raise", "die", "hang", "rubbish")


def faulty_client_app(run: Path, hospital_timeout: float, faults: Mapping[int, str]) -> ClientApp:
    """Return the hospitals' app with faults by partition number.

    Raises:
        ConfigError: a fault is not one of ``FAULTS``.
    """
    unknown = sorted(set(faults.values()) - set(FAULTS))
    if unknown:
        raise ConfigError(f"there is no fault {unknown[0]!r}; known are {', '.join(FAULTS)}")
    app = ClientApp()
    bound: UserConfig = {"run": str(run), "hospital-timeout": float(hospital_timeout)}

    def reply(message: Message, context: Context, kind: str) -> Message:
        fault = faults.get(int(context.node_config["partition-id"]))
        if fault is None:
            return answer(message, bind(context, bound), kind)
        return _misbehave(message, fault, hospital_timeout)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return reply(message, context, "train")

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return reply(message, context, "evaluate")

    return app


def _misbehave(message: Message, fault: str, timeout: float) -> Message:
    if fault == "raise":
        raise RuntimeError("a hospital's code raised")
    if fault == "rubbish":
        content = RecordDict(
            {REPLY: ConfigRecord({"hospital": "0xrubbish", "weights": b"\x00" * 9})}
        )
        return Message(content, reply_to=message)
    try:
        run_isolated(_die if fault == "die" else _hang, b"", timeout=timeout, who="hospital")
    except ThoracleError as error:
        return Message(Error(code=ERROR_CODE, reason=error.name), reply_to=message)
    raise AssertionError("neither death nor a hang answers")


def _die(_payload: bytes) -> bytes:
    os.kill(os.getpid(), 9)
    return b""


def _hang(_payload: bytes) -> bytes:
    while True:
        time.sleep(3600)
