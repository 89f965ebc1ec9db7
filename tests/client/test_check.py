"""A proposal against everything: one honest case, and one thing changed at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from client.check import Case, Lineage, OwnUpdate, check_base, check_proposal, recheck_own
from client.terms import RoundTerms
from ledger.canonical import canonical_json, config_digest, sha256
from ledger.errors import (
    ModelDigestMismatch,
    ModelNotFinal,
    NormExceeded,
    OpeningMismatch,
    ParentMismatch,
    PolicyViolation,
    ProbeMismatch,
    StaleModel,
    StandingMismatch,
    SumError,
    SumMismatch,
    SumOutOfRange,
    ThoracleError,
)
from ledger.manifest import Manifest, TensorSpec, encode_model, encode_tensors
from ledger.probe import probe_update
from ledger.quantise import apply_sum
from ledger.statement import (
    PROBES,
    Commit,
    Domain,
    Mechanism,
    Opening,
    Proposal,
    beacon_of,
    bitmap_of,
)
from ledger.update import encode_opening, opening_digest
from tests.client.federation import account

I16 = NDArray[np.int16]
I64 = NDArray[np.int64]
MANIFEST = Manifest((TensorSpec(name="w", shape=(4, 6)), TensorSpec(name="z", shape=(3,))))
DOMAIN = Domain(federation_id=sha256(b"f"), chain_id=7, contract=account("contract").address)
HOSPITALS = [account(f"hospital {n}").address for n in range(3)]
WEIGHTS = (96, 192, 256)
SALT = bytes(32)
SEALED = b"sealed"


def terms_of(number: int = 1) -> RoundTerms:
    config = {
        "format": "thoracle/round-config/v1",
        "manifest": MANIFEST.to_json(),
        "quantiser": {"step_exponent": 10, "norm_bound": 100_000},
        "learner": {"name": "fake"},
        "train": {},
        "data": None,
        "privacy": None,
        "screen": {},
        "metrics": [],
        "round": number,
        "rounds": 3,
    }
    return RoundTerms.parse(canonical_json(config))


TERMS = terms_of()
BASE = np.linspace(-1, 1, MANIFEST.size, dtype=np.float32)
OPENING = Opening(
    round=1,
    open_head=sha256(b"head"),
    base_model=sha256(b"base"),
    config_digest=config_digest(TERMS.config),
    key_digest=sha256(b"keys"),
    norm_bound=100_000,
    commit_deadline=2,
    attest_window=3,
    weight_cap=2**24 - 1,
    roster_count=3,
    roster_weight=sum(WEIGHTS),
)


def updates(seed: int = 0) -> list[I16]:
    generator = np.random.default_rng(seed)
    return [generator.integers(-900, 900, MANIFEST.size).astype(np.int16) for _ in HOSPITALS]


def opening_of(n: int, q: I16) -> bytes:
    return opening_digest(
        DOMAIN, HOSPITALS[n], OPENING.base_model, 1, SALT, encode_tensors(MANIFEST, q)
    )


def commits_of(qs: list[I16]) -> dict[str, Commit]:
    return {
        HOSPITALS[n]: Commit(
            round=1,
            hospital=HOSPITALS[n],
            seat=n,
            seal_digest=sha256(SEALED),
            opening_digest=opening_of(n, q),
            weight=WEIGHTS[n],
            mechanism=Mechanism(),
        )
        for n, q in enumerate(qs)
    }


def propose(
    qs: list[I16],
    total: I64,
    *,
    accepted: tuple[int, ...] = (0, 1, 2),
    model: bytes | None = None,
    probed: list[I16] | None = None,
    sum_bytes: bytes | None = None,
) -> tuple[Proposal, bytes]:
    """Return a proposal as the contract would record it, and the sum's bytes."""
    commits = commits_of(qs)
    weight = sum(WEIGHTS[n] for n in accepted)
    sum_bytes = encode_tensors(MANIFEST, total) if sum_bytes is None else sum_bytes
    if model is None:
        try:
            model = encode_model(MANIFEST.unflatten(apply_sum(BASE, total, weight, 10)))
        except ThoracleError:
            model = b"no such model"
    bitmap = bitmap_of(accepted)
    beacon = beacon_of(
        federation_id=DOMAIN.federation_id,
        round=1,
        sum_digest=sha256(sum_bytes),
        model_digest=sha256(model),
        accepted=bitmap,
        commit_hashes=[commits[HOSPITALS[n]].commit_hash(DOMAIN.federation_id) for n in accepted],
    )
    probes = {n: probe_update(beacon, (probed or qs)[n]) for n in accepted}
    refused = [n for n in range(3) if n not in accepted]
    proposal = Proposal(
        round=1,
        sum_digest=sha256(sum_bytes),
        model_digest=sha256(model),
        beacon=beacon,
        accepted=bitmap,
        refused=bitmap_of(refused),
        accepted_weight=weight,
        attest_deadline=9,
        reasons=dict.fromkeys(refused, NormExceeded.code),
        probes=probes,
        totals=tuple(sum(WEIGHTS[n] * probes[n][j] for n in accepted) for j in range(PROBES)),
    )
    return proposal, sum_bytes


