"""A small, real federation on the in-process chain, written out as a run folder to audit.

Three hospitals (the second's update is refused in round 2), two rounds, private by patient: real
updates, sealed, committed, probed, proposed and attested through the contract itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from eth_account import Account
from eth_account.signers.local import LocalAccount
from numpy.typing import NDArray
from web3 import Web3

from ledger.anchors import Anchors
from ledger.bundle import FILE, encode_bundle
from ledger.canonical import canonical_json, config_digest, sha256
from ledger.chain import Ledger
from ledger.collect import collect_backend, collect_rpc
from ledger.devchain import DevChain
from ledger.epsilon import Release, micro_epsilon
from ledger.errors import InertUpdate
from ledger.facts import ChainRecord
from ledger.files import ObjectStore, atomic_write
from ledger.keys import SCRYPT_N_SIMULATION, save_seal_key
from ledger.manifest import Manifest, Model, encode_model, encode_tensors
from ledger.probe import probe_update
from ledger.quantise import apply_sum
from ledger.seal import SealContext, SealKey, key_digest, key_from_seed, seal
from ledger.statement import Commit, Mechanism, Rules, Unit, beacon_of, bitmap_of
from ledger.update import encode_opening, opening_digest

STEP, BOUND = 12, 30_000
SCREEN = {
    "directions": True,
    "inert_share": 0.01,
    "noise_floor": 0.0,
    "copy_cosine": 0.9999,
    "cosine_margin": 0.05,
    "z": 4.0,
    "mad_factor": 3.0,
}
PLAN = {
    "unit": "patient",
    "noise_multiplier": 1_100_000,
    "sample_rate": 50_000_000,
    "steps": 20,
    "delta": 10_000_000,
}
WEIGHTS = (64, 96, 160)


def account(number: int) -> LocalAccount:
    found: LocalAccount = Account.from_key(number.to_bytes(32, "big"))
    return found


@dataclass
class Party:
    """One hospital: its account, its weight and what it will send, by round."""

    account: LocalAccount
    weight: int
    mechanisms: list[Mechanism] = field(default_factory=list)
    q: NDArray[np.int16] = field(default_factory=lambda: np.zeros(0, np.int16))

    @property
    def address(self) -> str:
        return str(self.account.address)


Tamper = Callable[["Federation"], None]


class Federation:
    """Plays rounds; ``hooks`` may tamper with exactly one thing at a named moment."""

    def __init__(
        self,
        folder: Path,
        hooks: Mapping[str, Tamper] | None = None,
        web3: Web3 | None = None,
        model: Model | None = None,
    ) -> None:
        self.folder, self.hooks = folder, dict(hooks or {})
        self.chain: DevChain | None = None
        if web3 is None:
            self.chain = DevChain()
            web3 = self.chain.web3
        self.web3: Web3 = web3
        self.coordinator = account(1000)
        self.parties = [Party(account(2000 + i), weight) for i, weight in enumerate(WEIGHTS)]
        self.key: SealKey = key_from_seed(bytes(range(96)))
        self.epoch = 1
        self.random = np.random.default_rng(7)
        self.models = ObjectStore(folder / "models", ".safetensors")
        self.sums = ObjectStore(folder / "sums", ".safetensors")
        self.evidence = ObjectStore(folder / "evidence")
        model = model or {
            "head.weight": self.random.normal(size=(4, 9)).astype(np.float32),
            "body.bias": self.random.normal(size=(5,)).astype(np.float32),
        }
        self.manifest = Manifest.of_model(model)
        self.base = self.manifest.flatten(model)
        self.rules = Rules(
            federation_id=sha256(b"federation"),
            initial_model=self.models.put(encode_model(model)),
            privacy_unit=Unit.PATIENT,
        )
        founders = [party.address for party in self.parties]
        self.ledger = Ledger.deploy(self.web3, self.coordinator, self.rules, founders)
        for party in self.parties:
            self.ledger.register(party.account, 9_000_000, 0, party.weight)
        self.round = 0
        self.refused: dict[int, int] = {}
        self.dissents: dict[int, int] = {}

    @property
    def domain(self) -> Any:
        return self.ledger.domain

    def _hook(self, moment: str) -> None:
        if moment in self.hooks:
            self.hooks[moment](self)

    def _open(self) -> None:
        self.round += 1
        config: dict[str, object] = {
            "format": "thoracle/round-config/v1",
            "manifest": self.manifest.to_json(),
            "quantiser": {"step_exponent": STEP, "norm_bound": BOUND},
            "learner": {"name": "test"},
            "train": {},
            "data": None,
            "privacy": PLAN,
            "screen": SCREEN,
            "metrics": [],
            "round": self.round,
            "rounds": 2,
        }
        digest = config_digest(config)
        atomic_write(self.folder / "configs" / f"{digest.hex()}.json", canonical_json(config))
        self.ledger.open_round(
            self.coordinator,
            base_model=self.ledger.model(),
            config_digest=digest,
            key_digest=key_digest([self.key.public], self.epoch),
            norm_bound=BOUND,
            commit_window=600,
            attest_window=600,
        )

    def mechanism(self, party: Party, steps: int = 20) -> Mechanism:
        releases = [*party.mechanisms, Mechanism(steps=steps)]
        total = sum(item.steps for item in releases)
        epsilon = micro_epsilon(
            [Release(noise_multiplier=1.1, sample_rate=0.05, steps=total)], 1e-5
        )
        return Mechanism(
            epsilon=epsilon,
            noise_multiplier=1_100_000,
            sample_rate=50_000_000,
            steps=steps,
            delta=10_000_000,
        )

    def _commit(self, party: Party) -> Commit:
        salt = sha256(b"salt", party.address.encode(), bytes([self.round]))
        update = encode_tensors(self.manifest, party.q)
        base = self.ledger.model()
        context = SealContext(
            domain=self.domain,
            round=self.round,
            hospital=party.address,
            base_model=base,
            key_epoch=self.epoch,
        )
        sealed = seal(encode_opening(salt, update), [self.key.public], context)
        digest = opening_digest(self.domain, party.address, base, self.round, salt, update)
        mechanism = self.mechanism(party)
        self.ledger.commit(
            party.account,
            open_head=self.ledger.opening(self.round).open_head,
            seal_digest=self.evidence.put(sealed),
            opening_digest=digest,
            mechanism=mechanism,
        )
        party.mechanisms.append(mechanism)
        return self.ledger.commits(self.round)[party.address]

    def play(self) -> None:
        """One round: open, commit, propose, attest, finalise."""
        self._open()
        direction = self.random.normal(size=self.manifest.size)
        for party in self.parties:
            own = self.random.normal(size=self.manifest.size)
            party.q = np.rint(300 * (direction + own)).astype(np.int16)
        if self.round == 2:
            self.parties[1].q = np.zeros(self.manifest.size, np.int16)
            self.refused = {1: InertUpdate.code}
        self._hook("before commits")
        commits = [self._commit(party) for party in self.parties]
        self.accepted = [i for i in range(len(self.parties)) if i not in self.refused]
        self.total: NDArray[np.int64] = sum(
            (commits[i].weight * self.parties[i].q.astype(np.int64) for i in self.accepted),
            start=np.zeros(self.manifest.size, np.int64),
        )
        self._hook("before proposal")
        weight = sum(commits[i].weight for i in self.accepted)
        base = apply_sum(self.base, self.total, weight, STEP)
        model = self.models.put(encode_model(self.manifest.unflatten(base)))
        total = self.sums.put(encode_tensors(self.manifest, self.total))
        beacon = beacon_of(
            federation_id=self.rules.federation_id,
            round=self.round,
            sum_digest=total,
            model_digest=model,
            accepted=bitmap_of(self.accepted),
            commit_hashes=[commits[i].commit_hash(self.rules.federation_id) for i in self.accepted],
        )
        self.probes = {i: probe_update(beacon, self.parties[i].q) for i in self.accepted}
        self.beacon = beacon
        self._hook("before probes")
        self._decide(commits)
        self.ledger.propose(
            self.coordinator,
            round=self.round,
            sum_digest=total,
            model_digest=model,
            accepted=bitmap_of(self.accepted),
            refused=bitmap_of(list(self.refused)),
            reasons=self.refused,
            probes=self.probes,
        )
        head = self.ledger.round().proposed_head
        for i in self.accepted:
            if i in self.dissents:
                self.ledger.dissent(self.parties[i].account, self.round, self.dissents[i])
            else:
                self.ledger.attest(self.parties[i].account, self.round, head)
        if self.dissents:
            self.ledger.abort(self.coordinator, self.round)
        else:
            self.ledger.finalise(self.coordinator, self.round)
            self.base = base
        self.refused = {}
        if self.chain is not None:
            self.chain.travel(100)

    def record(self) -> ChainRecord:
        """Collect the chain, in process or from the node."""
        if self.chain is None:
            return collect_rpc(self.web3, self.ledger.anchors)
        return collect_backend(self.chain.tester.backend, self.ledger.anchors)

    def write_run(self, anchors: Anchors | None = None) -> Path:
        """Write what a simulation writes at its end; return the run folder."""
        known = anchors or self.ledger.anchors
        hospitals = [
            {"name": f"hospital-{i}", "address": party.address}
            for i, party in enumerate(self.parties)
        ]
        run = {
            "format": "thoracle/run/v1",
            "anchors": known.to_record(),
            "hospitals": hospitals,
            "marks": ["insecure-test: the noise of this run comes from a known keystream"],
        }
        atomic_write(self.folder / "run.json", canonical_json(run))
        atomic_write(self.folder / FILE, encode_bundle(self.record(), known))
        keys = self.folder / "keys"
        if not keys.exists():
            atomic_write(keys / "password", b"a test's password\n", mode=0o600)
            save_seal_key(
                keys / "seal-1.json",
                self.key,
                "a test's password",
                epoch=self.epoch,
                scrypt_n=SCRYPT_N_SIMULATION,
            )
        return self.folder

    def _decide(self, commits: list[Commit]) -> None:
        decisions = [
            {
                "hospital": party.address,
                "seat": i,
                "weight": commits[i].weight,
                "accepted": i in self.accepted,
                "reason": "InertUpdate" if i in self.refused else "",
                "code": self.refused.get(i, 0),
                "detail": "",
                "evidence": commits[i].seal_digest.hex(),
                "measurement": None,
            }
            for i, party in enumerate(self.parties)
        ]
        record = {
            "format": "thoracle/decisions/v1",
            "round": self.round,
            "decisions": sorted(decisions, key=lambda d: str(d["hospital"])),
        }
        path = self.folder / "evidence" / "decisions" / f"{self.round}.json"
        atomic_write(path, canonical_json(record))
