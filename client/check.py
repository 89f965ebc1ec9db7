"""Pure checks: an order against the chain, and a proposal against everything (protocol 2 and 11).

No disk, no network, no clock: facts in, an error or nothing out, so that every row of the attack
table can be read here. The order of the checks of a proposal is chosen so that each kind of fraud
has one name, wherever it is seen:

1. own standing: the chain holds *our* commit with our weight, on one side of the proposal;
2. the served bytes are those of the proposed digest, canonical, and in range;
3. the beacon follows from the chain's own commit hashes (a node that lies is caught here);
4. our own recorded probes are those of our own update (a coordinator that lies about us alone);
5. the contract's totals are the weighted sums of the recorded probes, and those of the served sum
   (a wrong sum, weight, or set of hospitals is caught here by *every* honest hospital);
6. base + sum is the proposed model, bit for bit, and what does not travel is the base's.

Step 4 comes before step 5 because a false probe breaks both, and only the hospital it was forged
for can tell why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.terms import RoundTerms
from ledger.canonical import sha256
from ledger.errors import (
    BadKey,
    CodecError,
    ConfigError,
    ModelDigestMismatch,
    ModelNotFinal,
    NonFiniteUpdate,
    NormExceeded,
    OpeningMismatch,
    ParentMismatch,
    PolicyViolation,
    ProbeMismatch,
    StaleModel,
    StandingMismatch,
    SumMismatch,
    WrongRound,
)
from ledger.manifest import decode_tensors, encode_model, model_digest
from ledger.probe import probe_sum, probe_update
from ledger.quantise import check_sum_range, squared_norm
from ledger.seal import key_digest
from ledger.server_rule import ServerRule, next_model
from ledger.statement import PROBES, Commit, Domain, Opening, Proposal, beacon_of, seats_of
from ledger.update import decode_opening, opening_digest


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What the chain says about models before a round.

    Attributes:
        initial: digest of the federation's first model.
        finals: digests of final models, oldest first, without the initial one.
        proposed: digests of every model ever proposed.
        quorum_only: digests of final models that some hospitals never attested.
    """

    initial: bytes
    finals: tuple[bytes, ...]
    proposed: frozenset[bytes]
    quorum_only: frozenset[bytes]

    @property
    def current(self) -> bytes:
        """Digest of the last final model: the only base of the next round."""
        return self.finals[-1] if self.finals else self.initial


def check_base(offered: bytes, opening: Opening, lineage: Lineage, *, quorum_only: bool) -> None:
    """Check that an offered model is the one this round starts from.

    Args:
        offered: digest of the model in the order.
        opening: the round as the chain opened it.
        lineage: the chain's models.
        quorum_only: whether the hospital's policy accepts a base that some never attested.

    Raises:
        ParentMismatch: the round's base, or the very first model, is not the chain's.
        StaleModel: the offered model is an older final one.
        ModelNotFinal: the offered model was proposed, but never became final.
        ModelDigestMismatch: the offered model is none the chain ever heard of.
        PolicyViolation: the base is final by a quorum only, which the policy refuses.
    """
    if opening.base_model != lineage.current:
        raise ParentMismatch("the round does not start from the last final model")
    if offered != opening.base_model:
        if offered == lineage.initial or offered in lineage.finals:
            raise StaleModel("the offered model is older than the last final one")
        if offered in lineage.proposed:
            raise ModelNotFinal("the offered model was proposed, but is not final on the chain")
        if not lineage.finals:
            raise ParentMismatch("the offered first model is not the federation's initial model")
        raise ModelDigestMismatch("the offered model is not the one the chain names")
    if offered in lineage.quorum_only and not quorum_only:
        raise PolicyViolation("the base was final by a quorum only, which this hospital refuses")


