"""A ledger as plain values, for tables and ``--json``: who may still spend what, round by round."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import IntEnum
from typing import Any

from ledger.chain_reads import LedgerReader
from ledger.chain_types import LedgerEvent
from ledger.errors import InvalidStatement, by_code
from ledger.statement import seats_of

MICRO = 1_000_000


def show_record(ledger: LedgerReader) -> dict[str, Any]:
    """Return rounds, members with their budgets, and the head (epsilon in units, not micro)."""
    tip, last = ledger.tip(), ledger.round()
    return {
        "chain_id": ledger.anchors.chain_id,
        "contract": ledger.anchors.contract,
        "federation_id": _hex(ledger.anchors.federation_id),
        "coordinator": ledger.coordinator(),
        "privacy_unit": ledger.rules().privacy_unit.name.lower(),
        "sequence": tip.sequence,
        "head": _hex(tip.head),
        "block": tip.block,
        "time": tip.time,
        "model": _hex(ledger.model()),
        "phase": last.phase.name.lower(),
        "members": [_member(ledger, seat, address) for seat, address in enumerate(ledger.seats())],
        "rounds": [_round(ledger, number) for number in range(1, last.number + 1)],
    }


def _member(ledger: LedgerReader, seat: int, address: str) -> dict[str, Any]:
    member = ledger.member(address)
    return {
        "seat": seat,
        "address": address,
        "registered": member.registered,
        "active": member.active_in(ledger.round().number + 1),
        "weight": member.weight,
        "epsilon_spent": member.spent / MICRO,
        "epsilon_cap": member.cap / MICRO,
        "active_from": member.active_from,
        "active_until": member.active_until,
    }


def _round(ledger: LedgerReader, number: int) -> dict[str, Any]:
    opening, proposal = ledger.opening(number), ledger.proposal(number)
    closing, answers = ledger.closing(number), ledger.answers(number)
    return {
        "round": number,
        "opened_at": ledger.opened_at(number),
        "outcome": "live" if closing is None else closing.outcome.name.lower(),
        "base_model": _hex(opening.base_model),
        "model": None if closing is None or closing.model is None else _hex(closing.model),
        "roster": opening.roster_count,
        "commits": len(ledger.commits(number)),
        "accepted": 0 if proposal is None else len(seats_of(proposal.accepted)),
        "accepted_weight": 0 if proposal is None else proposal.accepted_weight,
        "reasons": {}
        if proposal is None
        else {str(seat): _reason(code) for seat, code in proposal.reasons.items()},
        "attested": sum(answer.kind == "attested" for answer in answers.values()),
        "dissented": {a.hospital: _reason(a.code) for a in answers.values() if a.code},
        "unattested_weight": 0 if closing is None else closing.unattested_weight,
    }


def _reason(code: int) -> str:
    try:
        return by_code(code).__name__
    except InvalidStatement:
        return f"unknown code {code}"


def event_record(event: LedgerEvent) -> dict[str, Any]:
    """Return one event as plain JSON values (bytes as 0x-hex, enums by their numbers)."""
    return {
        "block": event.block,
        "log_index": event.log_index,
        "transaction": _hex(event.tx_hash),
        "name": event.name,
        "args": {key: _plain(value) for key, value in event.args.items()},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return _hex(value)
    if isinstance(value, IntEnum):
        return int(value)
    if is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _hex(value: bytes) -> str:
    return f"0x{value.hex()}"
