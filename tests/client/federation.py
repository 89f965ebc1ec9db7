"""A small honest federation on an in-process chain, for the hospital's tests.

The coordinator here does only what the protocol asks, in a few lines over the ledger's own
functions; each test then changes one thing. The trainer is a stand-in: the protocol does not care
how a delta came to be, so it adds seeded noise to the base.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from eth_account import Account
from eth_account.signers.local import LocalAccount
from numpy.typing import NDArray

from client.agent import Hospital
from client.policy import Policy
from client.roles import Config, TrainedUpdate
from ledger.canonical import canonical_json, config_digest, sha256
from ledger.chain import Ledger
from ledger.devchain import DevChain
from ledger.manifest import Manifest, Model, encode_model, encode_tensors
from ledger.messages import AttestReply, ProposalOrder, TrainOrder, TrainReply
from ledger.probe import probe_update
from ledger.quantise import apply_sum, plan_quantiser
from ledger.seal import SealContext, SealKey, key_digest, new_key, unseal
from ledger.statement import Mechanism, Rules, Unit, beacon_of, bitmap_of
from ledger.update import decode_opening
from tests.world import ReadCache

SHAPES = {"a.weight": (7, 5), "b.bias": (11,)}
EPOCH = 3


def account(name: str) -> LocalAccount:
    """Return the account of a name: the same in every test."""
    made: LocalAccount = Account.from_key(hashlib.sha256(name.encode()).digest())
    return made


def initial_model() -> Model:
    generator = np.random.default_rng(0)
    return {
        name: generator.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()
    }


@dataclass
class FakeTrainer:
    """Adds seeded pseudo-random numbers to the base; counts how often it was called."""

    scale: float = 0.01
    calls: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    mechanism: Mechanism = field(default_factory=Mechanism)
    fault: float | None = None

    def __call__(self, base: Model, config: Config, seed: int, /) -> TrainedUpdate:
        self.calls += 1
        generator = np.random.default_rng(seed)
        for name in base:  # in place: the agent must not depend on the trainer's manners
            base[name] += self.scale * generator.standard_normal(base[name].shape)
            base[name] = base[name].astype(np.float32)
        if self.fault is not None:
            base["b.bias"][3] = self.fault
        return TrainedUpdate(model=base, metrics=self.metrics, mechanism=self.mechanism)


@dataclass
class Draft:
    """A proposal about to be made; tests alter it before ``Federation.propose`` sends it."""

    total: NDArray[np.int64]
    sum_bytes: bytes
    sum_digest: bytes
    model_bytes: bytes
    model_digest: bytes
    accepted: int
    refused: int
    reasons: dict[int, int]
    probes: dict[int, tuple[int, ...]]


_FOUNDED: dict[tuple[int, Rules], tuple[DevChain, Ledger, int]] = {}


class Federation:
    """Coordinator, chain and hospitals, all in this process."""

    def __init__(
        self,
        folder: Path,
        hospitals: int = 2,
        *,
        unit: Unit = Unit.NONE,
        silent_share: int = 0,
        policy: Policy | None = None,
    ) -> None:
        self.folder = folder
        self.base = encode_model(initial_model())
        self.manifest = Manifest.of_model(initial_model())
        self.quantiser = plan_quantiser(self.manifest.size, max_norm=20.0, coordinate_drift=0.5)
        self.coordinator = account("coordinator")
        self.accounts = [account(f"hospital {n}") for n in range(hospitals)]
        self.key: SealKey = new_key()
        self.rules = Rules(
            federation_id=sha256(b"a federation"),
            initial_model=sha256(self.base),
            privacy_unit=unit,
            max_silent_share=silent_share,
            share_cap=10_000,
        )
        self.trainers = [FakeTrainer() for _ in self.accounts]
        self.policy = policy or Policy()
        self._found()
        self.config: dict[str, object] = {}
        self.number = 0

    def _found(self) -> None:
        """Deploy and register, or go back to the moment an equal federation was founded.

        An in-process chain takes half a second to found; rewinding it takes none.
        """
        key = (len(self.accounts), self.rules)
        if key in _FOUNDED:
            self.chain, self.ledger, moment = _FOUNDED[key]
            self.chain.revert(moment)
            self.hospitals = [self.hospital(n) for n in range(len(self.accounts))]
            return
        self.chain = DevChain()
        ReadCache(self.chain)
        self.ledger = Ledger.deploy(
            self.chain.web3, self.coordinator, self.rules, [a.address for a in self.accounts]
        )
        self.hospitals = [self.hospital(n) for n in range(len(self.accounts))]
        for n, hospital in enumerate(self.hospitals):
            hospital.register(cap=8_000_000, examples=100 * (n + 1))
        _FOUNDED[key] = self.chain, self.ledger, self.chain.snapshot()

    def hospital(self, n: int, **changes: object) -> Hospital:
        """Build hospital ``n`` from its home, as after a restart."""
        parts: dict[str, object] = {"policy": self.policy, "seed": n, **changes}
        policy, ledger = parts.pop("policy"), parts.pop("ledger", self.ledger)
        return Hospital(
            self.folder / str(n),
            ledger,  # type: ignore[arg-type]
            self.accounts[n],
            self.trainers[n],
            policy,  # type: ignore[arg-type]
            self.chain.clock,
            **parts,  # type: ignore[arg-type]
        )

    # ---- the coordinator's part ----

    def round_config(self, **changes: object) -> dict[str, object]:
        return {
            "format": "thoracle/round-config/v1",
            "manifest": self.manifest.to_json(),
            "quantiser": {
                "step_exponent": self.quantiser.step_exponent,
                "norm_bound": self.quantiser.norm_bound,
            },
            "learner": {"name": "fake"},
            "train": {"epochs": 1},
            "data": None,
            "privacy": None,
            "screen": {},
            "metrics": [],
            "round": self.number,
            "rounds": 5,
            **changes,
        }

    def open(self, *, attest_window: int = 600, **changes: Any) -> TrainOrder:
        """Open the next round on the chain; ``changes`` go into its configuration."""
        self.number += 1
        self.config = self.round_config(**changes)
        self.ledger.open_round(
            self.coordinator,
            base_model=self.ledger.model(),
            config_digest=config_digest(self.config),
            key_digest=key_digest((self.key.public,), EPOCH),
            norm_bound=self.quantiser.norm_bound,
            commit_window=600,
            attest_window=attest_window,
        )
        return self.order()

    def order(self, **changes: object) -> TrainOrder:
        fields: dict[str, object] = {
            "round": self.number,
            "base_model_bytes": self.base,
            "config": canonical_json(self.config),
            "public_keys": (self.key.public,),
            "key_epoch": EPOCH,
            **changes,
        }
        return TrainOrder(**fields)  # type: ignore[arg-type]

    def train(self) -> list[TrainReply]:
        order = self.order()
        return [hospital.train(order) for hospital in self.hospitals]

    def opened(self, reply: TrainReply) -> NDArray[np.int16]:
        context = SealContext(
            domain=self.ledger.domain,
            round=self.number,
            hospital=reply.hospital,
            base_model=sha256(self.base),
            key_epoch=EPOCH,
        )
        return decode_opening(unseal(reply.ciphertext, self.key, context), self.manifest)[2]

    def draft(self, replies: list[TrainReply], refuse: Mapping[int, int] | None = None) -> Draft:
        """Return the honest proposal; ``refuse`` maps seats to reasons."""
        reasons = dict(refuse or {})
        commits = self.ledger.commits(self.number)
        if len(commits) < len(self.accounts):
            self.ledger.close_commits(self.coordinator, self.number)
        updates = {commits[r.hospital].seat: self.opened(r) for r in replies}
        weights = {commit.seat: commit.weight for commit in commits.values()}
        seats = sorted(set(updates) - set(reasons))
        total = np.zeros(self.manifest.size, dtype=np.int64)
        for seat in seats:
            total += weights[seat] * updates[seat].astype(np.int64)
        return self.complete(
            Draft(
                total=total,
                sum_bytes=b"",
                sum_digest=b"",
                model_bytes=b"",
                model_digest=b"",
                accepted=bitmap_of(seats),
                refused=bitmap_of(sorted(reasons)),
                reasons=reasons,
                probes={},
            ),
            updates,
        )

    def complete(self, draft: Draft, updates: Mapping[int, NDArray[np.int16]]) -> Draft:
        """Fill in digests, model and probes from the draft's sum and bitmaps."""
        commits = {c.seat: c for c in self.ledger.commits(self.number).values()}
        seats = [seat for seat in sorted(commits) if draft.accepted >> seat & 1]
        weight = sum(commits[seat].weight for seat in seats)
        base = self.manifest.flatten(self.base_model())
        exponent = self.quantiser.step_exponent
        draft.sum_bytes = encode_tensors(self.manifest, draft.total)
        draft.sum_digest = sha256(draft.sum_bytes)
        model = apply_sum(base, draft.total, weight, exponent)
        draft.model_bytes = encode_model(self.manifest.unflatten(model))
        draft.model_digest = sha256(draft.model_bytes)
        self.probe(draft, updates)
        return draft

    def probe(self, draft: Draft, updates: Mapping[int, NDArray[np.int16]]) -> None:
        """Fill in the probes of the draft's accepted hospitals, under its own beacon."""
        commits = {c.seat: c for c in self.ledger.commits(self.number).values()}
        seats = [seat for seat in sorted(commits) if draft.accepted >> seat & 1]
        beacon = beacon_of(
            federation_id=self.rules.federation_id,
            round=self.number,
            sum_digest=draft.sum_digest,
            model_digest=draft.model_digest,
            accepted=draft.accepted,
            commit_hashes=[commits[s].commit_hash(self.rules.federation_id) for s in seats],
        )
        draft.probes = {seat: probe_update(beacon, updates[seat]) for seat in seats}

    def base_model(self) -> Model:
        from ledger.manifest import decode_model

        return decode_model(self.base, self.manifest)

    def propose(self, draft: Draft) -> ProposalOrder:
        self.ledger.propose(
            self.coordinator,
            round=self.number,
            sum_digest=draft.sum_digest,
            model_digest=draft.model_digest,
            accepted=draft.accepted,
            refused=draft.refused,
            reasons=draft.reasons,
            probes=draft.probes,
        )
        return ProposalOrder(round=self.number, sum_bytes=draft.sum_bytes)

    def give_up(self) -> None:
        """Let the attest window pass, and abort."""
        self.chain.travel(700)
        self.ledger.abort(self.coordinator, self.number)

    def finalise(self, draft: Draft) -> None:
        self.ledger.finalise(self.coordinator, self.number)
        self.base = draft.model_bytes

    def whole_round(self) -> tuple[list[TrainReply], list[AttestReply], Draft]:
        """Run one honest round to its end."""
        self.open()
        replies = self.train()
        draft = self.draft(replies)
        order = self.propose(draft)
        answers = [hospital.attest(order) for hospital in self.hospitals]
        self.finalise(draft)
        return replies, answers, draft
