"""Admission: may this reply enter the sum? Ordered, pure checks, without I/O or state.

Everything the checks need is handed in, read from the chain beforehand, so a replay by an auditor
gives the same answer. The order, cheapest and least revealing first; the first failure decides:

1. the reply names this round                                 -> WrongRound
2. the hospital committed in it (chain first)                 -> CommitMissing
3. the ciphertext is the one whose digest it committed        -> DigestMismatch
4. the reply's numbers are all on the round's allow-list      -> UndeclaredOutput
5. the committed mechanism meets the round's privacy policy   -> PrivacyPolicyViolation
6. the ciphertext opens under this round's context and key    -> SealBroken
7. the plaintext is an opening, canonical, of what travels    -> CodecError's leaves
8. salt and update give the committed opening digest          -> OpeningMismatch, or by name
                                                                 WrongBaseModel, WrongRound,
                                                                 WrongDomain

Only then is the update looked at beside the others (``server.screen``). Check 8 says *which* field
of the opening is foreign when that can be told: it recomputes the digest with each earlier base
model, each earlier round, and each domain that the caller knows of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ledger.canonical import sha256
from ledger.errors import (
    CommitMissing,
    DigestMismatch,
    OpeningMismatch,
    Refusal,
    UndeclaredOutput,
    WrongBaseModel,
    WrongDomain,
    WrongRound,
)
from ledger.manifest import Manifest
from ledger.messages import TrainReply
from ledger.seal import SealContext
from ledger.statement import Commit, Domain, Mechanism, Opening
from ledger.update import decode_opening, opening_digest
from server.mechanism import MechanismPolicy, check_mechanism

LOOK_BACK = 16
"""Rounds and base models that are tried to name what is foreign in an opening: hashing an update
is cheap, but a liar must not make it unbounded."""

Unseal = Callable[[bytes, SealContext], bytes]
"""Opens a ciphertext under a context with the holder's private key, or raises ``SealBroken``."""


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What a hospital declared before this round: its opening balance and its mechanisms."""

    opening: int = 0
    mechanisms: Sequence[Mechanism] = ()


@dataclass(frozen=True, kw_only=True)
class RoundFacts:
    """What the chain and the round's configuration say: all that admission may lean on.

    Attributes:
        domain: this federation.
        opening: the round as the chain opened it.
        commits: every commit of the round, by hospital.
        update: names and shapes of what travels in the round.
        key_epoch: epoch of the keys whose digest the opening names.
        metrics: names a reply's numbers may have.
        mechanism: the round's least privacy, or None.
        spending: earlier declarations, by hospital (missing: none).
        earlier_models: base models of earlier rounds, to name a stale one.
        other_domains: federations known to this party, to name a replay from one.
    """

    domain: Domain
    opening: Opening
    commits: Mapping[str, Commit]
    update: Manifest
    key_epoch: int
    metrics: frozenset[str] = frozenset()
    mechanism: MechanismPolicy | None = None
    spending: Mapping[str, Spending] = field(default_factory=dict)
    earlier_models: Sequence[bytes] = ()
    other_domains: Sequence[Domain] = ()


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """An update that passed every check: ``q`` is int16 of length d, ``weight`` the effective."""

    hospital: str
    seat: int
    weight: int
    q: NDArray[np.int16]


def admit(reply: TrainReply, facts: RoundFacts, unseal: Unseal) -> Admitted:
    """Check one reply in the order of the module's docstring.

    Raises:
        Refusal: the leaf named there.
        SealBroken: the ciphertext does not open.
        CodecError: the leaf that names what is wrong with the opened bytes.
    """
    commit = _check_commit(reply, facts)
    check_metrics(reply.metrics, facts.metrics)
    spending = facts.spending.get(reply.hospital, Spending())
    check_mechanism(
        commit.mechanism,
        facts.mechanism,
        earlier=spending.mechanisms,
        opening=spending.opening,
    )
    context = SealContext(
        domain=facts.domain,
        round=facts.opening.round,
        hospital=reply.hospital,
        base_model=facts.opening.base_model,
        key_epoch=facts.key_epoch,
    )
    salt, update, q = decode_opening(unseal(reply.ciphertext, context), facts.update)
    _check_opening(commit, facts, salt, update)
    return Admitted(hospital=reply.hospital, seat=commit.seat, weight=commit.weight, q=q)


def metrics_of(config: Mapping[str, object]) -> frozenset[str]:
    """Return the names that a round's configuration allows a reply's numbers."""
    names = config.get("metrics")
    return frozenset(names if isinstance(names, list) else ())


def check_metrics(metrics: Mapping[str, object], allowed: frozenset[str]) -> None:
    """Check that a reply says nothing but finite numbers under allowed names.

    Raises:
        UndeclaredOutput: another name, or something else than a finite number.
    """
    for name, value in metrics.items():
        if name not in allowed:
            raise UndeclaredOutput(f"the reply holds {name[:80]!r}, which nobody asked for")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UndeclaredOutput(f"the reply's {name} is not a number")
        if not math.isfinite(value):
            raise UndeclaredOutput(f"the reply's {name} is not finite")


def _check_commit(reply: TrainReply, facts: RoundFacts) -> Commit:
    if reply.round != facts.opening.round:
        raise WrongRound(f"the reply is for round {reply.round}, not {facts.opening.round}")
    commit = facts.commits.get(reply.hospital)
    if commit is None:
        raise CommitMissing(f"{reply.hospital} has no commit in round {reply.round}")
    if sha256(reply.ciphertext) != commit.seal_digest:
        raise DigestMismatch(f"{reply.hospital} sent another ciphertext than it committed")
    return commit


def _check_opening(commit: Commit, facts: RoundFacts, salt: bytes, update: bytes) -> None:
    def digest(domain: Domain, base: bytes, number: int) -> bytes:
        return opening_digest(domain, commit.hospital, base, number, salt, update)

    base, number = facts.opening.base_model, facts.opening.round
    if digest(facts.domain, base, number) == commit.opening_digest:
        return
    foreign: list[tuple[type[Refusal], str, bytes]] = [
        *(
            (WrongBaseModel, "base model", digest(facts.domain, other, number))
            for other in facts.earlier_models[-LOOK_BACK:]
        ),
        *(
            (WrongRound, "round", digest(facts.domain, base, other))
            for other in range(max(0, number - LOOK_BACK), number)
        ),
        *((WrongDomain, "federation", digest(d, base, number)) for d in _variants(facts)),
    ]
    for kind, what, found in foreign:
        if found == commit.opening_digest:
            raise kind(f"{commit.hospital}'s update was committed under another {what}")
    raise OpeningMismatch(f"{commit.hospital} opened another update than it committed")


def _variants(facts: RoundFacts) -> list[Domain]:
    own = facts.domain
    mixed = [
        replace(own, **{name: getattr(other, name)})
        for other in facts.other_domains
        for name in ("federation_id", "chain_id", "contract")
    ]
    return [d for d in (*facts.other_domains, *mixed) if d != own]
