"""The four messages of a round: an order and its reply, twice; bounded, typed and nothing else.

Each turns into a plain ``dict`` of bytes, integers, floats, texts and lists, so that whatever
carries it (Flower, a socket, a test) stays thin, and comes back only if every field is one that
is declared, of its type and within its bound. A reply that holds more is refused by name:
undeclared output is how data leaves a hospital.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from ledger.errors import InvalidStatement, OversizeUpdate, UndeclaredOutput
from ledger.fields import Checked, address, digest, uint

Value = bytes | int | str | float | list[int] | list[float] | list[str] | list[bytes]
Record = dict[str, Value]

MAX_CONFIG = 1 << 20
MAX_FILE = 1 << 32
MAX_KEYS = 4
MAX_KEY_BYTES = 2048
MAX_METRICS = 64
MAX_METRIC_NAME = 64

_M = TypeVar("_M", bound="_Message")


def _bytes(limit: int) -> Any:
    def check(name: str, value: object) -> None:
        if not isinstance(value, bytes):
            raise InvalidStatement(f"{name} must be bytes")
        if len(value) > limit:
            raise OversizeUpdate(f"{name} of {len(value)} bytes is over the bound of {limit}")

    return field(metadata={"check": check}, repr=False)


def _flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidStatement(f"{name} must be true or false")


def _keys(name: str, value: object) -> None:
    if not isinstance(value, tuple) or not 1 <= len(value) <= MAX_KEYS:
        raise InvalidStatement(f"{name} must be 1 to {MAX_KEYS} public keys")
    if not all(isinstance(key, bytes) and 0 < len(key) <= MAX_KEY_BYTES for key in value):
        raise InvalidStatement(f"{name} must be byte strings of at most {MAX_KEY_BYTES} bytes")


def _metrics(name: str, value: object) -> None:
    if not isinstance(value, dict) or len(value) > MAX_METRICS:
        raise InvalidStatement(f"{name} must be at most {MAX_METRICS} numbers by name")
    for key, number in value.items():
        if not isinstance(key, str) or not 0 < len(key) <= MAX_METRIC_NAME or not key.isascii():
            raise InvalidStatement(f"a metric's name must be ASCII, to {MAX_METRIC_NAME} long")
        if isinstance(number, bool) or not isinstance(number, float) or not math.isfinite(number):
            raise InvalidStatement(f"the metric {key} must be a finite float")


class _Message(Checked):
    """Checks every field by the function in its metadata, and knows its plain form."""

    def to_record(self) -> Record:
        """Return the message as plain values; ``metrics`` become two lists, booleans 0 or 1."""
        record: Record = {}
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if item.name == "metrics":
                record["metric_names"] = list(value)
                record["metric_values"] = list(value.values())
            elif isinstance(value, tuple):
                record[item.name] = list(value)
            else:
                record[item.name] = int(value) if isinstance(value, bool) else value
        return record


def _take(record: Mapping[str, object], names: Collection[str], unknown: type[Exception]) -> None:
    extra = set(record) - set(names)
    if extra:
        raise unknown(f"the message holds the undeclared field {min(map(str, extra))[:80]!r}")
    missing = set(names) - set(record)
    if missing:
        raise InvalidStatement(f"the message lacks the field {min(missing)!r}")


def _names(kind: type[_Message]) -> list[str]:
    found: list[str] = []
    for item in fields(kind):  # type: ignore[arg-type]
        pair = ["metric_names", "metric_values"]
        found += pair if item.name == "metrics" else [item.name]
    return found


def _read_order(kind: type[_M], record: Mapping[str, object]) -> _M:
    _take(record, _names(kind), InvalidStatement)
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
    return kind(**values)


def _read_metrics(record: Mapping[str, object], allowed: Collection[str]) -> dict[str, float]:
    names, values = record["metric_names"], record["metric_values"]
    if not isinstance(names, list) or not isinstance(values, list) or len(names) != len(values):
        raise InvalidStatement("metrics must be a list of names and a list of as many numbers")
    if len(names) > MAX_METRICS or not all(isinstance(name, str) for name in names):
        raise InvalidStatement(f"metrics must be at most {MAX_METRICS} numbers by name")
    if len(set(names)) != len(names):
        raise InvalidStatement("a metric is reported twice")
    for name in names:
        if name not in allowed:
            raise UndeclaredOutput(f"the metric {name[:80]!r} is not on the allow-list")
    return dict(zip(names, values, strict=True))


def _read_reply(kind: type[_M], record: Mapping[str, object], allowed: Collection[str]) -> _M:
    _take(record, _names(kind), UndeclaredOutput)
    values: dict[str, Any] = {k: v for k, v in record.items() if not k.startswith("metric_")}
    values["metrics"] = _read_metrics(record, allowed)
    if "attested" in values:
        # A carrier may not know booleans, so none is accepted: one record for one message.
        if type(values["attested"]) is not int or values["attested"] not in (0, 1):
            raise InvalidStatement("attested must be 0 or 1")
        values["attested"] = bool(values["attested"])
    return kind(**values)


@dataclass(frozen=True, kw_only=True)
class TrainOrder(_Message):
    """Coordinator to hospital: train on this base model under this configuration.

    ``config`` is canonical JSON, ``public_keys`` the round's recipients (coordinator first),
    ``key_epoch`` the coordinator's. Nothing here is believed before it equals the chain's digests.
    """

    round: int = uint(32)
    base_model_bytes: bytes = _bytes(MAX_FILE)
    config: bytes = _bytes(MAX_CONFIG)
    public_keys: tuple[bytes, ...] = field(metadata={"check": _keys})
    key_epoch: int = uint(32)

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> TrainOrder:
        """Return the order of a record.

        Raises:
            InvalidStatement: a field is unknown, missing, of another type or out of range.
            OversizeUpdate: a field is over its bound.
        """
        return _read_order(cls, record)


@dataclass(frozen=True, kw_only=True)
class TrainReply(_Message):
    """Hospital to coordinator: the sealed update and metrics on the round's allow-list."""

    hospital: str = address()
    round: int = uint(32)
    ciphertext: bytes = _bytes(MAX_FILE)
    metrics: dict[str, float] = field(metadata={"check": _metrics})

    @classmethod
    def from_record(
        cls, record: Mapping[str, object], *, allowed_metrics: Collection[str]
    ) -> TrainReply:
        """Return the reply of a record.

        Raises:
            UndeclaredOutput: a field that is not declared, or a metric outside the allow-list.
            InvalidStatement: a field is missing, of another type or out of range.
            OversizeUpdate: a field is over its bound.
        """
        return _read_reply(cls, record, allowed_metrics)


