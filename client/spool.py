"""The hospital's durable memory of a round: what it was asked, what it sent, what it answered.

A finished update is on disk before its commit is sent, so that a crash at any later step resends
the same bytes and never trains (and so never spends privacy) twice. One folder a round::

    spool/00000007/config.json    the accepted order's configuration (canonical JSON)
                   update         the opening: salt and canonical update, before sealing
                   sealed         the ciphertext
                   entry.json     digests and what was declared; written last: it is the marker
                   committed      empty; the commit was seen on the chain
                   verdict.json   the attestation, dissent or contest, and what was found

``update`` is the hospital's secret and readable by its owner only. A file is replaced whole, so a
folder without ``entry.json`` is an update that never was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from ledger.canonical import canonical_json, parse_json, sha256
from ledger.errors import CodecError, EvidenceMismatch, JournalCorrupt
from ledger.files import atomic_write, read_bounded, remove
from ledger.messages import MAX_CONFIG
from ledger.statement import Mechanism

ENTRY_LIMIT: Final = 1 << 16
KINDS: Final = ("attested", "dissented", "contested", "silent")
UPDATE_LIMIT: Final = 1 << 30
"""Largest spooled update or ciphertext in bytes (half a billion int16 coordinates)."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A finished update, as it was committed or is about to be.

    Attributes:
        round: the round on the chain.
        open_head: the head the round opened with (32 bytes).
        base_model: digest of the model it was trained from.
        config_digest: digest of the round's configuration.
        seal_digest: SHA-256 of the ciphertext.
        opening_digest: of the update and its salt.
        mechanism: what is committed beside it.
        metrics: declared numbers that leave with the reply.
    """

    round: int
    open_head: bytes
    base_model: bytes
    config_digest: bytes
    seal_digest: bytes
    opening_digest: bytes
    mechanism: Mechanism
    metrics: Mapping[str, float]

    def to_json(self) -> dict[str, object]:
        """Return the entry as plain JSON values (bytes in hex)."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_json(cls, value: object) -> Entry:
        """Read an entry back.

        Raises:
            JournalCorrupt: it is not an entry.
        """
        try:
            table = dict(value)  # type: ignore[call-overload]
            declared = dict(table.pop("mechanism"))
            declared["list_digest"] = bytes.fromhex(declared["list_digest"])
            digests = {
                name: bytes.fromhex(table.pop(name))
                for name in ("open_head", "base_model", "config_digest", "seal_digest")
            }
            return cls(
                round=int(table.pop("round")),
                opening_digest=bytes.fromhex(table.pop("opening_digest")),
                mechanism=Mechanism(**declared),
                metrics=_metrics(table.pop("metrics")),
                **digests,
            )
        except (TypeError, ValueError, KeyError, CodecError) as error:
            raise JournalCorrupt(f"a spooled entry cannot be read: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the hospital makes of a round's proposal, and therefore says on the chain.

    Attributes:
        round: the round on the chain.
        proposed_head: the head of the proposal it is about, as computed from the events shown.
        kind: "attested", "dissented" (if accepted), "contested" (if refused), or "silent".
        code: what it dissented or contested with, else 0.
        model_digest: of the model it recomputed; 32 zero bytes if it could not.
        metrics: declared numbers that leave with the reply; None until the model was scored.
    """

    round: int
    proposed_head: bytes
    kind: str
    code: int
    model_digest: bytes
    metrics: Mapping[str, float] | None = None

    def to_json(self) -> dict[str, object]:
        """Return the verdict as plain JSON values (bytes in hex)."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_json(cls, value: object) -> Verdict:
        """Read a verdict back.

        Raises:
            JournalCorrupt: it is not a verdict.
        """
        try:
            table = dict(value)  # type: ignore[call-overload]
            if table["kind"] not in KINDS:
                raise ValueError(f"there is no verdict {table['kind']!r}")
            return cls(
                round=int(table["round"]),
                proposed_head=bytes.fromhex(table["proposed_head"]),
                kind=table["kind"],
                code=int(table["code"]),
                model_digest=bytes.fromhex(table["model_digest"]),
                metrics=None if table["metrics"] is None else _metrics(table["metrics"]),
            )
        except (TypeError, ValueError, KeyError) as error:
            raise JournalCorrupt(f"a stored verdict cannot be read: {error}") from None


class Spool:
    """Finished updates and answers of one hospital, by round."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder

    def keep_config(self, round: int, config: bytes) -> None:  # noqa: A002
        """Keep an accepted order's configuration: a proposal is checked against it."""
        self._write(round, "config.json", config)

    def config(self, round: int) -> bytes | None:  # noqa: A002
        """Return the accepted configuration of a round, if this hospital had one."""
        return self._read(round, "config.json", MAX_CONFIG)

    def keep_update(self, entry: Entry, update: bytes, sealed: bytes) -> None:
        """Make a finished update durable; the entry last, so that it vouches for the rest."""
        self._write(entry.round, "update", update, mode=0o600)
        self._write(entry.round, "sealed", sealed)
        self._write(entry.round, "entry.json", canonical_json(entry.to_json()), mode=0o600)

    def entry(self, round: int) -> Entry | None:  # noqa: A002
        """Return the finished update's entry of a round, if there is one.

        Raises:
            JournalCorrupt: it cannot be read, or is another round's.
        """
        data = self._read(round, "entry.json", ENTRY_LIMIT)
        if data is None:
            return None
        entry = Entry.from_json(_parsed(data))
        if entry.round != round:
            raise JournalCorrupt(f"the entry spooled for round {round} is of round {entry.round}")
        return entry

    def sealed(self, entry: Entry) -> bytes:
        """Return the ciphertext of an entry, checked against its digest.

        Raises:
            EvidenceMismatch: the spooled file is not what was committed.
        """
        data = self._read(entry.round, "sealed", UPDATE_LIMIT)
        if data is None or sha256(data) != entry.seal_digest:
            raise EvidenceMismatch(f"the spooled ciphertext of round {entry.round} was changed")
        return data

    def update(self, entry: Entry) -> bytes:
        """Return the opening bytes of an entry (check them against ``opening_digest``).

        Raises:
            EvidenceMismatch: the file is gone.
        """
        data = self._read(entry.round, "update", UPDATE_LIMIT)
        if data is None:
            raise EvidenceMismatch(f"the spooled update of round {entry.round} is gone")
        return data

    def mark_committed(self, round: int) -> None:  # noqa: A002
        """Remember that the commit of a round was mined: a chain without it has rolled back."""
        self._write(round, "committed", b"")

    def is_committed(self, round: int) -> bool:  # noqa: A002
        """Return whether the commit of a round was ever seen mined."""
        return self._read(round, "committed", 0) is not None

    def keep_verdict(self, verdict: Verdict) -> None:
        """Keep what the hospital answered, so that it answers the same again."""
        self._write(verdict.round, "verdict.json", canonical_json(verdict.to_json()))

    def verdict(self, round: int) -> Verdict | None:  # noqa: A002
        """Return the stored verdict of a round, if there is one.

        Raises:
            JournalCorrupt: it cannot be read.
        """
        data = self._read(round, "verdict.json", ENTRY_LIMIT)
        return None if data is None else Verdict.from_json(_parsed(data))

    def prune(self, first: int) -> None:
        """Forget every round below ``first``: an update is kept no longer than it is needed."""
        for path in sorted(self._folder.iterdir()):
            if path.is_dir() and path.name.isdigit() and int(path.name) < first:
                remove(path)

    def _path(self, round: int) -> Path:  # noqa: A002
        return self._folder / f"{round:08d}"

    def _write(self, round: int, name: str, data: bytes, *, mode: int = 0o644) -> None:  # noqa: A002
        path = self._path(round) / name
        path.parent.mkdir(exist_ok=True, mode=0o700)
        atomic_write(path, data, mode=mode)

    def _read(self, round: int, name: str, limit: int) -> bytes | None:  # noqa: A002
        path = self._path(round) / name
        return read_bounded(path, limit) if path.is_file() else None


def _parsed(data: bytes) -> object:
    try:
        return parse_json(data, ENTRY_LIMIT)
    except CodecError as error:
        raise JournalCorrupt(f"the spool cannot be read back: {error}") from None


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mechanism):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    return value


def _metrics(value: object) -> dict[str, float]:
    found = {str(name): float(number) for name, number in dict(value).items()}  # type: ignore[call-overload]
    if not all(math.isfinite(number) for number in found.values()):
        raise ValueError("a metric is not finite")
    return found
