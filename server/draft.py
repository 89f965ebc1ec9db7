"""From accepted updates to everything a proposal says: S, the next model and the probes.

Deterministic: the same decisions give the same bytes on any machine, so a coordinator that
restarts after deciding proposes exactly what it had decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ledger.canonical import sha256
from ledger.errors import NormExceeded, TooFewAccepted
from ledger.manifest import Manifest, decode_model, encode_model, encode_tensors
from ledger.probe import probe_update
from ledger.server_rule import ServerRule, next_model
from ledger.statement import Commit, Domain, beacon_of, bitmap_of, norm_cap
from server.decide import Decisions
from server.fedavg import weighted_sum


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What will be proposed.

    Attributes:
        decisions: who is in and who is not.
        total_weight: W, the accepted effective weight.
        sum_bytes: S as a canonical I64 tensor file.
        model_bytes: the next model as a canonical F32 tensor file.
        beacon: the Fiat-Shamir beacon the contract will compute as well.
        probes: seat to its 16 probes, for every accepted hospital.
    """

    decisions: Decisions
    total_weight: int
    sum_bytes: bytes = field(repr=False)
    model_bytes: bytes = field(repr=False)
    beacon: bytes
    probes: dict[int, tuple[int, ...]]

    @property
    def sum_digest(self) -> bytes:
        """SHA-256 of the sum's file."""
        return sha256(self.sum_bytes)

    @property
    def model_digest(self) -> bytes:
        """SHA-256 of the model's file."""
        return sha256(self.model_bytes)


@dataclass(frozen=True, kw_only=True)
class DraftFacts:
    """What a draft needs beside the decisions: all of it public.

    ``manifest`` is of the model, ``update`` of what travels in the round.
    """

    domain: Domain
    manifest: Manifest
    update: Manifest
    step_exponent: int
    norm_bound: int
    base_model: bytes
    commits: Mapping[str, Commit]
    rule: ServerRule = field(default_factory=ServerRule)


def draft(decisions: Decisions, facts: DraftFacts) -> Draft:
    """Sum the accepted updates, apply the sum and probe every update.

    The contract's norm cap is checked here first: a hospital over it (about one in a million of
    those at the bound, or a liar the screen let through) is refused and the sum drawn up again,
    because the contract would refuse the whole proposal.

    Raises:
        TooFewAccepted: nobody is left.
    """
    while True:
        found = _draft_once(decisions, facts)
        over = _over_cap(found, facts.norm_bound)
        if over is None:
            return found
        decisions = decisions.refuse(
            over, NormExceeded(f"{over}'s probes are over the norm cap of the contract")
        )


def _draft_once(decisions: Decisions, facts: DraftFacts) -> Draft:
    accepted = decisions.accepted()
    if not accepted:
        raise TooFewAccepted("no update was accepted", accepted=0, needed=1)
    pairs = ((d.weight, decisions.updates[d.hospital]) for d in accepted)
    total, weight = weighted_sum(pairs, facts.update.size)
    base = facts.manifest.flatten(decode_model(facts.base_model, facts.manifest))
    model = facts.manifest.unflatten(
        next_model(
            facts.manifest, facts.update, base, total, weight, facts.step_exponent, facts.rule
        )
    )
    sum_bytes, model_bytes = encode_tensors(facts.update, total), encode_model(model)
    beacon = beacon_of(
        federation_id=facts.domain.federation_id,
        round=decisions.round,
        sum_digest=sha256(sum_bytes),
        model_digest=sha256(model_bytes),
        accepted=bitmap_of([d.seat for d in accepted if d.seat is not None]),
        commit_hashes=[
            facts.commits[d.hospital].commit_hash(facts.domain.federation_id) for d in accepted
        ],
    )
    return Draft(
        decisions=decisions,
        total_weight=weight,
        sum_bytes=sum_bytes,
        model_bytes=model_bytes,
        beacon=beacon,
        probes={
            d.seat: probe_update(beacon, decisions.updates[d.hospital])
            for d in accepted
            if d.seat is not None
        },
    )


def _over_cap(found: Draft, norm_bound: int) -> str | None:
    for decision in found.decisions.accepted():
        squares = sum(t * t for t in found.probes[decision.seat or 0])
        if 12 * squares > norm_cap(norm_bound):
            return decision.hospital
    return None
