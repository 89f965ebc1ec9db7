"""Flower's ClientApp: a thin shim without secrets in front of a hospital.

It finds the hospital by *partition* (Flower's node ids are random), hands the order to a process
of its own (a hospital that dies or hangs must not take Flower's worker with it) and sends back
what comes out. It holds no key, no data and no policy; whatever goes wrong becomes an error reply
that names the error's class and says nothing else. ``LedgerUnavailable`` among them tells the
server to stop: nobody goes on unaudited.

Run configuration: ``run`` (the run folder) and, optionally, ``hospital-timeout`` in seconds.
Orders travel as the ``ConfigRecord`` named ``order``, replies as ``reply``
(`ledger.messages` has their fields).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

from flwr.app import ConfigRecord, ConfigRecordValues, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from client.call import carry_out
from client.frames import pack, unpack
from client.isolate import run_isolated
from ledger.errors import ConfigError, ThoracleError
from ledger.messages import Record

ORDER: Final = "order"
REPLY: Final = "reply"
ERROR_CODE: Final = 2
"""Flower's CLIENT_APP_RAISED_EXCEPTION; the reason is one of ``ledger.errors``' class names."""
TIMEOUT: Final = 1800.0
"""Seconds for one call of a hospital, unless the run's configuration says otherwise."""

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Carry out a training order."""
    return answer(message, context, "train")


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Check a proposal and answer it on the chain."""
    return answer(message, context, "evaluate")


def answer(message: Message, context: Context, kind: str) -> Message:
    """Return the hospital's reply, or an error reply that names only a class."""
    try:
        record = _call(message, context, kind)
    except Exception as error:  # noqa: BLE001 - a hospital's failure costs only its own place
        name = error.name if isinstance(error, ThoracleError) else "HospitalFailed"
        return Message(Error(code=ERROR_CODE, reason=name), reply_to=message)
    content = RecordDict({REPLY: ConfigRecord(cast("dict[str, ConfigRecordValues]", record))})
    return Message(content, reply_to=message)


def _call(message: Message, context: Context, kind: str) -> Record:
    home, timeout = hospital_of(context)
    order = message.content.config_records.get(ORDER)
    if not isinstance(order, Mapping):
        raise ConfigError("the message holds no order")
    payload = pack({**order, "home": str(home), "kind": kind})
    return unpack(run_isolated(carry_out, payload, timeout=timeout, who=home.name))


def hospital_of(context: Context) -> tuple[Path, float]:
    """Return the home of the hospital this node stands for, and how long it may take.

    Raises:
        ConfigError: the run is not named, or has no such hospital.
    """
    run, partition = context.run_config.get("run"), context.node_config.get("partition-id")
    timeout = context.run_config.get("hospital-timeout", TIMEOUT)
    if not isinstance(run, str) or not run:
        raise ConfigError("the run configuration does not name the run folder")
    if isinstance(partition, bool) or not isinstance(partition, int) or partition < 0:
        raise ConfigError("this Flower node has no partition")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise ConfigError("hospital-timeout is not a number of seconds")
    home = Path(run) / "hospitals" / str(partition)
    if not home.is_dir():
        raise ConfigError(f"the run has no hospital {partition}")
    return home, float(timeout)