def sum_of(qs: list[I16], accepted: tuple[int, ...] = (0, 1, 2)) -> I64:
    total = np.zeros(MANIFEST.size, dtype=np.int64)
    for n in accepted:
        total += WEIGHTS[n] * qs[n].astype(np.int64)
    return total


def case_of(n: int, qs: list[I16], proposal: Proposal, sum_bytes: bytes) -> Case:
    return Case(
        domain=DOMAIN,
        hospital=HOSPITALS[n],
        seat=n,
        weight=WEIGHTS[n],
        opening=OPENING,
        commits=commits_of(qs),
        proposal=proposal,
        terms=TERMS,
        base=BASE,
        sum_bytes=sum_bytes,
        own=OwnUpdate(seal_digest=sha256(SEALED), opening_digest=opening_of(n, qs[n]), q=qs[n]),
    )


def honest(n: int = 0, accepted: tuple[int, ...] = (0, 1, 2)) -> Case:
    qs = updates()
    return case_of(n, qs, *propose(qs, sum_of(qs, accepted), accepted=accepted))


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("accepted", [(0, 1, 2), (0, 2), (1,)])
def test_an_honest_proposal_gives_the_same_model_to_everyone(
    n: int, accepted: tuple[int, ...]
) -> None:
    case = honest(n, accepted)
    data = check_proposal(case)
    assert sha256(data) == case.proposal.model_digest


def test_a_bystander_verifies_too() -> None:
    qs = updates()
    proposal, data = propose(qs, sum_of(qs, (0, 2)), accepted=(0, 2))
    commits = {k: v for k, v in commits_of(qs).items() if k != HOSPITALS[1]}
    case = replace(
        case_of(1, qs, replace(proposal, refused=0, reasons={}), data), commits=commits, own=None
    )
    assert check_proposal(case)


@settings(max_examples=60, deadline=None)
@given(
    coordinate=st.integers(0, MANIFEST.size - 1),
    change=st.integers(-(2**20), 2**20).filter(bool),
    n=st.integers(0, 2),
)
def test_any_changed_coordinate_is_a_sum_mismatch(coordinate: int, change: int, n: int) -> None:
    qs = updates()
    total = sum_of(qs)
    total[coordinate] += change
    with pytest.raises(SumMismatch):
        check_proposal(case_of(n, qs, *propose(qs, total)))


def _weight_altered(qs: list[I16]) -> I64:
    return sum_of(qs) + qs[1]


def _dropped(qs: list[I16]) -> I64:
    return sum_of(qs, (0, 2))


def _counted_twice(qs: list[I16]) -> I64:
    return sum_of(qs) + WEIGHTS[2] * qs[2].astype(np.int64)


