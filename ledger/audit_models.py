"""The models level: the chain, and the models and sums that its digests name.

Ordering rules, round by round (a step relies only on those before it):

1. The configuration hashes to the digest on the chain, and names the chain's norm bound; every
   accepted mechanism protects no less than its privacy plan asks.
2. The base model and every proposed sum and model hash to their digests and decode canonically.
3. Every coordinate of S lies within QMAX times the accepted weight.
4. T_j = <r_j, S> for the chain's own totals: S is the sum of what the probes are of.
5. The proposed model is, byte for byte, base + S * step / W by the normative formula, or what the
   round's rule makes of them (`ledger.server_rule`); what does not travel in the round
   (`ledger.travels`) is the base's.

In a round that became final each is a failure. In one that was aborted nothing was built on the
proposal: what is wrong with it then is a note, and tells whether a dissent was borne out. A stored
file that is not what its name says is a failure in any round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ledger.audit_privacy import check_mechanisms
from ledger.canonical import canonical_json, config_digest, parse_json, sha256
from ledger.errors import (
    CodecError,
    ConfigError,
    ContractError,
    EvidenceErased,
    EvidenceMismatch,
    EvidenceMissing,
    ModelDigestMismatch,
    StoreError,
    SumError,
    SumMismatch,
    ThoracleError,
)
from ledger.facts import Objects, Severity
from ledger.findings import Book
from ledger.manifest import Manifest, decode_model, decode_tensors, encode_model
from ledger.probe import probe_sum
from ledger.quantise import check_sum_range
from ledger.replica import History
from ledger.replica_round import RoundHistory
from ledger.retention import Retention
from ledger.server_rule import ServerRule, next_model
from ledger.statement import Outcome, Proposal
from ledger.travels import PhaseTerms, update_manifest

T = TypeVar("T")

MAX_CONFIG = 1 << 20
ERASED = "erased as declared"
Folder = Literal["models", "sums", "configs", "evidence"]
_SUFFIX = {"models": ".safetensors", "sums": ".safetensors", "configs": ".json", "evidence": ""}


@dataclass(kw_only=True)
class RoundArithmetic:
    """What the models level knows of one round, for the replay.

    ``manifest`` is of the model, ``update`` of what travels (updates and sum); both are known or
    none. ``phase`` is empty where the configuration names none. ``expired`` is what of the round
    may have been erased (`ledger.retention`). ``sum_in_range``, ``sum_agrees`` (with T) and
    ``model_agrees`` are what a hospital could find wrong with the proposal; false also where it
    could not be checked.
    """

    past: RoundHistory
    config: dict[str, object] = field(default_factory=dict)
    manifest: Manifest | None = None
    update: Manifest | None = None
    phase: str = ""
    step_exponent: int = 0
    rule: ServerRule = field(default_factory=ServerRule)
    expired: frozenset[str] = frozenset()
    sum_in_range: bool = False
    sum_agrees: bool = False
    model_agrees: bool = False


@dataclass(kw_only=True)
class Auditor:
    """One round's book: findings carry its number, and the severity its outcome gives them."""

    book: Book
    past: RoundHistory
    expired: frozenset[str] = frozenset()

    def erased(self, what: str, missing: str) -> None:
        """Note that something is gone whose declared life is over."""
        self.check(
            False,
            ERASED,
            f"erased as declared, so not checked: {missing}",
            EvidenceErased,
            found=what,
            severity="note",
        )

    @property
    def severity(self) -> Severity:
        """A fault in a round that was aborted harms nothing: the base model stands."""
        return "note" if self.past.outcome == Outcome.ABORTED else "failure"

    def check(
        self,
        holds: bool,
        check: str,
        sentence: str,
        error: type[ThoracleError],
        *,
        hospital: str = "",
        expected: object = "",
        found: object = "",
        severity: Severity | None = None,
    ) -> bool:
        """As ``Book.check``, about this round."""
        return self.book.check(
            holds,
            check,
            sentence,
            expected=expected,
            found=found,
            error=error,
            round=self.past.opening.round,
            hospital=hospital,
            severity=severity or self.severity,
        )

    def attempt(self, check: str, what: str, step: Callable[[], T], hospital: str = "") -> T | None:
        """Return what ``step`` gives; where it raises on purpose, a finding and None."""
        try:
            result = step()
        except (CodecError, StoreError, SumError, ContractError) as error:
            if isinstance(error, EvidenceMissing) and "models" in self.expired:
                self.erased("models", str(error))
                return None
            # A stored file that is not what its name says was edited, however its round ended.
            edited: Severity | None = "failure" if isinstance(error, EvidenceMismatch) else None
            self.check(
                False, check, f"{what}: {error}", type(error), hospital=hospital, severity=edited
            )
            return None
        self.check(True, check, what, ThoracleError, hospital=hospital)
        return result


def fetch(objects: Objects, folder: Folder, digest: bytes) -> bytes:
    """Return an object, its bytes compared with its name.

    Raises:
        EvidenceMissing: it is not there.
        EvidenceMismatch: it is not what its name says.
    """
    data = objects.get(folder, digest)
    found = sha256(data)
    if found != digest:
        name = f"{folder}/{digest.hex()}{_SUFFIX[folder]}"
        raise EvidenceMismatch(f"{name} holds bytes whose digest is {found.hex()}")
    return data


