"""Longer stories of one federation: who may do what, and from when."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from eth_utils.address import to_checksum_address

from ledger.statement import BASIS, MAX_WEIGHT, Unit, norm_cap, pack_probes
from tests.contracts.oracle_members import ENROL, REMOVE, SET_COORDINATOR
from tests.contracts.pair import CAP, COORDINATOR, NORM_BOUND, RULES, STRANGER, WINDOW, Pair
from tests.contracts.stages import (
    FOUR,
    NEWCOMER,
    A,
    B,
    C,
    D,
    all_committed,
    finish,
    open_with,
    probes_of,
    proposed,
    spend,
    vote_through,
)


def test_revoke_mid_round_takes_effect_next_round() -> None:
    pair = Pair(registered=4)
    pair.open()
    vote_through(pair, REMOVE, D)
    for name in FOUR:
        assert pair.commit(name) is None
    assert pair.propose() is None
    for name in FOUR:
        assert pair.attest(name) is None
    assert pair.do(STRANGER, "finalise", 1) is None
    pair.open()
    assert pair.commit(D) == "MemberRevoked"
    assert pair.oracle.round.roster == {A, B, C}
    pair.check_state()


def test_a_removed_address_never_returns_and_keeps_its_record() -> None:
    pair = Pair(registered=4)
    pair.run_round(FOUR)
    spent = pair.oracle.hospitals[D].spent
    vote_through(pair, REMOVE, D)
    assert pair.do(A, "vote", ENROL, D) == "AlreadyMember"
    assert pair.do(A, "vote", REMOVE, D) == "MemberRevoked"
    assert pair.do(D, "register", CAP, 0, 1) == "MemberRevoked"
    assert pair.do(D, "lowerCap", 1) == "MemberRevoked"
    assert pair.evm.call("member", D)[4] == spent > 0


def test_first_founder_to_register_cannot_vote_alone() -> None:
    pair = Pair()
    assert pair.do(A, "register", CAP, 0, 1) is None
    assert pair.do(A, "vote", SET_COORDINATOR, A) is None
    assert pair.do(A, "enact", SET_COORDINATOR, A) == "VotesMissing"


def test_votes_count_once_and_lapse_with_the_epoch() -> None:
    pair = Pair(registered=4)
    for name in (A, B):
        assert pair.do(name, "vote", ENROL, NEWCOMER) is None
    assert pair.do(A, "vote", ENROL, NEWCOMER) == "AlreadyVoted"
    assert pair.do(A, "enact", ENROL, NEWCOMER) == "VotesMissing"
    vote_through(pair, SET_COORDINATOR, A)
    assert pair.do(C, "vote", ENROL, NEWCOMER) is None
    assert pair.do(C, "enact", ENROL, NEWCOMER) == "VotesMissing"


def test_a_new_member_joins_from_the_next_round() -> None:
    pair = Pair(registered=4)
    pair.open()
    vote_through(pair, ENROL, NEWCOMER)
    assert pair.do(NEWCOMER, "register", CAP, 5000, 7) is None
    assert pair.commit(NEWCOMER) == "NotMember"
    assert pair.do(COORDINATOR, "abort", 1) is None
    pair.open()
    assert pair.commit(NEWCOMER, mechanism=spend(5000)) == "BudgetNotCharged"
    assert pair.commit(NEWCOMER, mechanism=spend(5001)) is None
    pair.check_state()


def test_members_replace_a_coordinator_that_holds_up_a_round() -> None:
    pair = Pair(registered=4)
    pair.open()
    vote_through(pair, SET_COORDINATOR, STRANGER)
    assert pair.do(COORDINATOR, "abort", 1) == "DeadlineNotPassed"
    assert pair.do(STRANGER, "abort", 1) is None
    assert open_with(pair) == "NotCoordinator"
    assert open_with(pair, sender=STRANGER) is None


def test_silent_coordinator_anyone_aborts_after_the_deadline() -> None:
    pair = Pair(registered=4)
    all_committed(pair)
    pair.time = pair.oracle.round.commit_deadline + WINDOW - 1
    assert pair.do(STRANGER, "abort", 1) == "DeadlineNotPassed"
    pair.time += 1
    assert pair.do(STRANGER, "abort", 1) is None
    assert pair.evm.call("model") == RULES.initial_model
    assert pair.evm.call("member", A)[4] == 1000  # spent stays spent


def test_dissent_lets_anyone_abort_at_once() -> None:
    pair = Pair(registered=4)
    proposed(pair)
    assert pair.do(A, "dissent", 1, 40) is None
    assert pair.attest(A) == "AlreadyAnswered"
    assert pair.do(D, "contest", 1, 44) is None
    assert pair.do(D, "contest", 1, 44) == "AlreadyAnswered"
    assert pair.do(STRANGER, "abort", 1) is None
    finish(pair)


def test_a_contest_does_not_stop_the_round() -> None:
    pair = Pair(registered=4)
    proposed(pair)
    assert pair.do(D, "contest", 1, 44) is None
    for name in (A, B, C):
        assert pair.attest(name) is None
    assert pair.do(COORDINATOR, "abort", 1) == "RoundFinalisable"
    assert pair.do(STRANGER, "finalise", 1) is None
    pair.check_state()


@pytest.mark.parametrize(("share", "outcome"), [(2999, None), (3333, None), (3334, 2), (9999, 2)])
def test_quorum_only_within_the_silent_share(share: int, outcome: int | None) -> None:
    pair = Pair(rules=replace(RULES, max_silent_share=share), registered=3, founders=FOUR[:3])
    pair.run_to_proposal(FOUR[:3])
    assert pair.attest(A) is None
    assert pair.attest(B) is None
    assert pair.do(STRANGER, "finalise", 1) == "AttestationsMissing"
    pair.time = pair.oracle.round.attest_deadline
    refused = pair.do(STRANGER, "abort", 1) if outcome else pair.do(STRANGER, "finalise", 1)
    assert refused == ("RoundFinalisable" if outcome else "AttestationsMissing")
    assert pair.do(STRANGER, "finalise" if outcome else "abort", 1) is None
    pair.check_state()


def test_a_dissent_forbids_quorum_only() -> None:
    pair = Pair(rules=replace(RULES, max_silent_share=9999), registered=4)
    proposed(pair)
    assert pair.attest(A) is None
    assert pair.do(B, "dissent", 1, 40) is None
    pair.time = pair.oracle.round.attest_deadline
    assert pair.do(STRANGER, "finalise", 1) == "AttestationsMissing"
    assert pair.do(STRANGER, "abort", 1) is None


def test_share_cap_limits_the_weight() -> None:
    pair = Pair(rules=replace(RULES, share_cap=4000), founders=FOUR)
    for name, weight in zip(FOUR, (9000, 500, 400, 100), strict=True):
        assert pair.do(name, "register", CAP, 0, weight) is None
    pair.open()
    current = pair.evm.call("lastRound")
    assert current[4] == 4000  # weightCap: 40 % of the 10,000 registered
    assert current[7] == 4000 + 500 + 400 + 100
    pair.check_state()


def test_turnout_counts_weight_as_well_as_heads() -> None:
    pair = Pair(founders=FOUR)
    for name, weight in zip(FOUR, (7000, 1000, 1000, 1000), strict=True):
        assert pair.do(name, "register", CAP, 0, weight) is None
    all_committed(pair)
    assert pair.propose(accepted=0b1110) == "TooFewAccepted"  # 3 of 4 heads, 3000 of 9000 weight
    assert pair.propose(accepted=0b0011) is None


def test_coordinator_closes_the_window_after_its_minimum() -> None:
    pair = Pair(rules=replace(RULES, min_commit_window=600), registered=4)
    assert open_with(pair, commit_window=599) == "InvalidArgument"
    pair.open()
    assert pair.commit(A) is None
    assert pair.do(COORDINATOR, "closeCommits", 1) == "CommitWindowOpen"
    pair.time += 600
    assert pair.do(COORDINATOR, "closeCommits", 1) is None
    assert pair.commit(B) == "CommitWindowClosed"


def test_without_privacy_the_mechanism_is_all_zero() -> None:
    pair = Pair(rules=replace(RULES, privacy_unit=Unit.NONE), registered=4)
    pair.open()
    assert pair.commit(A, mechanism=spend(1)) == "InvalidArgument"
    assert pair.commit(A) is None
    pair.check_state()


def test_norm_cap_is_exact() -> None:
    pair = Pair(registered=4)
    all_committed(pair)
    edge = math.isqrt(59 * NORM_BOUND**2 * (2**32 - 1) // 12)
    assert pair.propose(probes=probes_of(0, 0, edge + 1, 0)) == "NormCapExceeded"
    assert pair.propose(probes=probes_of(0, 0, -edge, edge)) is None


def test_sixty_four_hospitals_of_the_largest_weight_and_no_more() -> None:
    everyone: list[str] = [to_checksum_address(f"0x{i:040x}") for i in range(1, 65)]
    pair = Pair(rules=replace(RULES, share_cap=BASIS), founders=everyone)
    for name in everyone:
        assert pair.do(name, "register", CAP, 0, MAX_WEIGHT) is None
    assert pair.do(everyone[0], "vote", ENROL, A) == "InvalidArgument"
    pair.open(norm_bound=2**40 - 1)
    for name in everyone:
        assert pair.commit(name) is None
    edge = math.isqrt(norm_cap(2**40 - 1) // 12 // 16)
    rows: list[tuple[int, ...]] = [(edge, -edge) * 8 for _ in everyone]
    assert pair.propose(probes=pack_probes([(edge + 1,) * 16, *rows[1:]])) == "NormCapExceeded"
    assert pair.propose(probes=pack_probes(rows)) is None
    assert pair.evm.call("lastRound")[8] == 64 * MAX_WEIGHT
    for name in everyone:
        assert pair.attest(name) is None
    assert pair.do(STRANGER, "finalise", 1) is None
    pair.check_state()
