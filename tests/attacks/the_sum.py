"""Rows of the sum: a dishonest coordinator, and hospitals that help it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ledger.errors import (
    ModelDigestMismatch,
    NormCapExceeded,
    ProbeMismatch,
    SumError,
    SumMismatch,
    SumOutOfRange,
    ThoracleError,
)
from ledger.probe import probe_update
from ledger.statement import QMAX, Outcome
from server.decide import Decisions
from tests.attacks import forge
from tests.attacks.case import Case, Scene
from tests.attacks.forge import ROGUE, decided, honest_q, honest_sum
from tests.world import World

ROOM = "the sum"
LEFT = {"models": 1, "sums": 1, "evidence/decisions": 1}
Total = NDArray[np.int64]
Probes = Callable[[dict[int, tuple[int, ...]]], dict[int, tuple[int, ...]]]


def _row(
    name: str, tampers: str, error: type[SumError], total: Callable[[Decisions], Total]
) -> Case:
    """Return a row whose sum every honest hospital finds wrong, so that the round is aborted."""

    def play(scene: Scene) -> None:
        forge.propose(scene.world, total=total)
        everybody_dissents(scene)

    return Case(
        name=name,
        room=ROOM,
        tampers=tampers,
        caught="hospital",
        error=error,
        stage="all",
        play=play,
        records={"Proposed": 1, "Dissented": 3, "RoundAborted": 1},
        files=LEFT,
        lasting=True,
    )


def everybody_dissents(scene: Scene) -> None:
    world = scene.world
    base = world.ledger.model()
    world.attest(world.coordinator.serve())
    assert world.coordinator.finish().outcome is Outcome.ABORTED
    scene.dissented(0, 1, 2)
    assert world.ledger.model() == base


def _off_by_one(decisions: Decisions) -> Total:
    total = honest_sum(decisions)
    total[17] += 1
    return total


def _with_weights(*factors: int) -> Callable[[Decisions], Total]:
    """Return a sum in which the hospitals' weights are multiplied by ``factors``."""

    def total(decisions: Decisions) -> Total:
        changed = np.zeros_like(honest_sum(decisions))
        for factor, d in zip(factors, decisions.accepted(), strict=True):
            changed += factor * d.weight * decisions.updates[d.hospital].astype(np.int64)
        return changed

    return total


def _one_heavier(decisions: Decisions) -> Total:
    first = decisions.accepted()[0]
    return honest_sum(decisions) + decisions.updates[first.hospital]


def _out_of_range(decisions: Decisions) -> Total:
    total = honest_sum(decisions)
    total[0] = QMAX * sum(d.weight for d in decisions.accepted()) + 1
    return total


def _plus_modulus(decisions: Decisions) -> Total:
    total = honest_sum(decisions)
    total[0] += 2**31 - 1
    return total


def _model_digest(scene: Scene) -> None:
    forge.propose(scene.world, model=lambda digest: bytes(reversed(digest)))
    everybody_dissents(scene)


