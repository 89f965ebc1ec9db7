"""Rows of a node that lies about the contract's events, with the true heads or with its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from numpy.typing import NDArray

from client.spool import Spool
from ledger.errors import HeadMismatch, SumMismatch
from ledger.probe import probe_sum
from ledger.seal import key_digest
from ledger.statement import HEAD_TAG, Kind, Proposal, pack_probes
from server.decide import Decisions
from tests.attacks import forge
from tests.attacks.case import Case, Scene
from tests.attacks.forge import ROGUE
from tests.world import World, seal_key


def _forged(forged: Mapping[bytes, bytes]) -> Callable[[str, Any], Any]:
    """Return a node that exchanges bytes in the events and the state it shows, and nothing else."""

    def exchanged(value: Any) -> Any:
        data = bytes(HexBytes(value))
        for true, false in forged.items():
            data = data.replace(true, false)
        return HexBytes(data) if isinstance(value, bytes) else "0x" + data.hex()

    def lie(method: str, answer: Any) -> Any:
        for log in answer["result"] if method == "eth_getLogs" else ():
            log["data"] = exchanged(log["data"])
        if method == "eth_call" and "result" in answer:
            answer["result"] = exchanged(answer["result"])
        return answer

    return lie


@contextmanager
def _lying(world: World, forged: Mapping[bytes, bytes]) -> Iterator[None]:
    world.node.lie = _forged(forged)
    world.restart()  # nobody remembers what the node showed before
    try:
        yield
    finally:
        world.node.lie = lambda method, answer: answer
        world.restart()


def _wrong_sum(world: World) -> tuple[Proposal, dict[int, dict[bytes, bytes]]]:
    """Propose a wrong sum; return it, and the lie that would make it seem right to each hospital.

    No hospital colludes. Each is to see its own probes right and another's forged, as if that one
    had colluded; the beacon, the totals and the model all agree with what is shown.
    """
    change = np.zeros(world.manifest.size, dtype=np.int64)
    change[17] = 1
    weights = {c.seat: c.weight for c in world.ledger.commits(2).values()}

    def total(decisions: Decisions) -> NDArray[np.int64]:
        return forge.honest_sum(decisions) + weights[ROGUE] * weights[0] * change

    forge.propose(world, total=total)
    proposal = world.ledger.proposal(2)
    assert proposal is not None
    shift = probe_sum(proposal.beacon, change)
    totals = [
        weights[ROGUE] * weights[0] * s + t for s, t in zip(shift, proposal.totals, strict=True)
    ]
    lies = {}
    for seat in range(3):
        victim, by = (0, weights[ROGUE]) if seat == ROGUE else (ROGUE, weights[0])
        row = [t + by * s for t, s in zip(proposal.probes[victim], shift, strict=True)]
        lies[seat] = {
            pack_probes([proposal.probes[victim]]): pack_probes([tuple(row)]),
            _int128(proposal.totals): _int128(totals),
        }
    return proposal, lies


def _true_heads(scene: Scene) -> None:
    """The forged events do not lead to the heads that the node shows beside them."""
    world = scene.world
    for seat, forged in _wrong_sum(world)[1].items():
        with _lying(world, forged), scene.caught_by("hospital"):
            world.attest(world.coordinator.serve(), [seat])
    _each_caught_it(scene)
    assert not world.ledger.answers(2)


def _own_heads(scene: Scene) -> None:
    """The heads are forged too: everything a hospital can see agrees, and the contract does not.

    While an attestation named the beacon, which is the true one here, it would have been valid for
    the wrong sum. Once the node shows the truth, every hospital dissents.
    """
    world = scene.world
    proposal, lies = _wrong_sum(world)
    true_head = world.ledger.round().proposed_head
    for seat, forged in lies.items():
        with _lying(world, {**forged, **_forged_heads(world, forged)}):
            shown = world.ledger.shown_proposal(2)
            assert shown is not None
            assert shown.proposal.beacon == proposal.beacon
            assert shown.head == world.ledger.head() != true_head
            with scene.caught_by("contract"):
                world.attest(world.coordinator.serve(), [seat])
        assert f"is 0x{true_head.hex()}, not 0x{shown.head.hex()}" in scene.sentence
        verdict = Spool(world.folder / "hospitals" / str(seat) / "spool").verdict(2)
        assert verdict is not None
        assert verdict.kind == "attested"  # the hospital itself found nothing wrong
    _each_caught_it(scene)
    assert not world.ledger.answers(2)
    for reply in world.attest(world.coordinator.serve()).values():
        assert reply.code == SumMismatch.code


def _forged_heads(world: World, forged: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return the record and the head of the forged proposal, by the true ones."""
    events = world.ledger.events()
    proposed = events[-1]
    advanced, before = [e.args for e in events if e.name == "HeadAdvanced"][:-3:-1]
    args, state = dict(proposed.args), world.ledger.round()
    commits = sorted(world.ledger.commits(2).values(), key=lambda commit: commit.seat)
    federation = world.ledger.domain.federation_id
    for name in ("probes", "totals"):
        for true, false in forged.items():
            args[name] = args[name].replace(true, false)
    names = ("round", "sumDigest", "modelDigest", "beacon", "accepted", "refused", "acceptedWeight")
    values = [
        *(args[name] for name in names),
        *(state.commit_deadline, args["attestDeadline"]),
        *(keccak(args[name]) for name in ("reasons", "probes", "totals")),
        keccak(b"".join(commit.commit_hash(federation) for commit in commits)),
    ]
    types = ["uint256", *["bytes32"] * 3, *["uint256"] * 5, *["bytes32"] * 4]
    record = keccak(encode(types, values))
    fields = [HEAD_TAG, before["head"], advanced["sequence"], int(Kind.PROPOSED), record]
    head = keccak(encode(["bytes32", "bytes32", "uint256", "uint256", "bytes32"], fields))
    return {advanced["record"]: record, advanced["head"]: head}


