"""Whether the ledger knows a model: looked up in a run's exported chain before the model is used.

The whole record is audited at the chain level (hashes, signatures, execution again), so a bundle
that was edited to name another model is refused as a whole. A mean of models is known by them: all
are looked up, and the mean is computed again (``simulation.averaging``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ledger.anchors import Anchors
from ledger.audit import audit
from ledger.errors import EvidenceMismatch, ModelNotFinal
from ledger.run_facts import open_source, read_facts
from server.evaluate import MODEL_SUFFIX
from simulation.averaging import check_average, read_average
from simulation.chosen import choose


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What the ledger says of a model.

    Attributes:
        round: after which it became final; 0 for the federation's first model.
        outcome: of that round; empty for the first model.
        federation: identifier, hexadecimal.
        latest: whether no later model is final.
        anchored: whether the record was compared with anchors from outside the run.
        averaged: of a mean, the rounds of the models that it is of; ``round``, ``outcome`` and
            ``latest`` are then the last one's.
    """

    round: int
    outcome: str
    federation: str
    latest: bool
    anchored: bool
    averaged: tuple[int, ...] = ()


def provenance(run: Path, digest: bytes, trusted: Anchors | None = None) -> Provenance:
    """Return what the run's record says of a model.

    Args:
        run: the run folder.
        digest: of the model's file.
        trusted: anchors from outside the run; without them a run that was made up whole passes.

    Raises:
        BundleInvalid: the chain was not exported, or its record is damaged.
        EvidenceMismatch: the record does not hold, or a mean is not what its record says.
        EvidenceMissing: a model that a mean is of is not in the run's folder.
        ModelNotFinal: the ledger does not name the model as final, nor all that it is the mean of.
    """
    known = Known(run, trusted)
    average = None if known.names(digest) else read_average(run, digest)
    if average is None:
        return known.provenance(digest)
    parts = [known.provenance(each) for each in average.of]
    path = run / "models" / f"{digest.hex()}{MODEL_SUFFIX}"
    check_average(run, digest, average, choose(path).manifest)
    return replace(parts[-1], averaged=tuple(part.round for part in parts))


class Known:
    """What a run's audited record names.

    Raises:
        BundleInvalid, EvidenceMismatch: as ``provenance``.
    """

    def __init__(self, run: Path, trusted: Anchors | None = None) -> None:
        report = audit(read_facts(open_source(run), trusted=trusted), "chain")
        if report.failures or report.history is None:
            first = report.failures[0].sentence if report.failures else "it cannot be followed"
            raise EvidenceMismatch(f"the run's ledger record does not hold: {first}")
        self._history = report.history
        self._anchored = report.origin_proven
        # A model may stand after several rounds (an aborted one keeps its base): the last counts.
        self._at = {self._history.rules.initial_model: (0, "")} | {
            past.final_model: (past.opening.round, past.outcome.name)
            for past in self._history.rounds
            if past.final_model is not None
        }

    def names(self, digest: bytes) -> bool:
        """Say whether the model is final."""
        return digest in self._at

    def provenance(self, digest: bytes) -> Provenance:
        """Return what is known of a model.

        Raises:
            ModelNotFinal: nothing is.
        """
        if digest not in self._at:
            raise ModelNotFinal(f"the ledger names no final model {digest.hex()[:16]}…")
        number, outcome = self._at[digest]
        return Provenance(
            round=number,
            outcome=outcome,
            federation=self._history.rules.federation_id.hex(),
            latest=digest == self._history.model,
            anchored=self._anchored,
        )
