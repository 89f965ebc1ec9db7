"""The attacker's tools: an update, or a proposal, with exactly one thing forged.

Everything not tampered with is what an honest party would do, and what the attacker can adjust to
fit (digests of what it forged, probes under the new beacon) is adjusted: each row is the best
form of its attack, not its clumsiest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.update import delta_of
from ledger.canonical import parse_json, sha256, tagged_digest
from ledger.manifest import Manifest, Model, decode_model, encode_model, encode_tensors
from ledger.messages import TrainReply
from ledger.probe import probe_update
from ledger.quantise import Quantiser, quantise
from ledger.seal import SealContext, seal
from ledger.server_rule import ServerRule, next_model
from ledger.statement import Opening, beacon_of, bitmap_of
from ledger.travels import update_manifest
from ledger.update import encode_opening, opening_digest
from server.decide import Decisions
from tests.world import TinyTrainer, World

ROGUE = 2
"""The seat of the dishonest hospital."""


def honest_q(world: World, seat: int) -> NDArray[np.int16]:
    """Return the update that the hospital of a seat computes in the live round."""
    order = world.coordinator.order()
    config = parse_json(order.config, len(order.config))
    assert isinstance(config, dict)
    base = decode_model(order.base_model_bytes, world.manifest)
    trained = TinyTrainer(f"hospital {seat}")(base, config, 0).model
    delta = delta_of(trained, base, update_manifest(world.manifest, config))
    return quantise(delta, Quantiser(**config["quantiser"])).q


def travelling(world: World) -> Manifest:
    """Return the manifest of what travels in the last round."""
    config = world.coordinator.bench.config(world.ledger.round().number)
    return update_manifest(world.manifest, config)


class Forgery:
    """One hospital's update, forged at exactly one point.

    The points, in the order an update passes them: ``q``, ``update`` (its file), ``opening`` (the
    committed digest), ``plaintext``, ``context``, ``recipients``, ``sealed`` (the ciphertext,
    before its digest is committed), ``commit`` (the call's arguments, or None for no commit) and
    ``reply``. Each is given as a function of the honest value. ``foreign`` exchanges parts of the
    opening before its digest is taken (then ``opening`` is the point).
    """

    def __init__(
        self,
        world: World,
        foreign: Any = None,
        **tamper: Callable[[Any], Any],
    ) -> None:
        assert len(tamper) == 1, "a row tampers with exactly one thing"
        self._tamper = tamper
        self.world = world
        self.seat = ROGUE
        self._foreign: Mapping[str, Any] = foreign or {}
        self.salt = tagged_digest("thoracle/test-salt", ROGUE)
        self.order = world.coordinator.order()
        self.round = world.ledger.opening(self.order.round)
        self.reply = self._make()
        assert not self._tamper, f"unknown point {set(self._tamper)}"

    def _pass(self, point: str, value: Any) -> Any:
        return self._tamper.pop(point)(value) if point in self._tamper else value

    def digest(self, update: bytes, **changes: Any) -> bytes:
        """Return the opening digest of an update file, with some parts exchanged."""
        parts = {
            "domain": self.world.ledger.domain,
            "hospital": self.world.accounts[self.seat].address,
            "base_model": self.round.base_model,
            "round": self.round.round,
            "salt": self.salt,
            "update_bytes": update,
        }
        return opening_digest(**{**parts, **changes})

    def _make(self) -> TrainReply:
        world, signer = self.world, self.world.accounts[self.seat]
        q = self._pass("q", honest_q(world, self.seat))
        self.update = self._pass("update", encode_tensors(travelling(world), q))
        opening = self._pass("opening", self.digest(self.update, **self._foreign))
        plaintext = self._pass("plaintext", encode_opening(self.salt, self.update))
        context = self._pass("context", context_of(world, self.round, self.seat))
        recipients = self._pass("recipients", self.order.public_keys)
        sealed = self._pass("sealed", seal(plaintext, recipients, context))
        commit: dict[str, Any] | None = self._pass(
            "commit",
            {
                "open_head": self.round.open_head,
                "seal_digest": sha256(sealed),
                "opening_digest": opening,
            },
        )
        if commit is not None:
            world.ledger.commit(signer, **commit)
        reply = TrainReply(
            hospital=signer.address, round=self.round.round, ciphertext=sealed, metrics={}
        )
        forged: TrainReply = self._pass("reply", reply)
        return forged

    def submit(self) -> None:
        """Bring the reply to the coordinator."""
        self.world.coordinator.receive(self.reply)


def context_of(world: World, opening: Opening, seat: int) -> SealContext:
    """Return the honest seal context of a seat in a round."""
    return SealContext(
        domain=world.ledger.domain,
        round=opening.round,
        hospital=world.accounts[seat].address,
        base_model=opening.base_model,
        key_epoch=1,
    )


@dataclass(frozen=True, kw_only=True)
class Forged:
    """A forged proposal as it was sent."""

    total: NDArray[np.int64]
    beacon: bytes
    probes: dict[int, tuple[int, ...]]


def decisions_of(world: World) -> Decisions:
    """Return the coordinator's honest decisions on the live round, updates opened."""
    return decided(world, world.ledger.round().number)


def decided(world: World, number: int) -> Decisions:
    """Decide on a round from its evidence, as the coordinator did and a replay does."""
    bench = world.coordinator.bench
    return bench.decide(bench.take_up(number), world.coordinator._inbox(number))


def honest_sum(decisions: Decisions) -> NDArray[np.int64]:
    """Return the weighted sum, computed apart from the code under attack."""
    total = np.zeros(next(iter(decisions.updates.values())).size, dtype=np.int64)
    for decision in decisions.accepted():
        total += decision.weight * decisions.updates[decision.hospital].astype(np.int64)
    return total


def propose(
    world: World,
    *,
    total: Callable[[Decisions], NDArray[np.int64]] = honest_sum,
    model: Callable[[bytes], bytes] = lambda digest: digest,
    probes: Callable[[dict[int, tuple[int, ...]]], Mapping[int, tuple[int, ...]]] = dict,
    effective: Callable[[dict[int, NDArray[np.int16]]], Mapping[int, NDArray[Any]]] = dict,
    edit: Callable[[Model], Model] = dict,
    file: Callable[[NDArray[np.int64]], bytes] | None = None,
) -> Forged:
    """Propose like a dishonest coordinator: with another sum, model digest or probes.

    Args:
        world: at stage ``all``.
        total: the sum to propose.
        model: the model digest to propose, from the one that follows from the sum.
        probes: the probes to record, from the honest ones under the new beacon.
        effective: the updates that probes are taken of, from the committed ones by seat.
        edit: the model to propose, from the one that follows from the sum.
        file: the sum's file; by default the canonical one.
    """
    world.coordinator.close()
    decisions = decisions_of(world)
    number, commits = decisions.round, world.ledger.commits(decisions.round)
    opening, accepted = world.ledger.opening(number), decisions.accepted()
    chosen = total(decisions)
    weight = sum(d.weight for d in accepted)
    model_bytes = _model_bytes(world, opening, chosen, weight, edit)
    sum_bytes = file(chosen) if file else encode_tensors(travelling(world), chosen)
    world.store.sums.put(sum_bytes)
    if model_bytes:
        world.store.models.put(model_bytes)
    model_digest = model(sha256(model_bytes))
    seats = [d.seat for d in accepted if d.seat is not None]
    beacon = beacon_of(
        federation_id=world.ledger.domain.federation_id,
        round=number,
        sum_digest=sha256(sum_bytes),
        model_digest=model_digest,
        accepted=bitmap_of(seats),
        commit_hashes=[
            commits[d.hospital].commit_hash(world.ledger.domain.federation_id) for d in accepted
        ],
    )
    own = {d.seat: decisions.updates[d.hospital] for d in accepted if d.seat is not None}
    taken = {seat: _probe(beacon, q) for seat, q in effective(own).items()}
    recorded = dict(probes(taken))
    world.ledger.propose(
        world.boss,
        round=number,
        sum_digest=sha256(sum_bytes),
        model_digest=model_digest,
        accepted=bitmap_of(seats),
        refused=0,
        reasons={},
        probes=recorded,
    )
    return Forged(total=chosen, beacon=beacon, probes=recorded)


def _probe(beacon: bytes, q: NDArray[Any]) -> tuple[int, ...]:
    return probe_update(beacon, q.astype(np.int16))


def _model_bytes(
    world: World,
    opening: Opening,
    total: NDArray[np.int64],
    weight: int,
    edit: Callable[[Model], Model],
) -> bytes:
    """Return base + S step / W, or what it can where S is out of range, edited."""
    config = parse_json(world.store.get_config(opening.config_digest), 1 << 20)
    assert isinstance(config, dict)
    base = decode_model(world.store.models.get(opening.base_model), world.manifest)
    clipped = np.clip(total, -32767 * weight, 32767 * weight)
    vector = next_model(
        world.manifest,
        update_manifest(world.manifest, config),
        world.manifest.flatten(base),
        clipped,
        weight,
        config["quantiser"]["step_exponent"],
        ServerRule(),
    )
    return encode_model(edit(world.manifest.unflatten(vector)))


def retensor(world: World, **changes: Any) -> bytes:
    """Return the rogue's update as a tensor file of another manifest: one spec changed."""
    name = changes.pop("name")
    specs = [replace(s, **changes) if s.name == name else s for s in world.manifest.tensors]
    other = type(world.manifest)(tuple(specs))
    return encode_tensors(other, np.ones(other.size, dtype=np.int16))