def _over_cap(scene: Scene) -> None:
    def loud(probes: dict[int, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
        return {**probes, ROGUE: tuple(t * 1000 for t in probes[ROGUE])}

    with scene.caught_by("contract"):
        forge.propose(scene.world, probes=loud)


def attest_by_hand(world: World, *seats: int) -> None:
    """Colluders attest without looking."""
    state = world.ledger.round()
    for seat in seats:
        world.ledger.attest(world.accounts[seat], state.number, state.proposed_head)


def _false_probe(scene: Scene) -> None:
    """The victim's probes are forged; a colluder's absorb the difference, so totals agree."""
    world = scene.world
    commits = world.ledger.commits(2)
    victim, colluder = (commits[str(world.accounts[s].address)].weight for s in (0, ROGUE))

    def shift(probes: dict[int, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
        return {
            **probes,
            0: tuple(t + colluder for t in probes[0]),
            ROGUE: tuple(t - victim for t in probes[ROGUE]),
        }

    forge.propose(world, probes=shift)
    attest_by_hand(world, ROGUE)
    world.attest(world.coordinator.serve(), (0, 1))
    assert world.coordinator.finish().outcome is Outcome.ABORTED
    scene.dissented(0)


def _absorb(scene: Scene, change: NDArray[np.int64], probes: Probes = dict) -> None:
    """The colluder's update is exchanged for q + change, in the sum and in its probes alike."""
    world = scene.world

    def total(decisions: Decisions) -> Total:
        weight = decisions.by_hospital[str(world.accounts[ROGUE].address)].weight
        return honest_sum(decisions) + weight * change

    def effective(own: dict[int, NDArray[np.int16]]) -> dict[int, NDArray[Any]]:
        return {**own, ROGUE: own[ROGUE] + change}

    forge.propose(world, total=total, effective=effective, probes=probes)


def _colluder(scene: Scene) -> None:
    """Within the norm bound nobody can tell on the chain; whoever has the key can, afterwards."""
    world = scene.world
    change = np.zeros(world.manifest.size, dtype=np.int64)
    change[:5] = 300
    _absorb(scene, change)
    attest_by_hand(world, ROGUE)
    world.attest(world.coordinator.serve(), (0, 1))
    assert world.coordinator.finish().outcome is Outcome.SUM_VERIFIED
    assert _named_by_replay(world) == {ROGUE}


def _named_by_replay(world: World) -> set[int]:
    """Return the seats whose recorded probes are not those of the update they committed."""
    proposal = world.ledger.proposal(2)
    assert proposal is not None
    evidence = replayed(world)
    return {
        seat
        for seat, q in evidence.items()
        if probe_update(proposal.beacon, q) != proposal.probes[seat]
    }


def replayed(world: World) -> dict[int, NDArray[np.int16]]:
    """Open round 2's evidence with the key: the updates as committed, by seat."""
    kept = world.store.get_decisions(2)
    decisions = decided(world, 2)
    assert world.store.get_decisions(2) == kept, "a replay decides the same"
    seats = [str(signer.address) for signer in world.accounts]
    return {seats.index(hospital): q for hospital, q in decisions.updates.items()}


def _colluder_beyond(scene: Scene) -> None:
    world = scene.world
    bound = world.ledger.opening(2).norm_bound
    size = world.manifest.size
    change = np.full(size, QMAX, dtype=np.int64) - honest_q(world, ROGUE)
    assert QMAX * size**0.5 > bound, "the exchanged update is over the norm bound"

    def loud(probes: dict[int, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
        # int16 coordinates of so small a model cannot reach twenty times B: the probes say it.
        factor = round(20 * bound / (QMAX * size**0.5))
        return {**probes, ROGUE: tuple(t * factor for t in probes[ROGUE])}

    with scene.caught_by("contract"):
        _absorb(scene, change, probes=loud)


def _false_dissent(scene: Scene) -> None:
    """A hospital dissents from a sum that is right; the evidence shows that it is."""
    world = scene.world
    world.attest(world.coordinator.serve(), (0, 1))
    world.ledger.dissent(world.accounts[ROGUE], 2, SumMismatch.code)
    assert world.coordinator.finish().outcome is Outcome.ABORTED
    proposal = world.ledger.proposal(2)
    assert proposal is not None
    total = honest_sum(decided(world, 2))
    honest = world.store.sums.get(proposal.sum_digest)
    assert honest.endswith(total.astype("<i8").tobytes()), "the proposed sum is right"
    assert _named_by_replay(world) == set()
    against = [a.hospital for a in world.ledger.answers(2).values() if a.kind == "dissented"]
    assert against == [world.accounts[ROGUE].address]
    scene.dissented(ROGUE)


def _starved(scene: Scene) -> None:
    """One accepted hospital is never given S, so it cannot attest."""
    world = scene.world
    world.attest(world.coordinator.serve(), (0, 1))
    result = world.coordinator.finish()
    assert result.outcome is Outcome.QUORUM_ONLY
    weight = world.ledger.commits(2)[str(world.accounts[ROGUE].address)].weight
    assert result.unattested_weight == weight
    closing = world.ledger.closing(2)
    assert closing is not None
    assert closing.unattested_weight == weight


def _too_many_starved(scene: Scene) -> None:
    """More weight is starved than the federation's rules let stay silent."""
    world = scene.world
    base = world.ledger.model()
    world.attest(world.coordinator.serve(), (0,))
    assert world.coordinator.finish().outcome is Outcome.ABORTED
    assert world.ledger.model() == base


def _sum_case(
    name: str,
    tampers: str,
    caught: str,
    error: type[ThoracleError] | None,
    play: Callable[[Scene], None],
    **parts: Any,
) -> Case:
    settings: dict[str, Any] = {"stage": "all", "lasting": True} | parts
    return Case(
        name=name, room=ROOM, tampers=tampers, caught=caught, error=error, play=play, **settings
    )


CASES = (
    _row("wrong_sum", "one coordinate of S, by one", SumMismatch, _off_by_one),
    _row("weight_altered", "one weight in S, by one", SumMismatch, _one_heavier),
    _row(
        "hospital_dropped_silently",
        "an accepted hospital is left out of S",
        SumMismatch,
        _with_weights(1, 1, 0),
    ),
    _row(
        "hospital_counted_twice", "a hospital enters S twice", SumMismatch, _with_weights(2, 1, 1)
    ),
    _row(
        "sum_out_of_range",
        "a coordinate of S beyond what the weights allow",
        SumOutOfRange,
        _out_of_range,
    ),
    _row("sum_plus_modulus", "2^31 - 1 is added to a coordinate", SumOutOfRange, _plus_modulus),
    _sum_case(
        "probe_over_norm_cap",
        "a hospital's probes are a thousand times too large",
        "contract",
        NormCapExceeded,
        _over_cap,
        files=LEFT,
    ),
    _sum_case(
        "false_probe_for_honest_hospital",
        "an honest hospital's probes; a colluder's make up for it",
        "hospital",
        ProbeMismatch,
        _false_probe,
        records={"Proposed": 1, "Attested": 2, "Dissented": 1, "RoundAborted": 1},
        files=LEFT,
    ),
    _sum_case(
        "colluder_absorbs_difference",
        "a colluder's update is exchanged, within the norm bound: a replay names it",
        "",
        None,
        _colluder,
        records={"Proposed": 1, "Attested": 3, "Finalised": 1},
        files=LEFT,
    ),
    _sum_case(
        "colluder_beyond_norm",
        "a colluder's update is exchanged for one of twenty times the norm",
        "contract",
        NormCapExceeded,
        _colluder_beyond,
        files=LEFT,
    ),
    _sum_case(
        "model_digest_not_of_sum",
        "the proposed model does not follow from S",
        "hospital",
        ModelDigestMismatch,
        _model_digest,
        records={"Proposed": 1, "Dissented": 3, "RoundAborted": 1},
        files=LEFT,
    ),
    _sum_case(
        "false_dissent",
        "a hospital dissents from a right sum: the evidence names it",
        "hospital",
        SumMismatch,
        _false_dissent,
        stage="proposed",
        records={"Attested": 2, "Dissented": 1, "RoundAborted": 1},
    ),
    _sum_case(
        "starved_hospital",
        "a hospital is never given S: no SumVerified, its weight on record",
        "",
        None,
        _starved,
        stage="proposed",
        records={"Attested": 2, "Finalised": 1},
    ),
    _sum_case(
        "too_many_starved",
        "more weight is starved than may stay silent: aborted",
        "",
        None,
        _too_many_starved,
        stage="proposed",
        records={"Attested": 1, "RoundAborted": 1},
    ),
)