@dataclass(frozen=True, kw_only=True)
class ProposalOrder(_Message):
    """Coordinator to hospital: the proposed sum (an I64 tensor file), to be checked."""

    round: int = uint(32)
    sum_bytes: bytes = _bytes(MAX_FILE)

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> ProposalOrder:
        """Return the order of a record; raises as ``TrainOrder.from_record``."""
        return _read_order(cls, record)


@dataclass(frozen=True, kw_only=True)
class AttestReply(_Message):
    """Hospital to coordinator: what it answered on the chain.

    ``code`` is the error code it dissented or contested with; 0 if it attested, or had no standing
    to say anything (it sent no update, or takes its refusal). ``model_digest`` is that of the model
    it computed itself (all zero if it could not).

    Raises:
        InvalidStatement: also where ``attested`` and ``code`` contradict each other.
    """

    hospital: str = address()
    round: int = uint(32)
    attested: bool = field(metadata={"check": _flag})
    code: int = uint(8)
    model_digest: bytes = digest()
    metrics: dict[str, float] = field(metadata={"check": _metrics})

    def __post_init__(self) -> None:
        """Check every field, and that nobody attests with a reason not to."""
        super().__post_init__()
        if self.attested and self.code:
            raise InvalidStatement("a reply either attests or names the code of its dissent")

    @classmethod
    def from_record(
        cls, record: Mapping[str, object], *, allowed_metrics: Collection[str]
    ) -> AttestReply:
        """Return the reply of a record; raises as ``TrainReply.from_record``."""
        return _read_reply(cls, record, allowed_metrics)