def _each_caught_it(scene: Scene) -> None:
    assert len(scene.caught) == 3
    del scene.caught[1:]  # the row says it once; each hospital said it


def _int128(values: Iterable[int]) -> bytes:
    return b"".join(value.to_bytes(16, "big", signed=True) for value in values)


def _other_key(scene: Scene) -> None:
    """A node in the middle shows its own key's digest, and sends that key with the order."""
    world = scene.world
    order = world.coordinator.order()
    mine = (seal_key("attacker").public,)
    forged = {
        world.ledger.opening(order.round).key_digest: key_digest(mine, order.key_epoch),
    }
    with _lying(world, forged), scene.caught_by("hospital"):
        world.hospitals[0].train(replace(order, public_keys=mine))


def _row(name: str, tampers: str, stage: str, play: Callable[[Scene], None], **parts: Any) -> Case:
    return Case(
        name=name,
        room="chain",
        tampers=tampers,
        error=HeadMismatch,
        stage=stage,
        play=play,
        lasting=True,
        **{"caught": "hospital"} | parts,
    )


CASES = (
    _row(
        "lying_node_other_probes",
        "a wrong sum, and a node that shows each hospital probes with which it agrees",
        "all",
        _true_heads,
        records={"Proposed": 1},
        files={"models": 1, "sums": 1, "evidence/decisions": 1},
    ),
    _row(
        "lying_node_own_heads",
        "a wrong sum, probes with which it agrees, and heads to which the forged events do lead",
        "all",
        _own_heads,
        caught="contract",
        records={"Proposed": 1, "Dissented": 3},
        files={"models": 1, "sums": 1, "evidence/decisions": 1},
    ),
    _row(
        "lying_node_other_key",
        "a node shows an opening with its own sealing key, and sends that key",
        "open",
        _other_key,
    ),
)