def _nothing(qs: list[I16]) -> I64:
    return np.zeros(MANIFEST.size, dtype=np.int64)


@pytest.mark.parametrize("tamper", [_weight_altered, _dropped, _counted_twice, _nothing])
@pytest.mark.parametrize("n", [0, 1, 2])
def test_wrong_sums(tamper: Callable[[list[I16]], I64], n: int) -> None:
    qs = updates()
    with pytest.raises(SumMismatch):
        check_proposal(case_of(n, qs, *propose(qs, tamper(qs))))


@pytest.mark.parametrize("extra", [2**45, -(2**45), 2**62, 2**31 - 1])
def test_sum_out_of_range_and_sum_plus_modulus(extra: int) -> None:
    qs = updates()
    total = sum_of(qs)
    total[0] += extra
    with pytest.raises(SumOutOfRange):
        check_proposal(case_of(0, qs, *propose(qs, total)))


def test_model_digest_not_of_sum() -> None:
    qs = updates()
    proposal, data = propose(qs, sum_of(qs), model=b"another model")
    with pytest.raises(ModelDigestMismatch):
        check_proposal(case_of(0, qs, proposal, data))


def test_false_probe_is_named_by_its_victim_and_seen_by_all() -> None:
    qs = updates()
    probed = [qs[0], -qs[1], qs[2]]
    proposal, data = propose(qs, sum_of(qs), probed=probed)
    with pytest.raises(ProbeMismatch):
        check_proposal(case_of(1, qs, proposal, data))
    for n in (0, 2):
        with pytest.raises(SumMismatch):
            check_proposal(case_of(n, qs, proposal, data))


def test_colluder_that_absorbs_the_difference_is_not_seen_by_the_others() -> None:
    """What the protocol does not promise: only a replay names hospital 2 here."""
    qs = updates()
    other = [qs[0], qs[1], qs[2] + np.int16(5)]
    proposal, data = propose(qs, sum_of(other), probed=other)
    for n in (0, 1):
        assert check_proposal(case_of(n, qs, proposal, data))
    with pytest.raises(ProbeMismatch):
        check_proposal(case_of(2, qs, proposal, data))


def test_false_refusal_of_a_hospital_still_needs_a_right_sum() -> None:
    qs = updates()
    proposal, data = propose(qs, sum_of(qs), accepted=(0, 2))
    with pytest.raises(SumMismatch):
        check_proposal(case_of(1, qs, proposal, data))


