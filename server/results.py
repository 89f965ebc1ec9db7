"""What one round came to: read back from the chain, the journal and the decisions.

Nothing here is remembered from the running process, so a resumed coordinator reports the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ledger.canonical import parse_json
from ledger.chain import Ledger
from ledger.chain_rpc import TRANSPORT_ERRORS
from ledger.chain_types import Closing
from ledger.errors import LedgerUnavailable
from ledger.statement import Outcome, seats_of
from ledger.travels import PhaseTerms
from server.decide import DECISIONS_FORMAT
from server.store import MAX_CONFIG_BYTES, RunStore

CALLS: Mapping[str, str] = {
    "RoundOpened": "open",
    "Committed": "commit",
    "CommitsClosed": "close",
    "Proposed": "propose",
    "Attested": "attest",
    "Dissented": "dissent",
    "Contested": "contest",
    "Finalised": "finalise",
    "RoundAborted": "abort",
}
"""The contract's event to the call that emits it."""


@dataclass(frozen=True, kw_only=True)
class RoundResult:
    """How a round ended.

    Attributes:
        round: its number.
        outcome: how it ended.
        phase: of training; empty where its configuration names none.
        accepted: addresses whose update is in the sum, by seat (empty when aborted unproposed).
        refused: address to the name of the reason.
        failed: who did not answer, and why.
        weight: accepted effective weight, W.
        unattested_weight: of which stayed silent.
        model: the final model's digest after this round (the base's, when it was aborted).
        gas: total gas by call, hospitals' own transactions included.
        bytes_down: bytes of orders sent to hospitals.
        bytes_up: bytes of ciphertext received.
        seconds: from opening to closing, by this machine's clock.
        metrics: each allow-listed number, averaged over the hospitals that gave it, by weight.
    """

    round: int
    outcome: Outcome
    phase: str = ""
    accepted: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    weight: int = 0
    unattested_weight: int = 0
    model: bytes
    gas: Mapping[str, int] = field(default_factory=dict)
    bytes_down: int = 0
    bytes_up: int = 0
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def total_gas(self) -> int:
        """Gas of all transactions of the round."""
        return sum(self.gas.values())

    def row(self) -> dict[str, object]:
        """Return the round's line of ``metrics.csv``."""
        return {
            "round": self.round,
            "phase": self.phase,
            "outcome": self.outcome.name,
            "accepted": len(self.accepted),
            "refused": len(self.refused),
            "failed": len(self.failed),
            "reasons": " ".join(sorted(self.refused.values())),
            "weight": self.weight,
            "unattested_weight": self.unattested_weight,
            "model": self.model.hex(),
            "gas": self.total_gas,
            **{f"gas_{name}": self.gas.get(name, 0) for name in CALLS.values()},
            "bytes_down": self.bytes_down,
            "bytes_up": self.bytes_up,
            "seconds": round(self.seconds, 3),
            **{f"metric_{name}": value for name, value in sorted(self.metrics.items())},
        }


def gas_by_call(ledger: Ledger, number: int) -> dict[str, int]:
    """Return the gas of every transaction of a round, totalled by call.

    Raises:
        LedgerUnavailable: the node cannot be reached.
    """
    gas: dict[str, int] = {}
    for event in ledger.events():
        if event.name not in CALLS or event.args.get("round") != number:
            continue
        try:
            receipt = ledger.web3.eth.get_transaction_receipt(event.tx_hash)  # type: ignore[arg-type]
        except TRANSPORT_ERRORS as error:
            raise LedgerUnavailable(f"the node cannot be asked for a receipt: {error}") from error
        call = CALLS[event.name]
        gas[call] = gas.get(call, 0) + int(receipt["gasUsed"])
    return gas


def mean_metrics(
    answers: Mapping[str, Mapping[str, float]], weights: Mapping[str, int]
) -> dict[str, float]:
    """Return each metric's mean over the hospitals that gave it, by effective weight."""
    totals: dict[str, tuple[float, int]] = {}
    for hospital in sorted(answers):
        weight = weights.get(hospital, 0)
        for name, value in answers[hospital].items():
            total, seen = totals.get(name, (0.0, 0))
            totals[name] = (total + weight * value, seen + weight)
    return {name: total / seen for name, (total, seen) in sorted(totals.items()) if seen}


def read_result(
    ledger: Ledger,
    store: RunStore,
    closing: Closing,
    *,
    failed: Mapping[str, str],
    answers: Mapping[str, Mapping[str, float]],
    traffic: tuple[int, int],
    seconds: float,
) -> RoundResult:
    """Gather a closed round's result.

    Args:
        ledger: the chain.
        store: the run folder.
        closing: how the round ended on the chain.
        failed: who did not answer.
        answers: metrics of the evaluate exchange, by hospital.
        traffic: bytes sent to and received from hospitals.
        seconds: how long the round took.
    """
    number = closing.round
    proposal = ledger.proposal(number)
    commits = ledger.commits(number)
    accepted = seats_of(proposal.accepted) if proposal else ()
    weights = {commit.hospital: commit.weight for commit in commits.values()}
    return RoundResult(
        round=number,
        outcome=closing.outcome,
        phase=_phase(ledger, store, number),
        accepted=tuple(
            c.hospital for c in sorted(commits.values(), key=lambda c: c.seat) if c.seat in accepted
        ),
        refused=_reasons(store, number),
        failed=dict(failed),
        weight=proposal.accepted_weight if proposal else 0,
        unattested_weight=closing.unattested_weight,
        model=closing.model or ledger.opening(number).base_model,
        gas=gas_by_call(ledger, number),
        bytes_down=traffic[0],
        bytes_up=traffic[1],
        seconds=seconds,
        metrics=mean_metrics(answers, weights),
    )


def _phase(ledger: Ledger, store: RunStore, number: int) -> str:
    """Return the name of a round's phase, from the configuration it was opened with."""
    config = parse_json(store.get_config(ledger.opening(number).config_digest), MAX_CONFIG_BYTES)
    terms = PhaseTerms.of_config(config) if isinstance(config, dict) else None
    return terms.name if terms else ""


def _reasons(store: RunStore, number: int) -> dict[str, str]:
    record = store.get_decisions(number)
    if record is None or record.get("format") != DECISIONS_FORMAT:
        return {}
    found = record["decisions"]
    return {
        str(item["hospital"]): str(item["reason"])
        for item in (found if isinstance(found, list) else [])
        if not item["accepted"]
    }
