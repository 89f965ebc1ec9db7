"""Replies as they arrive: bounded, stored sealed, never opened here.

A reply names its hospital, but a transport cannot prove it; the chain can. So an impostor's reply
never takes a hospital's place: the reply whose digest the hospital committed is the one that
counts, whenever it comes, and at most one other is kept as evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from eth_utils.address import is_checksum_address

from ledger.canonical import sha256
from ledger.errors import (
    CodecError,
    DuplicateUpdate,
    OversizeUpdate,
    ThoracleError,
    UndeclaredOutput,
    WrongRound,
    by_name,
)
from ledger.manifest import Manifest, encode_tensors
from ledger.messages import TrainReply
from ledger.seal import sealed_size
from ledger.statement import Commit
from server.store import RunStore

_REPLY, _UNREADABLE, _FAILED = "reply/", "unreadable/", "failed/"


@lru_cache(maxsize=4)
def _update_bytes(update: Manifest) -> int:
    return len(encode_tensors(update, np.zeros(update.size, dtype=np.int16)))


class Inbox:
    """The replies of one round, kept in the run's evidence and journal.

    Args:
        store: the run folder.
        number: the round.
        update: manifest of what travels in the round, to bound a ciphertext's length.
        recipients: how many keys updates are sealed to.
    """

    def __init__(self, store: RunStore, number: int, update: Manifest, recipients: int) -> None:
        self._store = store
        self._number = number
        # Room for wrong dtypes and extra tensors, which the codec then names.
        self.limit = sealed_size(4 * _update_bytes(update) + (1 << 17), recipients)

    def put(self, reply: TrainReply, commit: Commit | None) -> None:
        """Store a reply durably; the same reply again changes nothing.

        Args:
            reply: what arrived.
            commit: what its hospital committed in this round, if anything.

        Raises:
            WrongRound: it is for another round.
            OversizeUpdate: its ciphertext is longer than any honest one could be.
            DuplicateUpdate: another reply of this hospital is already here, and this one is not
                the one it committed.
        """
        if reply.round != self._number:
            raise WrongRound(f"the reply is for round {reply.round}, not {self._number}")
        if len(reply.ciphertext) > self.limit:
            raise OversizeUpdate(
                f"a ciphertext of {len(reply.ciphertext)} bytes is over the bound of {self.limit}"
            )
        digest = sha256(reply.ciphertext)
        here = self._of(reply.hospital)
        if digest in here:
            return
        if here and (commit is None or commit.seal_digest != digest):
            raise DuplicateUpdate(f"{reply.hospital} sent a second update in one round")
        self._store.evidence.put(reply.ciphertext)
        self._store.journal.record(
            self._number,
            f"{_REPLY}{reply.hospital}/{digest.hex()}",
            {"bytes": len(reply.ciphertext), "metrics": dict(reply.metrics)},
        )

    def put_record(self, record: Mapping[str, object], commits: Mapping[str, Commit]) -> str:
        """Store a message off the wire and return its hospital's address.

        Raises:
            CodecError, Refusal: it cannot be used; where it names a hospital that is noted, so
                that the refusal can give the reason.
        """
        try:
            named = record.get("metric_names")
            # The round's own allow-list is applied at admission, where it is on record.
            allowed = [n for n in named if isinstance(n, str)] if isinstance(named, list) else []
            reply = TrainReply.from_record(record, allowed_metrics=allowed)
        except (CodecError, UndeclaredOutput) as error:
            self._note_unreadable(record.get("hospital"), error)
            raise
        self.put(reply, commits.get(reply.hospital))
        return reply.hospital

    def _note_unreadable(self, hospital: object, error: ThoracleError) -> None:
        if not isinstance(hospital, str) or not is_checksum_address(hospital):
            return
        step = f"{_UNREADABLE}{hospital}"
        if self._store.journal.read(self._number, step) is None:
            value: dict[str, object] = {"reason": error.name, "detail": str(error)[:300]}
            self._store.journal.record(self._number, step, value)

    def note_failure(self, who: str, why: str) -> None:
        """Note that a hospital will not answer in this round."""
        step = f"{_FAILED}{who}"
        if self._store.journal.read(self._number, step) is None:
            self._store.journal.record(self._number, step, {"why": why[:300]})

    def failures(self) -> dict[str, str]:
        """Return who will not answer, and why."""
        found = self._store.journal.matching(self._number, _FAILED)
        return {step.removeprefix(_FAILED): str(v["why"]) for step, v in found.items()}

    def unreadable(self) -> dict[str, ThoracleError]:
        """Return what was wrong with messages that could not be read, by hospital."""
        found = self._store.journal.matching(self._number, _UNREADABLE)
        return {
            step.removeprefix(_UNREADABLE): (by_name(str(value["reason"])) or CodecError)(
                str(value["detail"])
            )
            for step, value in found.items()
        }

    def replies(self, commits: Mapping[str, Commit]) -> list[TrainReply]:
        """Return one reply a hospital: the committed one where it is here.

        Raises:
            EvidenceMissing, EvidenceMismatch: a stored ciphertext is gone or changed.
        """
        chosen = []
        for hospital, digests in self._all().items():
            commit = commits.get(hospital)
            own = commit.seal_digest if commit else b""
            digest = own if own in digests else min(digests)
            chosen.append(
                TrainReply(
                    hospital=hospital,
                    round=self._number,
                    ciphertext=self._store.evidence.get(digest),
                    metrics=digests[digest],
                )
            )
        return chosen

    def received_bytes(self) -> int:
        """Return how many bytes of ciphertext arrived in this round."""
        found = self._store.journal.matching(self._number, _REPLY)
        return sum(int(str(value["bytes"])) for value in found.values())

    def _of(self, hospital: str) -> dict[bytes, dict[str, float]]:
        return self._all().get(hospital, {})

    def _all(self) -> dict[str, dict[bytes, dict[str, float]]]:
        found: dict[str, dict[bytes, dict[str, float]]] = {}
        for step, value in self._store.journal.matching(self._number, _REPLY).items():
            hospital, digest = step.removeprefix(_REPLY).split("/")
            metrics = value["metrics"]
            found.setdefault(hospital, {})[bytes.fromhex(digest)] = (
                {str(k): float(v) for k, v in metrics.items()} if isinstance(metrics, dict) else {}
            )
        return found
