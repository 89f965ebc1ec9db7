"""Random histories of a federation: the contract and the oracle agree after every call.

``THORACLE_MACHINE_EXAMPLES`` histories of 100 steps a rule set: 12 by default, so that three runs
of the suite make over 10,000 steps, other ones each time (3,600 over three rule sets). Each
step is one call or one jump of the clock; about a third of the calls are wrong on purpose.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ledger.statement import MAX_WEIGHT, Rules, Unit, pack_probes, seats_of
from tests.contracts.oracle_members import ATTESTING, COMMITTING, IDLE
from tests.contracts.pair import (
    CAP,
    COORDINATOR,
    HOSPITALS,
    NORM_BOUND,
    RULES,
    STRANGER,
    WINDOW,
    Pair,
)

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = int(os.environ.get("THORACLE_MACHINE_EXAMPLES", "12"))
STEPS = 100
PEOPLE = [*HOSPITALS[:7], COORDINATOR, STRANGER]
CALLS = ["commit", "propose", "openRound", "attest", "dissent", "contest", "closeCommits"]
CALLS += ["finalise", "abort", "setWeight"]

people = st.sampled_from(PEOPLE)
rarely = st.integers(0, 7).map(lambda n: n == 0)
weights = st.sampled_from([1, 2, 100, 1000, 50_000, MAX_WEIGHT, 0, MAX_WEIGHT + 1])
waits = st.sampled_from([0, 1, 60, 600, WINDOW // 2, WINDOW, 2 * WINDOW])
windows = st.sampled_from([WINDOW] * 6 + [1, 0, 90 * 86400, 90 * 86400 + 1])
probe = st.integers(-(10**9), 10**9)
edges = st.sampled_from([-(2**63), 2**63 - 1, 35 * 10**9, 37 * 10**9, 10**12, -(10**13), 0, 1])


def in_phase(*phases: int) -> Callable[[Any], bool]:
    """Return a precondition: the round is in one of these phases."""
    return lambda machine: machine.live.phase in phases


class Federation(RuleBasedStateMachine):
    """One random history."""

    ruled: ClassVar[Rules] = RULES

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(rules=self.ruled)
        self.seen = IDLE

    @property
    def live(self) -> Any:
        """The oracle's round."""
        return self.pair.oracle.round

    def number(self, wrong: bool) -> int:
        """Return the live round's number, or another."""
        return int(self.live.number) + wrong

    @initialize(registered=st.integers(1, 4), weight=st.sampled_from([1, 1000, 50_000]))
    def begin(self, registered: int, weight: int) -> None:
        for name in HOSPITALS[:registered]:
            self.pair.do(name, "register", CAP, 0, weight)

    @rule(who=people, cap=st.sampled_from([0, 5000, CAP]), spent=st.sampled_from([0, 0, 4000]))
    def register(self, who: str, cap: int, spent: int) -> None:
        self.pair.do(who, "register", cap, spent, 1000)

    @precondition(in_phase(IDLE))
    @rule(who=people, weight=weights)
    def set_weight(self, who: str, weight: int) -> None:
        self.pair.do(who, "setWeight", weight)

    @rule(who=people, cap=st.sampled_from([0, 3000, CAP - 1, CAP, CAP + 1]))
    def lower_cap(self, who: str, cap: int) -> None:
        self.pair.do(who, "lowerCap", cap)

    @rule(who=people, kind=st.integers(0, 2), subject=people)
    def vote(self, who: str, kind: int, subject: str) -> None:
        self.pair.do(who, "vote", kind, subject)

    @rule(kind=st.integers(0, 2), subject=people, voters=st.sampled_from([1, 2, 2, 3, 7]))
    def decide(self, kind: int, subject: str, voters: int) -> None:
        for name in HOSPITALS[:voters]:
            self.pair.do(name, "vote", kind, subject)
        self.pair.do(STRANGER, "enact", kind, subject)

    @rule(wait=waits)
    def let_time_pass(self, wait: int) -> None:
        self.pair.time += wait

    @precondition(lambda self: self.live.committed)
    @rule()
    def jump_to_deadline(self) -> None:
        commit, attest = self.live.commit_deadline, self.live.attest_deadline
        deadline = attest if self.live.phase == ATTESTING else commit
        self.pair.time = max(self.pair.time, deadline)

    @precondition(in_phase(IDLE))
    @rule(stale=rarely, fork=rarely, bound=st.sampled_from([NORM_BOUND] * 5 + [0]))
    def open_wrongly(self, stale: bool, fork: bool, bound: int) -> None:
        oracle = self.pair.oracle
        head = bytes(32) if stale else oracle.head
        base = bytes(32) if fork else oracle.model
        arguments = (head, base, b"\x33" * 32, b"\x44" * 32, bound, WINDOW, WINDOW)
        self.pair.do(oracle.coordinator, "openRound", *arguments)

    @precondition(in_phase(IDLE))
    @rule(who=people, commit_window=windows, attest_window=windows)
    def open_as_anyone(self, who: str, commit_window: int, attest_window: int) -> None:
        oracle = self.pair.oracle
        who = oracle.coordinator if who == STRANGER else who
        arguments = (NORM_BOUND, commit_window, attest_window)
        head, model = oracle.head, oracle.model
        self.pair.do(who, "openRound", head, model, b"\x33" * 32, b"\x44" * 32, *arguments)

    @precondition(in_phase(IDLE))
    @rule()
    def open_honestly(self) -> None:
        self.pair.open(must=False)

    @precondition(in_phase(COMMITTING))
    @rule(who=people, digests=st.binary(min_size=64, max_size=64), stale=rarely)
    def commit(self, who: str, digests: bytes, stale: bool) -> None:
        changes = {"seal": digests[:32], "opening": digests[32:]}
        head = {"open_head": bytes(32)} if stale else {}
        self.pair.commit(who, **changes, **head)

    @precondition(in_phase(COMMITTING))
    @rule(who=people, epsilon=st.sampled_from([0, 1, 1000, 5000, CAP, CAP + 1]), steps=rarely)
    def commit_any_epsilon(self, who: str, epsilon: int, steps: bool) -> None:
        self.pair.commit(who, mechanism=(epsilon, 0, 0, int(steps), 0, bytes(32)))

    @precondition(in_phase(COMMITTING))
    @rule()
    def everyone_commits(self) -> None:
        for name in sorted(self.live.roster - self.live.committed):
            self.pair.commit(name)

    @precondition(in_phase(COMMITTING))
    @rule(outsider=rarely, wrong=rarely)
    def close(self, outsider: bool, wrong: bool) -> None:
        who = STRANGER if outsider else self.pair.oracle.coordinator
        self.pair.do(who, "closeCommits", self.number(wrong))

    @precondition(in_phase(COMMITTING))
    @rule(split=st.integers(0, 127), outsider=rarely, wrong=rarely, seed=st.integers(0, 99))
    def propose(self, split: int, outsider: bool, wrong: bool, seed: int) -> None:
        oracle = self.pair.oracle
        refused = oracle._bitmap(self.live.committed) & (split if seed % 2 else 0)
        changes: dict[str, Any] = {"refused": refused, "number": self.number(wrong)}
        changes["sum_digest"] = seed.to_bytes(32, "big")
        self.pair.propose(STRANGER if outsider else oracle.coordinator, **changes)

    @precondition(in_phase(COMMITTING))
    @rule(accepted=st.integers(0, 127), refused=st.integers(0, 127), reasons=st.binary(max_size=3))
    def propose_any_split(self, accepted: int, refused: int, reasons: bytes) -> None:
        changes = {"accepted": accepted, "refused": refused, "reasons": reasons}
        self.pair.propose(self.pair.oracle.coordinator, **changes)

    @precondition(in_phase(COMMITTING))
    @rule(rows=st.lists(st.tuples(*[probe] * 16), min_size=7, max_size=7), edge=edges, cut=rarely)
    def propose_any_probes(self, rows: list[tuple[int, ...]], edge: int, cut: bool) -> None:
        oracle = self.pair.oracle
        self.everyone_commits()
        rows[0] = (edge, *rows[0][1:])
        seats = seats_of(oracle._bitmap(self.live.committed))
        probes = pack_probes([rows[seat] for seat in seats])
        self.pair.propose(oracle.coordinator, probes=probes[1:] if cut else probes)

    @precondition(in_phase(IDLE, COMMITTING))
    @rule(refused=st.sampled_from([0, 0, 1, 2, 5]))
    def hurry_to_proposal(self, refused: int) -> None:
        if self.live.phase == IDLE:
            self.pair.open(must=False)
        self.everyone_commits()
        self.jump_to_deadline()
        refused &= self.pair.oracle._bitmap(self.live.committed)
        self.pair.propose(self.pair.oracle.coordinator, refused=refused)

    @precondition(in_phase(ATTESTING))
    @rule(who=people, other=rarely, wrong=rarely)
    def attest(self, who: str, other: bool, wrong: bool) -> None:
        head = self.live.open_head if other else self.live.proposed_head
        self.pair.attest(who, number=self.number(wrong), head=head)

    @precondition(in_phase(ATTESTING))
    @rule(leave_out=st.sampled_from([0, 0, 0, 1, 2]), late=st.booleans())
    def settle(self, leave_out: int, late: bool) -> None:
        for name in sorted(self.live.accepted)[leave_out:]:
            self.pair.attest(name)
        if late:
            self.jump_to_deadline()
        self.pair.do(STRANGER, "finalise", self.number(False))

    @precondition(in_phase(ATTESTING))
    @rule(who=people, code=st.sampled_from([0, 40, 255]), wrong=rarely)
    def dissent(self, who: str, code: int, wrong: bool) -> None:
        self.pair.do(who, "dissent", self.number(wrong), code)

    @precondition(in_phase(ATTESTING))
    @rule(who=people, code=st.sampled_from([0, 40]), wrong=rarely)
    def contest(self, who: str, code: int, wrong: bool) -> None:
        self.pair.do(who, "contest", self.number(wrong), code)

    @precondition(in_phase(ATTESTING))
    @rule(who=people, wrong=rarely)
    def finalise(self, who: str, wrong: bool) -> None:
        self.pair.do(who, "finalise", self.number(wrong))

    @precondition(in_phase(COMMITTING, ATTESTING))
    @rule(who=people, wrong=rarely)
    def abort(self, who: str, wrong: bool) -> None:
        self.pair.do(who, "abort", self.number(wrong))

    @rule(who=people, call=st.sampled_from(CALLS))
    def call_out_of_place(self, who: str, call: str) -> None:
        oracle = self.pair.oracle
        who = oracle.coordinator if who == STRANGER else who
        if call == "commit":
            self.pair.commit(who)
        elif call == "propose":
            self.pair.propose(who)
        elif call == "openRound":
            self.pair.open(must=False)
        elif call == "attest":
            self.pair.attest(who)
        elif call in ("dissent", "contest"):
            self.pair.do(who, call, self.number(False), 40)
        else:
            self.pair.do(who, call, 7 if call == "setWeight" else self.number(False))

    @invariant()
    def round_agrees(self) -> None:
        oracle = self.pair.oracle
        if self.live.phase != self.seen:  # a view costs as much as a call: read it when it moved
            assert self.pair.evm.call("lastRound") == oracle.last_round()
            self.seen = self.live.phase
        assert self.live.committed >= self.live.accepted >= self.live.attested
        assert all(hospital.spent <= CAP for hospital in oracle.hospitals.values())

    def teardown(self) -> None:
        self.pair.check_state()
        COUNT["steps"] += self.pair.steps
        COUNT["rounds"] += self.pair.oracle.round.number


COUNT = {"steps": 0, "rounds": 0}


class Lenient(Federation):
    """Quorum rounds allowed, low minimum, capped weights."""

    ruled = replace(
        RULES,
        max_silent_share=5000,
        min_accepted_of_commits=0,
        min_accepted_of_members=0,
        share_cap=3000,
        vote_share=3000,
        min_commit_window=WINDOW // 2,
    )


class NotPrivate(Federation):
    """No privacy unit, everyone must be accepted, equal weights."""

    ruled = replace(
        RULES,
        privacy_unit=Unit.NONE,
        min_accepted_of_commits=10_000,
        min_accepted_of_members=6000,
        max_silent_share=1,
        share_cap=0,
    )


@pytest.mark.parametrize("machine", [Federation, Lenient, NotPrivate])
def test_contract_and_oracle_agree(machine: type[Federation]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=False,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
