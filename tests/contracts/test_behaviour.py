"""Every rule of the contract that a single party can try to break: name, call, expected error.

Each row starts from an honest federation of four hospitals, brings it to a stage, makes one wrong
call and names the error. The oracle agrees on the error's arguments and that nothing changed; the
honest way on from there still succeeds.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ledger.statement import MAX_WEIGHT
from tests.contracts.oracle_members import ENROL, REMOVE, SET_COORDINATOR
from tests.contracts.pair import CAP, COORDINATOR, RULES, STRANGER, Pair
from tests.contracts.stages import (
    NEWCOMER,
    ZERO,
    A,
    B,
    Call,
    D,
    Stage,
    all_committed,
    answers_over,
    d_removed_and_reopened,
    finish,
    idle,
    open_with,
    opened,
    probes_of,
    proposed,
    settled,
    spend,
    window_closed,
)

TABLE: list[tuple[str, Stage, Call, str]] = [
    # membership and budget
    ("stranger_registers", idle, lambda p: p.do(STRANGER, "register", CAP, 0, 1), "NotMember"),
    ("register_twice", idle, lambda p: p.do(A, "register", CAP, 0, 1), "AlreadyRegistered"),
    ("cap_raised", idle, lambda p: p.do(A, "lowerCap", CAP + 1), "CapMayOnlyFall"),
    ("cap_kept", idle, lambda p: p.do(A, "lowerCap", CAP), "CapMayOnlyFall"),
    ("weight_zero", idle, lambda p: p.do(A, "setWeight", 0), "WeightOverflow"),
    ("weight_too_large", idle, lambda p: p.do(A, "setWeight", MAX_WEIGHT + 1), "WeightOverflow"),
    ("weight_changed_in_round", opened, lambda p: p.do(A, "setWeight", 5), "RoundLive"),
    ("stranger_lowers_cap", idle, lambda p: p.do(STRANGER, "lowerCap", 1), "NotMember"),
    # votes
    ("re_enrol", idle, lambda p: p.do(A, "vote", ENROL, B), "AlreadyMember"),
    ("stranger_votes", idle, lambda p: p.do(STRANGER, "vote", ENROL, NEWCOMER), "NotMember"),
    ("vote_for_nobody", idle, lambda p: p.do(A, "vote", SET_COORDINATOR, ZERO), "InvalidArgument"),
    ("vote_out_a_stranger", idle, lambda p: p.do(A, "vote", REMOVE, STRANGER), "NotMember"),
    ("no_votes", idle, lambda p: p.do(A, "enact", ENROL, NEWCOMER), "VotesMissing"),
    (
        "revoked_votes",
        d_removed_and_reopened,
        lambda p: p.do(D, "vote", REMOVE, A),
        "MemberRevoked",
    ),
    # opening
    ("outsider_opens", idle, lambda p: open_with(p, sender=A), "NotCoordinator"),
    ("open_while_open", opened, open_with, "RoundLive"),
    ("fork_same_base", proposed, open_with, "RoundLive"),
    ("open_on_stale_head", idle, lambda p: open_with(p, head=bytes(32)), "HeadMismatch"),
    ("wrong_parent", settled, lambda p: open_with(p, base=RULES.initial_model), "ParentMismatch"),
    ("no_norm_bound", idle, lambda p: open_with(p, norm_bound=0), "InvalidArgument"),
    ("no_commit_window", idle, lambda p: open_with(p, commit_window=0), "InvalidArgument"),
    ("endless_window", idle, lambda p: open_with(p, attest_window=2**31), "InvalidArgument"),
    # commits
    ("stranger_commits", opened, lambda p: p.commit(STRANGER), "NotMember"),
    ("revoked_commits", d_removed_and_reopened, lambda p: p.commit(D), "MemberRevoked"),
    ("commit_without_round", idle, lambda p: p.commit(A), "NotMember"),
    ("commit_after_round", settled, lambda p: p.commit(A), "RoundClosed"),
    ("double_commit", all_committed, lambda p: p.commit(A), "AlreadyCommitted"),
    ("late_commit", window_closed, lambda p: p.commit(D), "CommitWindowClosed"),
    ("commit_after_proposal", proposed, lambda p: p.commit(A), "WrongPhase"),
    ("stale_head", opened, lambda p: p.commit(A, open_head=bytes(32)), "HeadMismatch"),
    (
        "epsilon_above_cap",
        opened,
        lambda p: p.commit(A, mechanism=spend(CAP + 1)),
        "BudgetExceeded",
    ),
    ("epsilon_not_rising", opened, lambda p: p.commit(A, mechanism=spend(0)), "BudgetNotCharged"),
    # closing the window
    ("outsider_closes", opened, lambda p: p.do(A, "closeCommits", 1), "NotCoordinator"),
    ("close_other_round", opened, lambda p: p.do(COORDINATOR, "closeCommits", 2), "RoundClosed"),
    (
        "close_a_closed_window",
        window_closed,
        lambda p: p.do(COORDINATOR, "closeCommits", 1),
        "CommitWindowClosed",
    ),
    (
        "close_after_proposal",
        proposed,
        lambda p: p.do(COORDINATOR, "closeCommits", 1),
        "WrongPhase",
    ),
    # the proposal
    ("outsider_proposes", all_committed, lambda p: p.propose(A), "NotCoordinator"),
    ("propose_early", opened, lambda p: p.propose(), "CommitWindowOpen"),
    ("propose_without_round", idle, lambda p: p.propose(), "RoundClosed"),
    ("propose_twice", proposed, lambda p: p.propose(accepted=0b0011), "WrongPhase"),
    (
        "commit_omitted",
        all_committed,
        lambda p: p.propose(accepted=0b0011, refused=0b0100),
        "CommitUnaccounted",
    ),
    (
        "hospital_listed_twice",
        all_committed,
        lambda p: p.propose(accepted=0b1111, refused=0b1000),
        "CommitUnaccounted",
    ),
    (
        "hospital_invented",
        window_closed,
        lambda p: p.propose(accepted=0b1111, refused=0),
        "CommitUnaccounted",
    ),
    ("refuse_everyone", all_committed, lambda p: p.propose(accepted=0), "TooFewAccepted"),
    ("refuse_too_many", all_committed, lambda p: p.propose(accepted=0b0001), "TooFewAccepted"),
    (
        "refusal_without_reason",
        all_committed,
        lambda p: p.propose(refused=0b1000, reasons=b"\0"),
        "InvalidArgument",
    ),
    (
        "reason_missing",
        all_committed,
        lambda p: p.propose(refused=0b1000, reasons=b""),
        "InvalidArgument",
    ),
    ("probes_cut", all_committed, lambda p: p.propose(probes=bytes(127)), "InvalidArgument"),
    (
        "probe_over_norm_cap",
        all_committed,
        lambda p: p.propose(probes=probes_of(0, 0, 10**12, 0)),
        "NormCapExceeded",
    ),
    (
        "probe_most_negative",
        all_committed,
        lambda p: p.propose(probes=probes_of(0, -(2**63), 0, 0)),
        "NormCapExceeded",
    ),
    # answers
    ("attest_before_proposal", all_committed, lambda p: p.attest(A), "WrongPhase"),
    ("attest_without_round", settled, lambda p: p.attest(A), "RoundClosed"),
    (
        "attest_other_head",
        proposed,
        lambda p: p.attest(A, head=p.oracle.round.open_head),
        "HeadMismatch",
    ),
    ("attest_by_refused", proposed, lambda p: p.attest(D), "NotAccepted"),
    ("attest_by_stranger", proposed, lambda p: p.attest(STRANGER), "NotMember"),
    ("attest_twice", answers_over, lambda p: _early(p, lambda: p.attest(A)), "AlreadyAnswered"),
    ("attest_late", answers_over, lambda p: p.attest(B), "AttestWindowClosed"),
    ("dissent_without_code", proposed, lambda p: p.do(A, "dissent", 1, 0), "InvalidArgument"),
    ("dissent_by_refused", proposed, lambda p: p.do(D, "dissent", 1, 40), "NotAccepted"),
    ("contest_by_accepted", proposed, lambda p: p.do(A, "contest", 1, 44), "NotRefused"),
    # the end
    ("finalise_before_proposal", opened, lambda p: p.do(A, "finalise", 1), "WrongPhase"),
    ("finalise_early", proposed, lambda p: p.do(A, "finalise", 1), "AttestationsMissing"),
    ("finalise_unattested", answers_over, lambda p: p.do(A, "finalise", 1), "AttestationsMissing"),
    ("finalise_twice", settled, lambda p: p.do(A, "finalise", 1), "RoundClosed"),
    ("abort_early", opened, lambda p: p.do(A, "abort", 1), "DeadlineNotPassed"),
    ("abort_waiting_proposal", proposed, lambda p: p.do(A, "abort", 1), "DeadlineNotPassed"),
    (
        "abort_by_coordinator",
        proposed,
        lambda p: p.do(COORDINATOR, "abort", 1),
        "DeadlineNotPassed",
    ),
    ("abort_finished", settled, lambda p: p.do(A, "abort", 1), "RoundClosed"),
]


def _early(pair: Pair, call: Callable[[], str | None]) -> str | None:
    """Make a call just before the deadline that the stage has reached."""
    pair.time -= 1
    return call()


@pytest.mark.parametrize(
    ("stage", "call", "error"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_refused(stage: Stage, call: Call, error: str) -> None:
    pair = Pair(registered=4)
    stage(pair)
    assert call(pair) == error
    finish(pair)


def test_every_error_of_the_interface_is_reached() -> None:
    named = {row[3] for row in TABLE} | OTHERS
    raised = {name for name, _ in Pair().evm.codec.errors.values()}
    assert named == raised - {"SafeCastOverflowedUintDowncast"}


OTHERS = {"AlreadyVoted", "RoundFinalisable"}
"""Errors that only the tests below reach."""