CHANGES: dict[str, tuple[Callable[[Case], Case], type[SumError]]] = {
    "commit of another": (
        lambda c: replace(
            c,
            commits={
                **c.commits,
                c.hospital: replace(c.commits[c.hospital], seal_digest=bytes(32)),
            },
        ),
        StandingMismatch,
    ),
    "commit vanished": (
        lambda c: replace(
            c,
            commits={k: v for k, v in c.commits.items() if k != c.hospital},
            proposal=replace(c.proposal, accepted=c.proposal.accepted & ~1),
        ),
        StandingMismatch,
    ),
    "commit not covered": (
        lambda c: replace(c, proposal=replace(c.proposal, accepted=c.proposal.accepted & ~1)),
        StandingMismatch,
    ),
    "on both sides": (
        lambda c: replace(c, proposal=replace(c.proposal, refused=1)),
        StandingMismatch,
    ),
    "weight altered": (
        lambda c: replace(
            c,
            commits={**c.commits, c.hospital: replace(c.commits[c.hospital], weight=1)},
        ),
        StandingMismatch,
    ),
    "other sum served": (lambda c: replace(c, sum_bytes=c.sum_bytes[:-1]), SumMismatch),
    "accepted weight": (
        lambda c: replace(c, proposal=replace(c.proposal, accepted_weight=1)),
        SumMismatch,
    ),
    "beacon": (lambda c: replace(c, proposal=replace(c.proposal, beacon=bytes(32))), SumMismatch),
    "totals": (
        lambda c: replace(
            c,
            proposal=replace(c.proposal, totals=(1 + c.proposal.totals[0], *c.proposal.totals[1:])),
        ),
        SumMismatch,
    ),
    "probes missing": (
        lambda c: replace(
            c,
            proposal=replace(
                c.proposal, probes={k: v for k, v in c.proposal.probes.items() if k != 2}
            ),
        ),
        SumMismatch,
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_one_changed_fact(name: str) -> None:
    change, error = CHANGES[name]
    with pytest.raises(error):
        check_proposal(change(honest()))


def test_sum_that_is_not_canonical() -> None:
    qs = updates()
    padded = encode_tensors(MANIFEST, sum_of(qs)) + b"\0"
    model = encode_model(MANIFEST.unflatten(apply_sum(BASE, sum_of(qs), sum(WEIGHTS), 10)))
    proposal, data = propose(qs, sum_of(qs), sum_bytes=padded, model=model)
    with pytest.raises(SumMismatch, match="canonical"):
        check_proposal(case_of(0, qs, proposal, data))


def test_a_weight_that_differs_on_chain_is_seen_in_the_totals() -> None:
    """The contract weighs by what it holds: another hospital's weight cannot be altered either."""
    case = honest()
    other = {**case.commits, HOSPITALS[1]: replace(case.commits[HOSPITALS[1]], weight=191)}
    with pytest.raises(SumMismatch):
        check_proposal(replace(case, commits=other))


# ---- a refused hospital's own update ----


def _own_file(q: I16) -> bytes:
    return encode_opening(SALT, encode_tensors(MANIFEST, q))


def test_recheck_of_an_honest_update() -> None:
    case = honest(1, (0, 2))
    recheck_own(case, _own_file(updates()[1]), SEALED)


@pytest.mark.parametrize("what", ["update", "sealed", "norm"])
def test_recheck_finds_what_is_wrong(what: str) -> None:
    case, opening, sealed = honest(1, (0, 2)), _own_file(updates()[1]), SEALED
    error: type[ThoracleError] = OpeningMismatch
    if what == "update":
        opening = _own_file(updates()[0])
    elif what == "sealed":
        sealed = b"other"
    else:
        case = replace(case, opening=replace(case.opening, norm_bound=10))
        error = NormExceeded
    with pytest.raises(error):
        recheck_own(case, opening, sealed)


# ---- base models ----


LINEAGE = Lineage(
    initial=b"i" * 32,
    finals=(b"1" * 32, b"2" * 32),
    proposed=frozenset({b"1" * 32, b"2" * 32, b"p" * 32}),
    quorum_only=frozenset({b"2" * 32}),
)


@pytest.mark.parametrize(
    ("offered", "error"),
    [
        (b"1" * 32, StaleModel),
        (b"i" * 32, StaleModel),
        (b"p" * 32, ModelNotFinal),
        (b"x" * 32, ModelDigestMismatch),
        (b"2" * 32, PolicyViolation),
    ],
)
def test_bases(offered: bytes, error: type[ThoracleError]) -> None:
    opening = replace(OPENING, base_model=b"2" * 32)
    with pytest.raises(error):
        check_base(offered, opening, LINEAGE, quorum_only=False)


def test_base_of_the_first_round_and_of_a_fork() -> None:
    lineage = replace(LINEAGE, finals=(), quorum_only=frozenset())
    opening = replace(OPENING, base_model=b"i" * 32)
    check_base(b"i" * 32, opening, lineage, quorum_only=False)
    with pytest.raises(ParentMismatch):
        check_base(b"x" * 32, opening, lineage, quorum_only=False)
    with pytest.raises(ParentMismatch):
        check_base(b"i" * 32, opening, LINEAGE, quorum_only=True)
    check_base(b"2" * 32, replace(opening, base_model=b"2" * 32), LINEAGE, quorum_only=True)