def check_order(
    terms: RoundTerms, opening: Opening, public_keys: tuple[bytes, ...], key_epoch: int
) -> None:
    """Check that an order is the one the chain opened the round with.

    Raises:
        WrongRound: it names another round.
        PolicyViolation: its configuration is not the one whose digest is on the chain, or its
            norm bound is not the chain's.
        BadKey: its keys are not those whose digest is on the chain.
    """
    if terms.round != opening.round:
        raise WrongRound(f"the order is for round {terms.round}, the chain's is {opening.round}")
    if terms.digest != opening.config_digest:
        raise PolicyViolation("the configuration is not the one this round was opened with")
    if terms.quantiser.norm_bound != opening.norm_bound:
        raise PolicyViolation("the configuration's norm bound is not the one on the chain")
    if key_digest(public_keys, key_epoch) != opening.key_digest:
        raise BadKey("the keys to seal to are not those announced on the chain")


@dataclass(frozen=True, kw_only=True)
class OwnUpdate:
    """What this hospital knows of its own part in a round.

    Attributes:
        seal_digest: of the ciphertext it sent.
        opening_digest: of the update it sealed.
        q: the update itself, int16, shape ``(u,)``.
    """

    seal_digest: bytes
    opening_digest: bytes
    q: NDArray[np.int16]


@dataclass(frozen=True, kw_only=True)
class Case:
    """All the facts of one proposal, as one hospital sees them.

    Attributes:
        domain: the federation.
        hospital: this hospital's address.
        seat: its seat.
        weight: its own effective weight, by its own registration and the round's cap.
        opening: the round as the chain opened it.
        commits: the round's commits by address, as the chain holds them.
        proposal: the proposal, as the chain holds it.
        terms: the round's configuration, as this hospital accepted it.
        base: the model the round started from, flat float32, shape ``(d,)``.
        sum_bytes: the sum as the coordinator served it.
        own: this hospital's update; None if it sent none.
    """

    domain: Domain
    hospital: str
    seat: int
    weight: int
    opening: Opening
    commits: Mapping[str, Commit]
    proposal: Proposal
    terms: RoundTerms
    base: NDArray[np.float32]
    sum_bytes: bytes
    own: OwnUpdate | None

    @property
    def accepted(self) -> bool:
        """Whether the proposal accepts this hospital."""
        return bool(self.proposal.accepted >> self.seat & 1)

    @property
    def refused(self) -> bool:
        """Whether the proposal refuses this hospital."""
        return bool(self.proposal.refused >> self.seat & 1)


def check_proposal(case: Case) -> bytes:
    """Return the canonical file of the new model, if the proposal holds in every respect.

    Raises:
        StandingMismatch: it misstates this hospital's commit, weight or side.
        SumOutOfRange: a coordinate of the sum is beyond what the weights allow.
        ProbeMismatch: the probes recorded for this hospital are not those of its update.
        SumMismatch: the served sum is not the one the chain totalled.
        ModelDigestMismatch: base + sum is not the proposed model.
    """
    accepted = check_standing(case)
    total = _decode_sum(case)
    weight = sum(commit.weight for commit in accepted)
    if weight != case.proposal.accepted_weight or not weight:
        raise SumMismatch("the accepted weight is not the sum of the accepted hospitals' weights")
    check_sum_range(total, weight)
    _check_beacon(case, accepted)
    _check_own_probes(case)
    _check_totals(case, accepted, total)
    return _recompute_model(case, total, weight)


def check_standing(case: Case) -> list[Commit]:
    """Return the accepted commits by ascending seat, own standing checked.

    Raises:
        StandingMismatch: see :func:`check_proposal`.
    """
    by_seat = {commit.seat: commit for commit in case.commits.values()}
    listed = set(seats_of(case.proposal.accepted | case.proposal.refused))
    mine = case.commits.get(case.hospital)
    if case.proposal.accepted & case.proposal.refused or listed != set(by_seat):
        raise StandingMismatch("the proposal does not cover every commit exactly once")
    if (mine is None) != (case.own is None):
        raise StandingMismatch("the chain and this hospital disagree on whether it committed")
    if mine is not None and case.own is not None:
        if mine.seat != case.seat or mine.weight != case.weight:
            raise StandingMismatch("this hospital's commit has another seat or weight than its own")
        if (mine.seal_digest, mine.opening_digest) != (
            case.own.seal_digest,
            case.own.opening_digest,
        ):
            raise StandingMismatch("the commit in this hospital's name is not its own")
    return [by_seat[seat] for seat in seats_of(case.proposal.accepted)]


