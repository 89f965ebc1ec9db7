"""Rows of a node that lies about the events the contract emitted, while its heads are true."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from hexbytes import HexBytes
from numpy.typing import NDArray

from ledger.errors import HeadMismatch
from ledger.probe import probe_sum
from ledger.seal import key_digest
from ledger.statement import pack_probes
from server.decide import Decisions
from tests.attacks import forge
from tests.attacks.case import Case, Scene
from tests.attacks.forge import ROGUE
from tests.world import World, seal_key


def _forged_logs(forged: Mapping[bytes, bytes]) -> Callable[[str, Any], Any]:
    """Return a node that exchanges bytes in the events it shows, and nothing else."""

    def lie(method: str, answer: Any) -> Any:
        for log in answer["result"] if method == "eth_getLogs" else ():
            data = bytes(HexBytes(log["data"]))
            for true, false in forged.items():
                data = data.replace(true, false)
            log["data"] = HexBytes(data) if isinstance(log["data"], bytes) else "0x" + data.hex()
        return answer

    return lie


@contextmanager
def _lying(world: World, forged: Mapping[bytes, bytes]) -> Iterator[None]:
    world.node.lie = _forged_logs(forged)
    world.restart()  # nobody remembers what the node showed before
    try:
        yield
    finally:
        world.node.lie = lambda method, answer: answer
        world.restart()


def _lying_node(scene: Scene) -> None:
    """A wrong sum, and a node that shows each hospital other probes, with which it agrees.

    No hospital colludes. Each sees its own probes right and another's forged, as if that one had
    colluded; the beacon, the totals and the model all agree with what is shown.
    """
    world = scene.world
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
    for seat in range(3):
        victim, by = (0, weights[ROGUE]) if seat == ROGUE else (ROGUE, weights[0])
        row = [t + by * s for t, s in zip(proposal.probes[victim], shift, strict=True)]
        forged = {
            pack_probes([proposal.probes[victim]]): pack_probes([tuple(row)]),
            _int128(proposal.totals): _int128(totals),
        }
        with _lying(world, forged), scene.caught_by("hospital"):
            world.attest(world.coordinator.serve(), [seat])
    assert len(scene.caught) == 3
    del scene.caught[1:]  # the row says it once; each hospital said it
    assert not world.ledger.answers(2)


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
        caught="hospital",
        error=HeadMismatch,
        stage=stage,
        play=play,
        lasting=True,
        **parts,
    )


CASES = (
    _row(
        "lying_node_other_probes",
        "a wrong sum, and a node that shows each hospital probes with which it agrees",
        "all",
        _lying_node,
        records={"Proposed": 1},
        files={"models": 1, "sums": 1, "evidence/decisions": 1},
    ),
    _row(
        "lying_node_other_key",
        "a node shows an opening with its own sealing key, and sends that key",
        "open",
        _other_key,
    ),
)
