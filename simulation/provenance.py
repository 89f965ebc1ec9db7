"""Whether the ledger knows a model: looked up in a run's exported chain before the model is used.

The whole record is audited at the chain level (hashes, signatures, execution again), so a bundle
that was edited to name another model is refused as a whole. A mean of models is known by them: all
are looked up, and the mean is computed again (``simulation.averaging``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ledger.anchors import Anchors
from ledger.audit import audit
from ledger.audit_models import MAX_CONFIG
from ledger.canonical import config_digest, parse_json
from ledger.errors import EvidenceMismatch, ModelNotFinal
from ledger.files import read_bounded
from ledger.replica_round import RoundHistory
from ledger.run_facts import open_source, read_facts
from ledger.statement import Outcome
from ledger.travels import PhaseTerms
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
    parts = known.in_a_row(average.of)
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
        self._run = run
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

    def in_a_row(self, digests: Sequence[bytes]) -> list[Provenance]:
        """Return what is known of models that a mean is of.

        Raises:
            ModelNotFinal: one is not final.
            EvidenceMissing: a round's configuration is not in the run's folder.
            EvidenceMismatch: they are not those of verified rounds of one phase, one after the
                other; or a configuration is not the one that the chain names.
        """
        parts = [self.provenance(each) for each in digests]
        verified = [p for p in self._history.rounds if p.outcome is Outcome.SUM_VERIFIED]
        finals = [past.final_model for past in verified]
        starts = range(len(finals) - len(digests) + 1)
        at = next((i for i in starts if finals[i : i + len(digests)] == list(digests)), None)
        phases = set() if at is None else {self._phase(p) for p in verified[at:][: len(digests)]}
        if len(phases) != 1:
            raise EvidenceMismatch(
                "an average is of the models of verified rounds of one phase, one after the other"
            )
        return parts

    def _phase(self, past: RoundHistory) -> str:
        digest = past.opening.config_digest
        name = f"configs/{digest.hex()}.json"
        config = parse_json(read_bounded(self._run / name, MAX_CONFIG), MAX_CONFIG)
        if not isinstance(config, dict) or config_digest(config) != digest:
            raise EvidenceMismatch(f"{name} is not the configuration that the chain names")
        terms = PhaseTerms.of_config(config)
        return terms.name if terms else ""

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