def _decode_sum(case: Case) -> NDArray[np.int64]:
    if sha256(case.sum_bytes) != case.proposal.sum_digest:
        raise SumMismatch("the served sum is not the one whose digest was proposed")
    try:
        return decode_tensors(case.sum_bytes, case.terms.update, "I64")
    except CodecError as error:
        raise SumMismatch(f"the proposed sum is not a canonical one: {error}") from None


def _check_beacon(case: Case, accepted: list[Commit]) -> None:
    federation = case.domain.federation_id
    beacon = beacon_of(
        federation_id=federation,
        round=case.opening.round,
        sum_digest=case.proposal.sum_digest,
        model_digest=case.proposal.model_digest,
        accepted=case.proposal.accepted,
        commit_hashes=[commit.commit_hash(federation) for commit in accepted],
    )
    if beacon != case.proposal.beacon:
        raise SumMismatch("the beacon does not follow from the commits on the chain")


def _check_own_probes(case: Case) -> None:
    if case.own is None or not case.accepted:
        return
    recorded = tuple(case.proposal.probes.get(case.seat, ()))
    if recorded != tuple(probe_update(case.proposal.beacon, case.own.q)):
        raise ProbeMismatch("the probes recorded for this hospital are not of its own update")


def _check_totals(case: Case, accepted: list[Commit], total: NDArray[np.int64]) -> None:
    probes = case.proposal.probes
    if set(probes) != {commit.seat for commit in accepted}:
        raise SumMismatch("the recorded probes are not those of the accepted hospitals")
    totals = tuple(
        sum(commit.weight * probes[commit.seat][j] for commit in accepted) for j in range(PROBES)
    )
    if totals != tuple(case.proposal.totals):
        raise SumMismatch("the recorded totals are not the weighted sums of the probes")
    if totals != tuple(probe_sum(case.proposal.beacon, total)):
        raise SumMismatch("the served sum does not agree with the totals on the chain")


def _recompute_model(case: Case, total: NDArray[np.int64], weight: int) -> bytes:
    manifest = case.terms.manifest
    try:
        rule = ServerRule.of_config(case.terms.config)
        exponent = case.terms.quantiser.step_exponent
        vector = next_model(manifest, case.terms.update, case.base, total, weight, exponent, rule)
    except ConfigError as error:
        raise ModelDigestMismatch(f"the next model cannot be computed: {error}") from None
    except NonFiniteUpdate:
        raise ModelDigestMismatch("base plus sum is not a finite model") from None
    data = encode_model(manifest.unflatten(vector))
    if model_digest(data) != case.proposal.model_digest:
        raise ModelDigestMismatch("base plus sum is not the proposed model")
    return data


def recheck_own(case: Case, opening_bytes: bytes, sealed: bytes) -> None:
    """Check this hospital's own finished update the way the coordinator should have.

    Raises:
        CodecError: the spooled update is not a canonical update of what travels.
        OpeningMismatch: it is not the one that was committed.
        NormExceeded: its norm is over the round's bound.
    """
    mine = case.commits[case.hospital]
    salt, update, q = decode_opening(opening_bytes, case.terms.update)
    found = opening_digest(
        case.domain, case.hospital, case.opening.base_model, case.opening.round, salt, update
    )
    if found != mine.opening_digest or sha256(sealed) != mine.seal_digest:
        raise OpeningMismatch("the spooled update is not the one that was committed")
    if squared_norm(q) > case.opening.norm_bound**2:
        raise NormExceeded("the update's norm is over the round's bound")