def audit_models(
    history: History,
    objects: Objects,
    book: Book,
    short: frozenset[tuple[int, int]] = frozenset(),
) -> tuple[RoundArithmetic, ...]:
    """Check the models level in the order of the module's docstring.

    ``short`` are the (round, seat) of commits that the chain level found to charge too little.
    """
    digest, base, looked = history.rules.initial_model, None, False
    closed = sum(past.outcome != Outcome.NONE for past in history.rounds)
    found = []
    for past in history.rounds:
        known = _read_config(past, objects, book, closed)
        auditor = Auditor(book=book, past=past, expired=known.expired)
        if past.opening.base_model != digest or not looked:
            digest, looked = past.opening.base_model, True
            base = _base(objects, digest, auditor)
        check_mechanisms(past, known.config, short, book)
        if past.proposal is not None:
            model = _read_proposal(known, past.proposal, base, objects, auditor)
            if past.final_model is not None:
                # What an expired round has lost the next may still need: it is looked for again.
                looked = model is not None or not known.expired
                digest, base = past.final_model, model
        found.append(known)
    return tuple(found)


def _base(objects: Objects, digest: bytes, auditor: Auditor) -> bytes | None:
    book, number = auditor.book, auditor.past.opening.round
    try:
        model = fetch(objects, "models", digest)
    except StoreError as error:
        if isinstance(error, EvidenceMissing) and "models" in auditor.expired:
            auditor.erased("models", f"the base model: {error}")
            return None
        sentence = f"the base model cannot be used: {error}"
        book.check(False, "base model digest", sentence, error=type(error), round=number)
        return None
    book.check(True, "base model digest", "", error=EvidenceMissing)
    return model


def _read_config(past: RoundHistory, objects: Objects, book: Book, closed: int) -> RoundArithmetic:
    """Read a round's configuration; what cannot be used is a finding whatever the outcome."""
    known, opening = RoundArithmetic(past=past), past.opening
    name = f"configs/{opening.config_digest.hex()}.json"

    def read() -> None:
        data = objects.get("configs", opening.config_digest)
        config = parse_json(data, MAX_CONFIG)
        if not isinstance(config, dict) or config_digest(config) != opening.config_digest:
            raise EvidenceMismatch(f"{name} is not what its name says")
        if canonical_json(config) != data:
            raise EvidenceMismatch(f"{name} is not written canonically")
        quantiser = config.get("quantiser")
        exponent = quantiser.get("step_exponent") if isinstance(quantiser, dict) else None
        if not isinstance(quantiser, dict) or quantiser.get("norm_bound") != opening.norm_bound:
            raise EvidenceMismatch(f"{name} names another norm bound than the chain")
        if not isinstance(exponent, int):
            raise EvidenceMismatch(f"{name} names no quantisation step")
        try:
            known.expired = Retention.of_config(config).over(opening.round, closed)
            known.rule = ServerRule.of_config(config)
            terms = PhaseTerms.of_config(config)
            known.phase = terms.name if terms else ""
            manifest = Manifest.from_json(config.get("manifest"))
            known.manifest, known.update = manifest, update_manifest(manifest, config)
        except ConfigError as error:
            raise EvidenceMismatch(f"{name}: {error}") from None
        known.step_exponent, known.config = exponent, config

    always = Auditor(book=book, past=replace(past, outcome=Outcome.NONE))
    always.attempt("configuration digest", "the round's configuration cannot be used", read)
    return known


def _read_proposal(
    known: RoundArithmetic,
    proposal: Proposal,
    base: bytes | None,
    objects: Objects,
    auditor: Auditor,
) -> bytes | None:
    """Check one proposal; return the bytes of its model, None where they cannot be had."""
    unusable = "the sum cannot be used"
    total = auditor.attempt(
        "sum digest", unusable, lambda: fetch(objects, "sums", proposal.sum_digest)
    )
    model = auditor.attempt(
        "model digest",
        "the proposed model cannot be used",
        lambda: fetch(objects, "models", proposal.model_digest),
    )
    manifest, update = known.manifest, known.update
    if manifest is None or update is None or total is None:
        return model

    def decoded() -> NDArray[np.int64]:
        vector = decode_tensors(total, update, "I64")
        check_sum_range(vector, proposal.accepted_weight)
        return vector

    vector = auditor.attempt("sum canonical and in range", unusable, decoded)
    if vector is None:
        return model
    own = probe_sum(proposal.beacon, vector)
    known.sum_in_range, known.sum_agrees = True, own == proposal.totals
    for j, (stored, recomputed) in enumerate(zip(proposal.totals, own, strict=True)):
        auditor.check(
            stored == recomputed,
            "T = <r, S>",
            f"probe {j} of the published sum is not the total that the contract computed from"
            " what the hospitals committed",
            SumMismatch,
            expected=stored,
            found=recomputed,
        )
    if base is not None:
        _check_model(known, (manifest, update), base, vector, auditor)
    return model


def _check_model(
    known: RoundArithmetic,
    manifests: tuple[Manifest, Manifest],
    base: bytes,
    total: NDArray[np.int64],
    auditor: Auditor,
) -> None:
    proposal, (manifest, update) = known.past.proposal, manifests
    if proposal is None:
        return

    def recomputed() -> bytes:
        before = manifest.flatten(decode_model(base, manifest))
        weight, exponent = proposal.accepted_weight, known.step_exponent
        after = next_model(manifest, update, before, total, weight, exponent, known.rule)
        return sha256(encode_model(manifest.unflatten(after)))

    own = auditor.attempt("base model canonical", "the next model cannot be computed", recomputed)
    if own is not None:
        known.model_agrees = own == proposal.model_digest
        auditor.check(
            known.model_agrees,
            "model arithmetic",
            "the proposed model is not base + S * step / W"
            if not known.rule.adaptive
            else f"the proposed model is not what the rule {known.rule.name} makes of base and S",
            ModelDigestMismatch,
            expected=own,
            found=proposal.model_digest,
        )
