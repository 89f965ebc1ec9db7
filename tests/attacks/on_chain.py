"""Rows of the contract: what a transaction may not do, whoever signs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from eth_account.signers.local import LocalAccount

from ledger.errors import (
    AlreadyAnswered,
    AlreadyCommitted,
    AlreadyMember,
    AlreadyVoted,
    AttestationsMissing,
    BudgetExceeded,
    BudgetNotCharged,
    CapMayOnlyFall,
    CommitUnaccounted,
    CommitWindowClosed,
    CommitWindowOpen,
    ContractError,
    DeadlineNotPassed,
    HeadMismatch,
    InvalidArgument,
    MemberRevoked,
    NotAccepted,
    NotCoordinator,
    NotMember,
    NotRefused,
    ParentMismatch,
    RoundClosed,
    RoundLive,
    TooFewAccepted,
    VotesMissing,
    WeightOverflow,
    WrongPhase,
)
from ledger.statement import MAX_WEIGHT, Ballot, Mechanism, Outcome, Phase
from tests.attacks.case import Case, Scene
from tests.attacks.forge import ROGUE
from tests.world import CAP, COMMIT_WINDOW, PRIVACY, World, account

ROOM = "contract"
ONE = bytes(31) + b"\1"


def _row(
    name: str,
    tampers: str,
    error: type[ContractError],
    attack: Callable[[World], object],
    *,
    stage: str,
    prepare: Callable[[World], object] = lambda _: None,
    **parts: Any,
) -> Case:
    """Return a row whose one transaction the contract refuses."""

    def play(scene: Scene) -> None:
        prepare(scene.world)
        head, members = scene.world.ledger.head(), _members(scene.world)
        with scene.caught_by("contract"):
            attack(scene.world)
        assert scene.world.ledger.head() == head
        assert _members(scene.world) == members

    return Case(
        name=name,
        room=ROOM,
        tampers=tampers,
        caught="contract",
        error=error,
        stage=stage,
        play=play,
        **parts,
    )


def _members(world: World) -> list[object]:
    return [world.ledger.member(signer.address) for signer in world.accounts]


def commit(world: World, signer: LocalAccount, **changes: Any) -> None:
    """Commit to some digests, with some arguments exchanged."""
    honest = {
        "open_head": world.ledger.round().open_head,
        "seal_digest": ONE,
        "opening_digest": ONE,
    }
    world.ledger.commit(signer, **{**honest, **changes})


def propose(world: World, signer: LocalAccount | None = None, **changes: Any) -> None:
    """Propose an arbitrary sum over everybody, with some arguments exchanged."""
    honest: dict[str, Any] = {
        "round": world.ledger.round().number,
        "sum_digest": ONE,
        "model_digest": ONE,
        "accepted": 0b111,
        "refused": 0,
        "reasons": {},
        "probes": dict.fromkeys(range(3), (0,) * 16),
    }
    world.ledger.propose(signer or world.boss, **{**honest, **changes})


def open_round(world: World, **changes: Any) -> None:
    """Open a round like the coordinator, with some arguments exchanged."""
    honest: dict[str, Any] = {
        "base_model": world.ledger.model(),
        "config_digest": ONE,
        "key_digest": ONE,
        "norm_bound": 1000,
        "commit_window": COMMIT_WINDOW,
        "attest_window": COMMIT_WINDOW,
    }
    world.ledger.open_round(world.boss, **{**honest, **changes})


def _vote(kind: Ballot, subject: str, voters: int) -> Callable[[World], None]:
    def prepare(world: World) -> None:
        for signer in world.accounts[:voters]:
            world.ledger.vote(signer, kind, subject)

    return prepare


def _revoke(world: World) -> None:
    target = world.accounts[ROGUE].address
    _vote(Ballot.REMOVE, target, 2)(world)
    world.ledger.enact(world.boss, Ballot.REMOVE, target)


def _revoke_and_open(world: World) -> None:
    _revoke(world)
    world.coordinator.open_round()


def _vote_back(world: World) -> None:
    world.ledger.vote(world.accounts[0], Ballot.ENROL, world.accounts[ROGUE].address)


def _revoked_mid_round(scene: Scene) -> None:
    """A removal enacted in a live round: its commit still counts there, and never again."""
    world = scene.world
    world.submit(world.train(world.coordinator.order(), (ROGUE,)))
    _revoke(world)
    assert len(scene.finish(seats=(0, 1, 2)).accepted) == 3
    world.coordinator.open_round()
    with scene.caught_by("contract"):
        commit(world, world.accounts[ROGUE])


def _outsider_finalises(scene: Scene) -> None:
    world = scene.world
    world.ledger.finalise(account("passer-by"), world.ledger.round().number)
    assert world.ledger.round().phase is Phase.IDLE


def _coordinator_silent(scene: Scene) -> None:
    world = scene.world
    state = world.ledger.round()
    base = world.ledger.model()
    world.travel_to(state.commit_deadline + COMMIT_WINDOW)
    world.ledger.abort(account("passer-by"), state.number)
    closing = world.ledger.closing(state.number)
    assert closing is not None
    assert closing.outcome is Outcome.ABORTED
    assert world.ledger.model() == base


def _share_cap(scene: Scene) -> None:
    """One hospital registers as many examples as the contract can hold."""
    world = scene.world
    world.ledger.set_weight(world.accounts[ROGUE], MAX_WEIGHT)
    world.coordinator.open_round()
    opening = world.ledger.opening(world.ledger.round().number)
    registered = sum(world.ledger.member(a.address).weight for a in world.accounts)
    share_cap = world.ledger.rules().share_cap
    assert opening.weight_cap == registered * share_cap // 10_000 < MAX_WEIGHT
    assert opening.roster_weight == registered - (MAX_WEIGHT - opening.weight_cap)


def _silence(world: World) -> None:
    world.travel_to(world.ledger.round().commit_deadline)


def _charged(world: World, epsilon: int) -> Mechanism:
    run: dict[str, Any] = {n: v for n, v in PRIVACY.items() if n not in ("unit", "rounds")}
    return Mechanism(epsilon=epsilon, **run)


def _proposal(world: World) -> Mapping[str, Any]:
    state = world.ledger.round()
    return {"round": state.number, "head": state.proposed_head}


def _beacon(world: World) -> bytes:
    proposal = world.ledger.proposal(2)
    assert proposal is not None
    return proposal.beacon


def _refuse_rogue(world: World) -> None:
    propose(
        world,
        accepted=0b011,
        refused=0b100,
        reasons={ROGUE: 29},
        probes=dict.fromkeys(range(2), (0,) * 16),
    )


CASES = (
    _row(
        "stranger_commits",
        "the sender of a commit was never enrolled",
        NotMember,
        lambda w: commit(w, account("stranger")),
        stage="open",
    ),
    _row(
        "revoked_commits",
        "the sender's membership was revoked before the round",
        MemberRevoked,
        lambda w: commit(w, w.accounts[ROGUE]),
        stage="idle",
        prepare=_revoke_and_open,
        records={"Voted": 2, "Enacted": 1, "RoundOpened": 1},
        files={"configs": 1},
    ),
    Case(
        name="revoke_mid_round",
        room=ROOM,
        tampers="a member is revoked while its round is live",
        caught="contract",
        error=MemberRevoked,
        stage="two",
        play=_revoked_mid_round,
        records={
            "Committed": 1,
            "Voted": 2,
            "Enacted": 1,
            "Proposed": 1,
            "Attested": 3,
            "Finalised": 1,
            "RoundOpened": 1,
        },
        files={"models": 1, "sums": 1, "evidence": 1, "evidence/decisions": 1, "configs": 1},
    ),
    _row(
        "re_enrol",
        "a revoked member is voted in again, for a fresh budget",
        AlreadyMember,
        _vote_back,
        stage="idle",
        prepare=_revoke,
        records={"Voted": 2, "Enacted": 1},
    ),
    _row(
        "double_commit",
        "a second commit in one round",
        AlreadyCommitted,
        lambda w: commit(w, w.accounts[0]),
        stage="two",
    ),
    _row(
        "late_commit",
        "a commit after the window",
        CommitWindowClosed,
        lambda w: commit(w, w.accounts[ROGUE]),
        stage="two",
        prepare=_silence,
    ),
    _row(
        "propose_early",
        "a proposal while somebody may still commit",
        CommitWindowOpen,
        lambda w: propose(w, accepted=0b011, probes=dict.fromkeys((0, 1), (0,) * 16)),
        stage="two",
    ),
    _row(
        "stale_head",
        "a commit that names an older head",
        HeadMismatch,
        lambda w: commit(w, w.accounts[ROGUE], open_head=w.ledger.opening(1).open_head),
        stage="open",
    ),
    _row(
        "epsilon_above_cap",
        "a cumulative epsilon above the hospital's cap",
        BudgetExceeded,
        lambda w: commit(w, w.accounts[ROGUE], mechanism=_charged(w, CAP)),
        stage="private/two",
        prepare=lambda w: w.ledger.lower_cap(w.accounts[ROGUE], 2 * 10**6),
        records={"CapLowered": 1},
    ),
    _row(
        "epsilon_not_rising",
        "a cumulative epsilon that is the last one again",
        BudgetNotCharged,
        lambda w: commit(
            w,
            w.accounts[ROGUE],
            mechanism=_charged(w, w.ledger.member(w.accounts[ROGUE].address).spent),
        ),
        stage="private/two",
    ),
    _row(
        "mechanism_without_privacy",
        "a mechanism is declared in a federation without privacy",
        InvalidArgument,
        lambda w: commit(w, w.accounts[ROGUE], mechanism=_charged(w, 1)),
        stage="open",
    ),
    _row(
        "cap_raised",
        "a privacy cap, upwards",
        CapMayOnlyFall,
        lambda w: w.ledger.lower_cap(w.accounts[ROGUE], CAP + 1),
        stage="idle",
    ),
    _row(
        "weight_changed_in_round",
        "a weight, while a round is live",
        RoundLive,
        lambda w: w.ledger.set_weight(w.accounts[ROGUE], 100),
        stage="open",
    ),
    Case(
        name="share_cap_exceeded",
        room=ROOM,
        tampers="one hospital registers 16 million examples: its share is limited",
        caught="",
        error=None,
        stage="idle",
        play=_share_cap,
        records={"WeightSet": 1, "RoundOpened": 1},
        files={"configs": 1},
    ),
    _row(
        "total_too_large",
        "a weight of 25 bits",
        WeightOverflow,
        lambda w: w.ledger.set_weight(w.accounts[ROGUE], MAX_WEIGHT + 1),
        stage="idle",
    ),
    _row(
        "outsider_proposes",
        "a proposal by a hospital",
        NotCoordinator,
        lambda w: propose(w, w.accounts[0]),
        stage="all",
    ),
    _row(
        "refuse_everyone",
        "a proposal that refuses every commit",
        TooFewAccepted,
        lambda w: propose(
            w, accepted=0, refused=0b111, reasons=dict.fromkeys(range(3), 29), probes={}
        ),
        stage="all",
    ),
    _row(
        "commit_omitted",
        "a commit is left out of the proposal (censorship)",
        CommitUnaccounted,
        lambda w: propose(w, accepted=0b011, probes=dict.fromkeys((0, 1), (0,) * 16)),
        stage="all",
    ),
    _row(
        "hospital_listed_twice",
        "a hospital is both accepted and refused",
        CommitUnaccounted,
        lambda w: propose(w, refused=0b100, reasons={ROGUE: 29}),
        stage="all",
    ),
    _row(
        "wrong_parent",
        "a round on another base than the last final model",
        ParentMismatch,
        lambda w: open_round(w, base_model=w.ledger.opening(1).base_model),
        stage="idle",
    ),
    _row(
        "fork_same_base",
        "a second round on the same base",
        RoundLive,
        lambda w: open_round(w),
        stage="all",
    ),
    _row(
        "open_while_open",
        "a round is opened while one is open",
        RoundLive,
        lambda w: open_round(w),
        stage="open",
    ),
    _row(
        "propose_twice",
        "a proposal over a subset, after S was served",
        WrongPhase,
        lambda w: propose(
            w,
            accepted=0b011,
            refused=0b100,
            reasons={ROGUE: 29},
            probes=dict.fromkeys((0, 1), (0,) * 16),
        ),
        stage="proposed",
    ),
    _row(
        "attest_before_proposal",
        "an attestation before there is a proposal",
        WrongPhase,
        lambda w: w.ledger.attest(w.accounts[0], 2, ONE),
        stage="all",
    ),
    _row(
        "attest_other_beacon",
        "an attestation to another proposal: its beacon, and so its head, is another",
        HeadMismatch,
        lambda w: w.ledger.attest(w.accounts[0], 2, ONE),
        stage="proposed",
    ),
    _row(
        "attest_beacon_only",
        "an attestation to the beacon, which leaves probes, totals and reasons open",
        HeadMismatch,
        lambda w: w.ledger.attest(w.accounts[0], 2, _beacon(w)),
        stage="proposed",
    ),
    _row(
        "attest_by_refused",
        "a refused hospital attests",
        NotAccepted,
        lambda w: w.ledger.attest(w.accounts[ROGUE], 2, _proposal(w)["head"]),
        stage="all",
        prepare=_refuse_rogue,
        records={"Proposed": 1},
    ),
    _row(
        "contest_by_accepted",
        "an accepted hospital contests",
        NotRefused,
        lambda w: w.ledger.contest(w.accounts[0], 2, 44),
        stage="proposed",
    ),
    _row(
        "answer_twice",
        "a dissent after one's own attestation",
        AlreadyAnswered,
        lambda w: w.ledger.dissent(w.accounts[0], 2, 40),
        stage="attested",
    ),
    _row(
        "finalise_early",
        "the round is finalised before everybody attested",
        AttestationsMissing,
        lambda w: w.ledger.finalise(account("passer-by"), 2),
        stage="proposed",
    ),
    _row(
        "finalise_twice",
        "a closed round is finalised again",
        RoundClosed,
        lambda w: w.ledger.finalise(account("passer-by"), 1),
        stage="idle",
    ),
    _row(
        "abort_early",
        "an outsider aborts before the deadline",
        DeadlineNotPassed,
        lambda w: w.ledger.abort(account("passer-by"), 2),
        stage="two",
    ),
    Case(
        name="coordinator_silent",
        room=ROOM,
        tampers="the coordinator never proposes: anyone aborts after the deadline",
        caught="",
        error=None,
        stage="all",
        play=_coordinator_silent,
        records={"RoundAborted": 1},
        lasting=True,
    ),
    Case(
        name="outsider_finalises",
        room=ROOM,
        tampers="a stranger finalises an attested round",
        caught="",
        error=None,
        stage="attested",
        play=_outsider_finalises,
        records={"Finalised": 1},
        lasting=True,
    ),
    _row(
        "vote_below_threshold",
        "a ballot is enacted without its votes",
        VotesMissing,
        lambda w: w.ledger.enact(w.boss, Ballot.SET_COORDINATOR, w.accounts[0].address),
        stage="idle",
        prepare=lambda w: w.ledger.vote(
            w.accounts[0], Ballot.SET_COORDINATOR, w.accounts[0].address
        ),
        records={"Voted": 1},
    ),
    _row(
        "vote_twice",
        "a member votes twice on one ballot",
        AlreadyVoted,
        lambda w: w.ledger.vote(w.accounts[0], Ballot.SET_COORDINATOR, w.accounts[0].address),
        stage="idle",
        prepare=lambda w: w.ledger.vote(
            w.accounts[0], Ballot.SET_COORDINATOR, w.accounts[0].address
        ),
        records={"Voted": 1},
    ),
)
