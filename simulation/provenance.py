"""Whether the ledger knows a model: looked up in a run's exported chain before the model is used.

The whole record is audited at the chain level (hashes, signatures, execution again), so a bundle
that was edited to name another model is refused as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ledger.anchors import Anchors
from ledger.audit import audit
from ledger.errors import EvidenceMismatch, ModelNotFinal
from ledger.run_facts import open_source, read_facts


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What the ledger says of a model.

    Attributes:
        round: after which it became final; 0 for the federation's first model.
        outcome: of that round; empty for the first model.
        federation: identifier, hexadecimal.
        latest: whether no later model is final.
        anchored: whether the record was compared with anchors from outside the run.
    """

    round: int
    outcome: str
    federation: str
    latest: bool
    anchored: bool


def provenance(run: Path, digest: bytes, trusted: Anchors | None = None) -> Provenance:
    """Return what the run's record says of a model.

    Args:
        run: the run folder.
        digest: of the model's file.
        trusted: anchors from outside the run; without them a run that was made up whole passes.

    Raises:
        BundleInvalid: the chain was not exported, or its record is damaged.
        EvidenceMismatch: the record does not hold.
        ModelNotFinal: the ledger does not name the model as final.
    """
    report = audit(read_facts(open_source(run), trusted=trusted), "chain")
    if report.failures or report.history is None:
        first = report.failures[0].sentence if report.failures else "it cannot be followed"
        raise EvidenceMismatch(f"the run's ledger record does not hold: {first}")
    history = report.history

    def named(number: int, outcome: str) -> Provenance:
        return Provenance(
            round=number,
            outcome=outcome,
            federation=history.rules.federation_id.hex(),
            latest=digest == history.model,
            anchored=report.origin_proven,
        )

    for past in reversed(history.rounds):
        if past.final_model == digest:
            return named(past.opening.round, past.outcome.name)
    if digest == history.rules.initial_model:
        return named(0, "")
    raise ModelNotFinal(f"the ledger names no final model {digest.hex()[:16]}…")
