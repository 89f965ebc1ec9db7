"""One call of a hospital, from bytes to bytes, in a process of its own (see client.isolate).

What is raised here reaches the coordinator as a class name only; the sentence stays in the
hospital's own log.
"""

from __future__ import annotations

import traceback
from contextlib import closing
from pathlib import Path

from filelock import FileLock

from client.frames import pack, unpack
from client.home import open_hospital
from client.hospital_log import note
from ledger.errors import HospitalFailed, ThoracleError
from ledger.messages import ProposalOrder, TrainOrder


def serve(payload: bytes) -> bytes:
    """Carry out one framed order: ``home``, ``kind`` ("train" or "evaluate") and its fields.

    Raises:
        ThoracleError: whatever the hospital raises.
        HospitalFailed: anything else went wrong; its class is named, its text stays here.
    """
    record = dict(unpack(payload))
    home, kind = Path(str(record.pop("home"))), str(record.pop("kind"))
    try:
        # The journal of signed transactions has one writer: a second message waits here.
        with FileLock(home / "process.lock"), closing(open_hospital(home)) as hospital:
            if kind == "train":
                return pack(hospital.train(TrainOrder.from_record(record)).to_record())
            return pack(hospital.attest(ProposalOrder.from_record(record)).to_record())
    except ThoracleError as error:
        note(home, f"{kind}: {error.name}: {error}")
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, only its class may leave
        note(home, f"{kind}: {traceback.format_exc()}")
        raise HospitalFailed(type(error).__name__) from None
