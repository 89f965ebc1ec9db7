"""One call of a hospital, from bytes to bytes, in a process of its own (see client.isolate).

What is raised here reaches the coordinator as a class name only; the sentence stays in the
hospital's own log.
"""

from __future__ import annotations

import logging
import os
from logging.handlers import RotatingFileHandler
from pathlib import Path

from filelock import FileLock

from client.frames import pack, unpack
from client.home import open_hospital
from ledger.errors import HospitalFailed, ThoracleError
from ledger.messages import ProposalOrder, TrainOrder

_LOG_BYTES = 1 << 20


def serve(payload: bytes) -> bytes:
    """Carry out one framed order: ``home``, ``kind`` ("train" or "evaluate") and its fields.

    Raises:
        ThoracleError: whatever the hospital raises.
        HospitalFailed: anything else went wrong; its class is named, its text stays here.
    """
    record = dict(unpack(payload))
    home, kind = Path(str(record.pop("home"))), record.pop("kind")
    log = _log(home)
    try:
        # The journal of signed transactions has one writer: a second message waits here.
        with FileLock(home / "process.lock"):
            hospital = open_hospital(home)
            if kind == "train":
                return pack(hospital.train(TrainOrder.from_record(record)).to_record())
            return pack(hospital.attest(ProposalOrder.from_record(record)).to_record())
    except ThoracleError as error:
        log.error("%s: %s: %s", kind, error.name, error)
        raise
    except Exception as error:
        log.exception("%s: unexpected", kind)
        raise HospitalFailed(type(error).__name__) from None


def _log(home: Path) -> logging.Logger:
    """Return the hospital's own log, readable by its owner only."""
    path = home / "hospital.log"
    os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    log = logging.getLogger(f"thoracle.hospital.{home.name}")
    if not log.handlers:
        handler = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=1)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
        log.propagate = False
    return log
